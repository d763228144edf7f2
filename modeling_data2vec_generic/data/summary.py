"""What was read, what was left out and why: notes that reading and preparing the data make on the way, said in one
summary before the first step."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from transformers.utils import logging

logger = logging.get_logger(__name__)

_current: ContextVar[dict[str, list[str]] | None] = ContextVar("notes", default=None)


@contextmanager
def summarized() -> Iterator[None]:
    """What is noted within it is kept, and logged as one message, split by split, when it ends without an error."""
    notes: dict[str, list[str]] = {}
    token = _current.set(notes)
    try:
        yield
    finally:
        _current.reset(token)
    if notes:
        lines = [f"  {split}: {note}" for split, found in notes.items() for note in found]
        logger.info("\n".join(["The data:", *lines]))


def note(split: str, text: str) -> None:
    """Add a sentence about a split ("train", "validation") to the summary, once; outside of one it is logged alone."""
    notes = _current.get()
    if notes is None:
        logger.info(f"{split}: {text}")
    elif text not in notes.setdefault(split, []):
        notes[split].append(text)
