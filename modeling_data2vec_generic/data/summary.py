"""What was read, what was left out and why: notes that reading and preparing the data make on the way, said in one
summary before the first step.

Notes are made beside the data and never inside of what `datasets` caches (a function given to `map`), or a second run
would not make them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from transformers.utils import logging

logger = logging.get_logger(__name__)


_current: ContextVar["_Summary | None"] = ContextVar("summary", default=None)


class _Summary:
    """Sentences about each split, in the order in which they came, and which of them were logged."""

    def __init__(self) -> None:
        self.notes: dict[str, list[str]] = {}
        self.logged: set[tuple[str, str]] = set()

    def log(self) -> None:
        found = [(split, sentence) for split, sentences in self.notes.items() for sentence in sentences]
        lines = [f"  {split}: {sentence}" for split, sentence in found if (split, sentence) not in self.logged]
        self.logged.update(found)
        if lines:
            logger.info("\n".join(["The data:", *lines]))


@contextmanager
def summarized() -> Iterator[None]:
    """What is noted within it is kept until `log_summary`, or until it ends without an error.

    It may decorate a function.
    """
    with unlogged():
        yield
        log_summary()


@contextmanager
def unlogged() -> Iterator[None]:
    """What is noted within it is not logged."""
    token = _current.set(_Summary())
    try:
        yield
    finally:
        _current.reset(token)


def note(split: str, sentence: str) -> None:
    """Add a sentence about a split ("train", "validation") to the summary, once; outside of one it is logged alone."""
    summary = _current.get()
    if summary is None:
        logger.info(f"{split}: {sentence}")
    elif sentence not in summary.notes.setdefault(split, []):
        summary.notes[split].append(sentence)


def log_summary() -> None:
    """Log what was noted and not logged before as one message, split by split; nothing where there is nothing new.

    Of several processes the main one alone speaks: the loggers of the package are silent in the others.
    """
    summary = _current.get()
    if summary is not None:
        summary.log()
