"""The one policy for bad samples: skip them, say how many and which, and give up if there are too many."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from datasets import Dataset
from transformers.utils import logging

from .bad_rows import BadRows
from .summary import note

logger = logging.get_logger(__name__)

_NAMED = 5  # bad samples that are named in the message; the rest are only counted
_LONGEST = 300  # characters of a name or a reason in a message
_REASONS = 3  # that are named in the summary
_FEWEST = 100  # rows of a stream to be read before their bad ones are judged


class NothingLeft(ValueError):
    """There are no good samples, or none that can be used."""


@dataclass
class Tally:
    """How many rows of a stream were read and how many of them were bad, over all its windows.

    Raises a ValueError if more than `max_bad_fraction` are, once 100 have been read, or when asked to `judge`. `quiet`
    leaves it to another process to name and to list them in `listed_in`.
    """

    max_bad_fraction: float
    read: int = 0
    bad: int = 0
    quiet: bool = False
    listed_in: BadRows | None = None

    def add_window(self, rows: int) -> None:
        """Count the rows of a window once its bad ones are known."""
        self.read += rows
        if self.read >= _FEWEST:
            self.judge()

    def judge(self) -> None:
        if self.bad > self.max_bad_fraction * self.read:
            raise ValueError(
                f"{self.bad} of the {self.read} rows read from the stream are bad: more than max_bad_fraction="
                f"{self.max_bad_fraction} allows. {_REMEDY}"
            )


@dataclass
class _Whole:
    """Splits that are judged together: how many rows they have, and which of these are bad (split, number)."""

    rows: int
    fewest: int
    listed_in: BadRows | None
    bad: set[tuple[str, int]] = field(default_factory=set)


_REMEDY = "Repair or remove them, or raise --max_bad_fraction to skip them."
_tally: ContextVar[Tally | None] = ContextVar("tally", default=None)
_whole: ContextVar[_Whole | None] = ContextVar("whole", default=None)
_listing: ContextVar[BadRows | None] = ContextVar("listing", default=None)


@contextmanager
def tallied(tally: Tally) -> Iterator[None]:
    """Within it, `good_rows` adds to the tally, which judges all the rows of a stream, not those of a window."""
    token = _tally.set(tally)
    try:
        yield
    finally:
        _tally.reset(token)


@contextmanager
def listing(listed_in: BadRows | None) -> Iterator[None]:
    """Within it, bad rows that are judged split by split, as those that can't be read are, are written down."""
    token = _listing.set(listed_in)
    try:
        yield
    finally:
        _listing.reset(token)


@contextmanager
def judged_together(
    splits: Mapping[str, Dataset], listed_in: BadRows | None = None, streamed: bool = False
) -> Iterator[None]:
    """Within it, `good_rows` judges a bad row by all the rows of the splits: a share of the few that are held out
    would be a matter of luck.

    Args:
        splits: all rows that are going to be screened.
        listed_in: where bad rows are written down; `None` in processes that leave it to another.
        streamed: whether they are the first rows of a stream, which may be too few to be judged.
    """
    rows = sum(len(dataset) for dataset in splits.values())
    token = _whole.set(_Whole(rows, _FEWEST if streamed else 1, listed_in))
    try:
        yield
    finally:
        _whole.reset(token)


