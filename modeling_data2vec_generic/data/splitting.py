"""How a number of rows is shared out among classes, and which rows are held out. Every choice is a function of its
seed."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from transformers.utils import logging

logger = logging.get_logger(__name__)

SPLIT_SEED = 0  # not the training seed: runs that differ in their seed are evaluated on the same rows
FEW_ROWS = 50  # below which what is measured on validation rows is mostly chance
_FEWEST_HELD_OUT = 10  # or a quarter of the rows, where there are fewer than forty
_NAMED = 5  # classes that are named in a message; the rest are only counted

Positions = NDArray[np.int64]


def split_positions(
    rows: int, labels: NDArray[np.int64] | None, fraction: float, in_order: bool
) -> tuple[Positions, Positions]:
    """Ascending positions of the training and the held-out rows.

    `held_out_count` rows are held out, shared out over the classes by `stratified`, which leaves each class a training
    row. `in_order` (running text) holds out this fraction of the rows, at least one, in one piece at the end: neither
    part has gaps.
    """
    if in_order:
        first = rows - max(1, round(rows * fraction))
        return np.arange(first), np.arange(first, rows)
    held_out = stratified(labels, rows, held_out_count(rows, fraction), SPLIT_SEED, spared=1)
    return np.setdiff1d(np.arange(rows), held_out), held_out


def held_out_count(rows: int, fraction: float) -> int:
    """How many of the rows are held out: this fraction of them, but at least ten, or a quarter of fewer than forty
    rows, and one in any case."""
    return max(round(rows * fraction), min(_FEWEST_HELD_OUT, rows // 4), 1)


def stratified(
    labels: NDArray[np.int64] | None, rows: int, count: int, seed: int, *, least: int = 0, spared: int = 0
) -> Positions:
    """Ascending positions of `count` rows, chosen at random, of each class as many as is its share of all rows.

    Shares that are no whole numbers are settled by the largest remainder, so that classes of a few rows are chosen
    from too.

    Args:
        labels: (N,) class of each row; None if they have none.
        least: rows to choose of each class, at least, if it has so many and `count` is enough for all classes.
        spared: rows to leave of each class, at least. If that leaves too few to choose from, classes are ignored.
    """
    shuffled = shuffled_by_class(np.zeros(rows, dtype=np.int64) if labels is None else labels, seed)
    sizes = np.array([len(members) for members in shuffled])
    most = sizes - spared
    if labels is not None and most.sum() < count:
        return stratified(None, rows, count, seed)
    fewest = np.minimum(sizes, least if least * len(sizes) <= count else 0)
    counts = _apportioned(sizes, count, fewest, most, np.random.default_rng(seed))
    return np.sort(np.concatenate([members[:taken] for members, taken in zip(shuffled, counts, strict=True)]))


def shuffled_by_class(labels: NDArray[np.int64], seed: int) -> list[Positions]:
    """The positions of each class's rows in random order, by ascending class."""
    generator = np.random.default_rng(seed)
    ends = np.cumsum(np.unique(labels, return_counts=True)[1])[:-1]
    return [generator.permutation(members) for members in np.split(np.argsort(labels, kind="stable"), ends)]


def _apportioned(
    sizes: NDArray[np.int64],
    total: int,
    least: NDArray[np.int64],
    most: NDArray[np.int64],
    generator: np.random.Generator,
) -> NDArray[np.int64]:
    """How many of `total` each class of these sizes (K,) is given, from `least` to `most`, by the largest remainder;
    equal remainders are drawn lots for."""
    quota = total * sizes / sizes.sum()
    given = np.clip(np.floor(quota).astype(np.int64), least, most)
    lots = generator.random(len(sizes))
    while left := total - given.sum():
        step = 1 if left > 0 else -1
        free = np.flatnonzero(given < most if left > 0 else given > least)
        if not len(free):
            break
        furthest = free[np.lexsort((lots[free], step * (given - quota)[free]))]
        given[furthest[: abs(left)]] += step
    return given


def warn_of_validation(rows: int, counts: Mapping[str, int]) -> None:
    """Warn of validation rows that are few, and of classes that they lack.

    Args:
        counts: rows of each class, by its name; empty if there are no classes.
    """
    if rows < FEW_ROWS:
        logger.warning(
            f"The validation data have {rows} rows. What is measured on so few is mostly chance: an accuracy may be "
            f"off by {98 / rows**0.5:.0f} percentage points. Raise --validation_split_percentage, or give more "
            "validation data."
        )
    if missing := [name for name, count in counts.items() if not count]:
        named = ", ".join(missing[:_NAMED] + ["..."] * (len(missing) > _NAMED))
        logger.warning(
            f"{len(missing)} of {len(counts)} classes have no validation row ({named}): nothing is measured on them."
        )
