"""A data loader's workers outlive a signal that is meant for the run: the step at hand still needs their batches."""

import functools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from typing import Any


def leave_signals_to_the_parent(loader: Any) -> None:
    """Make workers of `loader`, as accelerate prepared it, ignore SIGUSR1, and SIGTERM unless their parent sent it.

    Launchers and schedulers send them to all processes of a run. torch's own workers would die of them, and the
    training process of "DataLoader worker exited unexpectedly".
    """
    loader = getattr(loader, "base_dataloader", loader)  # what iterates, within accelerate's
    loader.worker_init_fn = functools.partial(_init_worker, loader.worker_init_fn)


def _init_worker(init: Callable[[int], None] | None, worker_id: int) -> None:
    if hasattr(signal, "SIGUSR1"):  # not on Windows
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None and hasattr(signal, "sigwaitinfo"):  # macOS does not say who sent a signal
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_await_sigterm_of, args=(parent.pid,), daemon=True).start()
    if init is not None:
        init(worker_id)


def _await_sigterm_of(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)  # as torch's own handler does
