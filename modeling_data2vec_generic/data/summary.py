"""The summary of the data, logged before the first step: what was read, what was left out, and why.

The functions that read and prepare data add notes to it. Functions that are given to `map` must not add notes: when
`datasets` finds their result in its cache, it does not call them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from transformers.utils import logging

logger = logging.get_logger(__name__)


_current: ContextVar["_Summary | None"] = ContextVar("summary", default=None)


class _Summary:
    """Sentences about each split, in the order in which they were added, and which of them were logged."""

    def __init__(self) -> None:
        self.notes: dict[str, list[str]] = {}
        self.logged: set[tuple[str, str]] = set()

    def take(self) -> dict[str, list[str]]:
        new = {
            split: [sentence for sentence in sentences if (split, sentence) not in self.logged]
            for split, sentences in self.notes.items()
        }
        self.logged.update((split, sentence) for split, sentences in new.items() for sentence in sentences)
        return new

    def log(self) -> None:
        lines = [f"  {split}: {sentence}" for split, sentences in self.take().items() for sentence in sentences]
        if lines:
            logger.info("\n".join(["The data:", *lines]))


@contextmanager
def summarized() -> Iterator[None]:
    """While this is active, notes are collected. `log_summary` logs them, as does the end if there was no error.

    It can also be used as a decorator.
    """
    with unlogged():
        yield
        log_summary()


@contextmanager
def unlogged() -> Iterator[None]:
    """While this is active, notes are not logged."""
    token = _current.set(_Summary())
    try:
        yield
    finally:
        _current.reset(token)


def note(split: str, sentence: str) -> None:
    """Adds a sentence about a split ("train" or "validation") to the summary, once. Without a summary it is logged."""
    summary = _current.get()
    if summary is None:
        logger.info(f"{split}: {sentence}")
    elif sentence not in summary.notes.setdefault(split, []):
        summary.notes[split].append(sentence)


def take_notes() -> dict[str, list[str]]:
    """The sentences about each split that have not been logged, which will not be logged any more."""
    summary = _current.get()
    return {} if summary is None else summary.take()


def log_summary() -> None:
    """Logs all notes that were not logged before in one message, split by split. Without new notes it logs nothing.

    Only the main process shows it, since the loggers of the package are silent in the others.
    """
    summary = _current.get()
    if summary is not None:
        summary.log()