def good_rows(
    problems: Sequence[str | None],
    rows: Dataset,
    *,
    noun: str,
    split: str,
    max_bad_fraction: float,
    column: str | None = None,
) -> np.ndarray:
    """Positions, ascending, of the rows whose entry in `problems` is empty.

    Bad rows are counted and the first five named in one warning, by the path of their file or by their number.

    Args:
        problems: of each row what is wrong with it, "" if nothing; `None` for a blank row, which is no sample and is
            left out without being bad.
        rows: they, with their numbers (`sample_index`), files not decoded.
        noun: what a row is, in the singular.
        max_bad_fraction: the largest share of bad rows among all rows: of a stream those read so far, within
            `judged_together` those of all its splits, else `rows`.
        column: that of the file in question, or of the list of files; None if there is none.

    Raises:
        ValueError: there are more bad rows.
        NothingLeft: all rows are bad or blank.
    """
    tally, whole = _tally.get(), _whole.get()
    bad = [position for position, problem in enumerate(problems) if problem]
    nothing_left = not any(problem == "" for problem in problems)
    _note(problems, noun, split)
    if bad:
        found = _named(problems, rows, bad, split, column, first=0 if tally is None else tally.read)
        scope = tally or whole
        listed_in = scope.listed_in if scope is not None else _listing.get()
        message = f"{len(bad)} of {len(problems)} {split} {noun}s are bad ({_first_of(found)})"
        if listed_in is not None and not (tally and tally.quiet):
            listed_in.add(found)
            message += f", see {listed_in.path}"
        if tally is None:
            of_all, total = _of_all(found, len(problems), whole)
            if of_all > max_bad_fraction * total:
                among = f"; of all {total} rows {of_all} are" if total > len(problems) else ""
                raise ValueError(f"{message}{among}: more than max_bad_fraction={max_bad_fraction} allows. {_REMEDY}")
            if nothing_left:
                raise NothingLeft(f"{message}: nothing is left to use. Repair them or choose other data.")
        if tally is None or not tally.quiet:
            logger.warning(f"{message}. They are skipped.")
    if tally is not None:
        tally.bad += len(bad)
    if nothing_left:
        raise NothingLeft(f"All {len(problems)} {split} {noun}s are blank{' or bad' if bad else ''}. Give other data.")
    return np.array([position for position, problem in enumerate(problems) if problem == ""], dtype=np.int64)


def _named(
    problems: Sequence[str | None], rows: Dataset, bad: list[int], split: str, column: str | None, first: int
) -> list[dict[str, Any]]:
    """For each bad row what `BadRows` lists. `first` is the number of the first row."""
    chosen = rows.with_format(None).select(bad).select_columns(["sample_index"] + ([column] if column else []))
    found = []
    for position, row in zip(bad, chosen, strict=True):
        path = path_of(row[column]) if column else None
        place = {"row": first + row["sample_index"]} | ({"path": path} if path else {})
        found.append({"split": split, **place, "reason": problems[position]})
    return found


def path_of(value: Any) -> str | None:
    """The path of an undecoded file, of several the first's."""
    file = value[0] if isinstance(value, list) and value else value
    return file.get("path") if isinstance(file, dict) else None


def _first_of(found: list[dict[str, Any]]) -> str:
    named = []
    for row in found[:_NAMED]:
        name = row.get("path") or f"row {row['row']}"
        named.append(f"{_shortened(name)}: {_shortened(row['reason'])}")
    return "; ".join([*named, f"and {len(found) - _NAMED} more"] if len(found) > _NAMED else named)


def _shortened(text: str) -> str:
    """The text without its middle where it is too long for a message."""
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} ... {text[-_LONGEST // 2 :]}"


def _of_all(found: list[dict[str, Any]], rows: int, whole: _Whole | None) -> tuple[int, int]:
    """How many bad rows there are among how many; none while these are too few to be judged."""
    if whole is None:
        return len(found), rows
    whole.bad.update((row["split"], row["row"]) for row in found)
    return (len(whole.bad), whole.rows) if whole.rows >= whole.fewest else (0, whole.rows)


def _note(problems: Sequence[str | None], noun: str, split: str) -> None:
    if blank := sum(problem is None for problem in problems):
        note(split, f"{blank} of {len(problems)} {noun}s are blank and left out; they do not count as bad.")
        problems = [problem for problem in problems if problem is not None]
    # What a reason says of one row alone (its name, an object's address) would make it another reason for each.
    reasons = Counter(re.sub(r"'[^']*'|<[^>]*>|\d+", "…", problem) for problem in problems if problem)
    if not reasons:
        note(split, f"All {len(problems)} {noun}s can be used.")
        return
    named = [f"{count} for {reason!r}" for reason, count in reasons.most_common(_REASONS)]
    more = [f"{len(reasons) - _REASONS} other reasons"] if len(reasons) > _REASONS else []
    note(split, f"{sum(reasons.values())} of {len(problems)} {noun}s are bad and left out: {', '.join(named + more)}.")
