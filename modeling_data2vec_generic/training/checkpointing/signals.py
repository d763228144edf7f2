"""SIGTERM and SIGUSR1, by which schedulers ask a run to stop: recorded in training, ignored by loader workers."""

import functools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

STOPPED = 143  # 128 + SIGTERM, which schedulers tell from success and from an error of the program
# SIGUSR1 is what `sbatch --signal` sends some time before the limit; Windows does not have it.
SIGNALS = tuple(signal.Signals[name] for name in ("SIGTERM", "SIGUSR1") if name in signal.Signals.__members__)


class StopSignals:
    """Records which of SIGNALS has arrived.

    Attributes:
        received: the name of the latest one, None before the first.
    """

    def __init__(self) -> None:
        self.received: str | None = None

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Record signals as long as the context lasts. Afterwards the former handlers are back, even after an error.

        Python sets handlers in the main thread only: in any other thread the signals do what they did before.
        """
        self.received = None
        former: dict[signal.Signals, Any] = {}
        if threading.current_thread() is threading.main_thread():
            former = {number: signal.signal(number, self._record) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in former.items():
                # None is a handler that was not set by Python, which can't be put back.
                signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _record(self, signum: int, frame: Any) -> None:
        self.received = signal.Signals(signum).name


def ignore_stop_signals_in_workers(loader: Any) -> None:
    """Make the workers of a data loader ignore SIGUSR1, and SIGTERM unless their parent sent it.

    Launchers and schedulers send them to all processes of a run, and the current step still needs the workers'
    batches. torch's own workers would die of them, and the training process of "DataLoader worker exited
    unexpectedly".

    Args:
        loader: torch's, or accelerate's around one.
    """
    loader = getattr(loader, "base_dataloader", loader)  # accelerate's loader iterates over this one
    loader.worker_init_fn = functools.partial(init_worker, loader.worker_init_fn)


def init_worker(init: Callable[[int], None] | None, worker_id: int) -> None:
    """What `ignore_stop_signals_in_workers` does in each worker. `init` is a former `worker_init_fn`, if any."""
    if hasattr(signal, "SIGUSR1"):  # not on Windows
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None and hasattr(signal, "sigwaitinfo"):  # macOS does not say who sent a signal
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_exit_on_sigterm_of, args=(parent.pid,), daemon=True).start()
    if init is not None:
        init(worker_id)


def _exit_on_sigterm_of(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)  # as torch's own handler does
