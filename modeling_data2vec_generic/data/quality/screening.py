"""What happens to bad rows, for all kinds of data: they are skipped, counted and named; too many are an error."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from datasets import Dataset, Features
from transformers.utils import logging

from ..arguments import DataArguments
from ..cache_keys import renewed
from ..summary import note
from .bad_rows import BadRows

logger = logging.get_logger(__name__)

_NAMED = 5  # bad rows that are named in the message; the rest are only counted
_LONGEST = 300  # characters of a name or a reason in a message
_REASONS = 3  # reasons that are named in the summary
_FEWEST = 100  # first rows of a stream, without which their share of bad ones is not checked
_FIRST_LOOK = 256  # rows of a split that are looked at before the first step


class NothingLeft(ValueError):
    """No row is left after bad and unsuitable ones were left out."""


@dataclass
class _SplitsTogether:
    """Splits whose bad rows are counted together.

    Args:
        rows: the number of rows of all splits.
        fewest: with fewer rows, the share of bad ones is not checked.
        listed_in: the list of bad rows; None if another process keeps it.
        bad: the bad rows so far, by (split, number), and the number of rows that each stands for: more than 1 if only
            some rows of its split were looked at.
    """

    rows: int
    fewest: int
    listed_in: BadRows | None
    bad: dict[tuple[str, int], float] = field(default_factory=dict)


REMEDY = "Repair or remove them, or raise --max_bad_fraction to skip them."
_collected: ContextVar[list[dict[str, Any]] | None] = ContextVar("collected", default=None)
_whole: ContextVar[_SplitsTogether | None] = ContextVar("whole", default=None)
_listing: ContextVar[BadRows | None] = ContextVar("listing", default=None)


@contextmanager
def collecting() -> Iterator[list[dict[str, Any]]]:
    """While this is active, `good_rows` only adds bad rows to this list, as `BadRows.add` takes them.

    It neither names nor checks them: these rows are a window of a stream, and the run counts those of all windows.
    """
    found: list[dict[str, Any]] = []
    token = _collected.set(found)
    try:
        yield found
    finally:
        _collected.reset(token)


@contextmanager
def listing(listed_in: BadRows | None) -> Iterator[None]:
    """While this is active, bad rows that are found outside of `screened_together` are added to `listed_in`."""
    token = _listing.set(listed_in)
    try:
        yield
    finally:
        _listing.reset(token)


@contextmanager
def screened_together(
    splits: Mapping[str, Dataset], listed_in: BadRows | None = None, streamed: bool = False
) -> Iterator[None]:
    """While this is active, `good_rows` compares the number of bad rows with the rows of all splits together.

    A validation split may be so small that its own share of bad rows would depend on chance.

    Args:
        splits: all rows that are going to be screened.
        listed_in: the list of bad rows; None if another process keeps it.
        streamed: whether these are the first rows of a stream. If there are fewer than 100, their share of bad rows is
            not checked.
    """
    rows = sum(len(dataset) for dataset in splits.values())
    token = _whole.set(_SplitsTogether(rows, _FEWEST if streamed else 1, listed_in))
    try:
        yield
    finally:
        _whole.reset(token)


def first_look(rows: Dataset, args: DataArguments) -> Dataset:
    """The rows of a split that are looked at before the first step, in their order.

    These are 256 rows at most, a fixed random choice, so that wrong data are found at once and the others when they
    are read (see `reading.py`); with --check_data all of them, and of a stream's window (`collecting`) none.
    """
    if _collected.get() is not None:
        return rows.select(range(0))
    return rows if args.check_data else some_rows(rows)


def some_rows(rows: Dataset) -> Dataset:
    """At most 256 rows, a fixed random choice, in their order."""
    if len(rows) <= _FIRST_LOOK:
        return rows
    return rows.select(np.sort(np.random.default_rng(0).choice(len(rows), _FIRST_LOOK, replace=False)))


def inspected(
    rows: Dataset, inspect: Callable[..., dict[str, Any]], column: str, found: Mapping[str, Any], **options: Any
) -> Dataset:
    """What `inspect` finds in a column of rows that are looked at, cached for as long as their files stay the same.

    Args:
        rows: the rows, of which there may be none.
        inspect: called with each value of the column.
        found: the types of the results, by name.
        options: of `Dataset.map`.
    """
    features = Features(found)
    if not len(rows):  # of which `map` would not add the new columns
        return Dataset.from_dict({name: [] for name in features}, features=features)
    return renewed(rows, column).map(
        inspect, input_columns=column, remove_columns=rows.column_names, features=features, **options
    )


def good_rows(
    problems: Sequence[str | None],
    rows: Dataset,
    *,
    noun: str,
    split: str,
    max_bad_fraction: float,
    column: str | None = None,
    total: int | None = None,
) -> np.ndarray:
    """The positions of the good rows, int64, ascending.

    A warning says how many rows are bad and names the first five, by the path of their file or by their number.

    Args:
        problems: for each row what is wrong with it: "" if nothing, None if it is blank. Blank rows are left out too,
            but do not count as bad.
        rows: the same rows, with their numbers (`sample_index`) and with files not decoded.
        noun: what a row is called in messages, in the singular.
        split: the split that the rows belong to.
        max_bad_fraction: the largest share of bad rows. It is a share of the rows of all splits within
            `screened_together`, and of `rows` otherwise, and not checked of a stream's window (see `collecting`).
        column: the column with the file, or the list of files, that may be bad; None if there is none.
        total: the number of rows of the split, if `rows` are only some of them (see `first_look`). Default: all.

    Raises:
        ValueError: there are more bad rows.
        NothingLeft: all rows are bad or blank, and there are some.
    """
    collected, whole = _collected.get(), _whole.get()
    bad = [position for position, problem in enumerate(problems) if problem]
    nothing_left = not any(problem == "" for problem in problems)
    total = len(problems) if total is None else total
    if collected is None:
        _note(problems, noun, split, total)
    if bad:
        found = _named(problems, rows, bad, split, column)
        if collected is not None:
            collected += found
        else:
            listed_in = whole.listed_in if whole is not None else _listing.get()
            message = f"{len(bad)} of {_number(problems, split, noun, total)} are bad ({first_of(found)})"
            if listed_in is not None:
                listed_in.add(found)
                message += f", see {listed_in.path}"
            of_all, every = _of_all(found, total / len(problems), total, whole)
            if of_all > max_bad_fraction * every:
                among = f"; of all {every} rows {of_all:.0f} are" if every > len(problems) == total else ""
                raise ValueError(f"{message}{among}: more than max_bad_fraction={max_bad_fraction} allows. {REMEDY}")
            if nothing_left:
                raise NothingLeft(f"{message}: nothing is left to use. Repair them or choose other data.")
            logger.warning(f"{message}. They are {'skipped' if total == len(problems) else 'replaced when read'}.")
    if nothing_left and problems:
        raise NothingLeft(f"All {len(problems)} {split} {noun}s are blank{' or bad' if bad else ''}. Give other data.")
    return np.array([position for position, problem in enumerate(problems) if problem == ""], dtype=np.int64)


def _named(
    problems: Sequence[str | None], rows: Dataset, bad: list[int], split: str, column: str | None
) -> list[dict[str, Any]]:
    """What `BadRows` lists for each bad row."""
    chosen = rows.with_format(None).select(bad).select_columns(["sample_index"] + ([column] if column else []))
    found = []
    for position, row in zip(bad, chosen, strict=True):
        path = path_of(row[column]) if column else None
        place = {"row": row["sample_index"]} | ({"path": path} if path else {})
        found.append({"split": split, **place, "reason": problems[position]})
    return found


def path_of(value: Any) -> str | None:
    """The path of an encoded file, or of the first file of a list; None if there is none."""
    file = value[0] if isinstance(value, list) and value else value
    return file.get("path") if isinstance(file, dict) else None


def first_of(found: Sequence[Mapping[str, Any]]) -> str:
    """The first of some bad rows, which are as `BadRows` lists them, with their reasons, for a message."""
    named = []
    for row in found[:_NAMED]:
        name = row.get("path") or f"row {row['row']}"
        named.append(f"{_shortened(name)}: {_shortened(row['reason'])}")
    return "; ".join([*named, f"and {len(found) - _NAMED} more"] if len(found) > _NAMED else named)


def _shortened(text: str) -> str:
    """The text, without its middle if it is too long for a message."""
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} ... {text[-_LONGEST // 2 :]}"


def _of_all(found: list[dict[str, Any]], weight: float, rows: int, whole: _SplitsTogether | None) -> tuple[float, int]:
    """The number of bad rows, each of which stands for `weight` rows, and of all rows; 0 bad ones if there are too few
    rows to be checked."""
    if whole is None:
        return weight * len(found), rows
    whole.bad.update({(row["split"], row["row"]): weight for row in found})
    return (sum(whole.bad.values()), whole.rows) if whole.rows >= whole.fewest else (0, whole.rows)


def _number(problems: Sequence[str | None], split: str, noun: str, total: int) -> str:
    if total == len(problems):
        return f"{total} {split} {noun}s"
    return f"the {len(problems)} {split} {noun}s looked at first, out of {total},"


def _note(problems: Sequence[str | None], noun: str, split: str, total: int) -> None:
    if blank := sum(problem is None for problem in problems):
        note(split, f"{blank} of {len(problems)} {noun}s are blank and left out; they do not count as bad.")
        problems = [problem for problem in problems if problem is not None]
    # Names and numbers that differ from row to row are replaced, so that equal reasons are counted together.
    reasons = Counter(re.sub(r"'[^']*'|<[^>]*>|\d+", "…", problem) for problem in problems if problem)
    named = [f"{count} for {reason!r}" for reason, count in reasons.most_common(_REASONS)]
    more = [f"{len(reasons) - _REASONS} other reasons"] if len(reasons) > _REASONS else []
    bad = f"{sum(reasons.values())} of {len(problems)} {noun}s are bad and left out: {', '.join(named + more)}."
    if total > len(problems):
        note(
            split,
            f"{len(problems)} of {total} {noun}s are looked at here. Bad ones among the others are replaced, counted "
            "and listed when they are read. --check_data looks at all of them first.",
        )
        bad = bad.replace("and left out", "and replaced when they are read")
    note(split, bad if reasons else f"All {len(problems)} {noun}s can be used.")
