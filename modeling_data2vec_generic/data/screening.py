"""The one policy for bad samples: skip them, say how many and which, and give up if there are too many."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import numpy as np
from transformers.utils import logging

logger = logging.get_logger(__name__)

_NAMED = 5  # bad samples that are named in the message; the rest are only counted
_FEWEST = 100  # rows of a stream to be read before their bad ones are judged


class NothingLeft(ValueError):
    """There are no good samples, or none that can be used."""


@dataclass
class Tally:
    """How many rows of a stream were read and how many of them were bad, over all its windows.

    Raises a ValueError if more than `max_bad_fraction` are, once 100 have been read, or when asked to `judge`. `quiet`
    leaves it to another process to name them.
    """

    max_bad_fraction: float
    read: int = 0
    bad: int = 0
    quiet: bool = False

    def add(self, rows: int, bad: int) -> None:
        self.read += rows
        self.bad += bad
        if self.read >= _FEWEST:
            self.judge()

    def judge(self) -> None:
        if self.bad > self.max_bad_fraction * self.read:
            raise ValueError(
                f"{self.bad} of the {self.read} rows read from the stream are bad: more than max_bad_fraction="
                f"{self.max_bad_fraction} allows. {_REMEDY}"
            )


_REMEDY = "Repair or remove them, or raise --max_bad_fraction to skip them."
_current: ContextVar[Tally | None] = ContextVar("tally", default=None)


@contextmanager
def tallied(tally: Tally) -> Iterator[None]:
    """Within it, `good_rows` adds to the tally, which judges all the rows of a stream, not those of a window."""
    token = _current.set(tally)
    try:
        yield
    finally:
        _current.reset(token)


def good_rows(
    problems: Sequence[str], name_of: Callable[[int], str], *, noun: str, split: str, max_bad_fraction: float
) -> np.ndarray:
    """Positions, ascending, of the rows whose entry in `problems` is empty.

    Bad rows are counted and the first five named in one warning. Raises a ValueError if they are more than
    `max_bad_fraction` of all rows, or NothingLeft if they are all of them.
    """
    tally = _current.get()
    bad = [position for position, problem in enumerate(problems) if problem]
    if bad:
        named = "; ".join(f"{name_of(position)}: {problems[position]}" for position in bad[:_NAMED])
        more = f"; and {len(bad) - _NAMED} more" if len(bad) > _NAMED else ""
        found = f"{len(bad)} of {len(problems)} {split} {noun}s are bad ({named}{more})"
        if tally is None and len(bad) > max_bad_fraction * len(problems):
            raise ValueError(f"{found}: more than max_bad_fraction={max_bad_fraction} allows. {_REMEDY}")
        if tally is None and len(bad) == len(problems):
            raise NothingLeft(f"{found}: nothing is left to use. Repair them or choose other data.")
        if tally is None or not tally.quiet:
            logger.warning(f"{found}. They are skipped.")
    if tally is not None:
        tally.add(len(problems), len(bad))
        if len(bad) == len(problems):
            raise NothingLeft(f"All {len(problems)} rows of a window are bad.")
    return np.array([position for position, problem in enumerate(problems) if not problem], dtype=np.int64)
