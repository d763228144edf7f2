"""SIGTERM and SIGUSR1, by which schedulers ask a run to stop, are taken down while it trains."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

STOPPED = 143  # 128 + SIGTERM, which schedulers tell from success and from an error of the program
# SIGUSR1 is what `sbatch --signal` sends some time before the limit; Windows does not have it.
SIGNALS = tuple(signal.Signals[name] for name in ("SIGTERM", "SIGUSR1") if name in signal.Signals.__members__)


class StopSignals:
    """Takes down which of SIGNALS has come.

    Attributes:
        received: the name of the latest one, None before the first.
    """

    def __init__(self) -> None:
        self.received: str | None = None

    @contextmanager
    def heeded(self) -> Iterator[None]:
        """Take them down as long as the context lasts. Then the former handlers are back, however it was left.

        Python sets handlers in the main thread only: in any other one the signals do what they did before.
        """
        self.received = None
        former: dict[signal.Signals, Any] = {}
        if threading.current_thread() is threading.main_thread():
            former = {number: signal.signal(number, self._take_down) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in former.items():
                # None is a handler that is not Python's, which can't be put back.
                signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _take_down(self, signum: int, frame: Any) -> None:
        self.received = signal.Signals(signum).name
