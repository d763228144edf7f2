"""Stratified random choices of rows, among them the rows that are held out. Every choice depends on its seed alone."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from transformers.utils import logging

logger = logging.get_logger(__name__)

SPLIT_SEED = 0  # not the training seed, so that runs with different seeds are evaluated on the same rows
FEW_ROWS = 50  # with fewer validation rows, metrics depend mostly on chance
_FEWEST_HELD_OUT = 10  # or a quarter of the rows, if there are fewer than forty
_NAMED = 5  # classes that are named in a message; the rest are only counted

Positions = NDArray[np.int64]


def split_positions(
    rows: int, labels: NDArray[np.int64] | None, fraction: float, in_order: bool
) -> tuple[Positions, Positions]:
    """The positions of the training and of the held-out rows, both ascending.

    Args:
        rows: the number of rows.
        labels: (rows,) class of each row; None if there are none.
        fraction: the share of rows to hold out. `held_out_count` says how many these are at least.
        in_order: hold out one piece at the end (at least one row), so that running text has no gaps. Otherwise rows
            are chosen at random by `stratified`, and each class keeps at least one training row.
    """
    if in_order:
        first = rows - max(1, round(rows * fraction))
        return np.arange(first), np.arange(first, rows)
    held_out = stratified(labels, rows, held_out_count(rows, fraction), SPLIT_SEED, spared=1)
    kept = np.ones(rows, dtype=bool)
    kept[held_out] = False
    return np.flatnonzero(kept), held_out


def held_out_count(rows: int, fraction: float) -> int:
    """How many of the rows are held out: `fraction` of them, but at least ten.

    If there are fewer than forty rows, it is at least a quarter of them, and at least one.
    """
    return max(round(rows * fraction), min(_FEWEST_HELD_OUT, rows // 4), 1)


def stratified(
    labels: NDArray[np.int64] | None, rows: int, count: int, seed: int, *, least: int = 0, spared: int = 0
) -> Positions:
    """The positions of `count` rows, ascending, chosen at random so that each class keeps its share of the rows.

    Shares are rounded by the largest remainder method, so that small classes are chosen from too.

    Args:
        labels: (N,) class of each row; None if there are none.
        rows: the number of rows, N.
        count: how many to choose.
        seed: of the choice.
        least: the least number of rows to choose from each class, if the class has so many and `count` is enough for
            all classes.
        spared: the least number of rows of each class that are not chosen. If too few are left to choose from, classes
            are ignored.
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
    """For each class, in ascending order, the positions of its rows in random order."""
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
    """Divides `total` among classes in proportion to their sizes (K,), each between `least` and `most`.

    Fractions are rounded by the largest remainder method. The order among equal remainders is random.
    """
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
    """Logs a warning if there are few validation rows, and another if classes have none.

    Args:
        rows: the number of validation rows.
        counts: the number of rows of each class, by its name; empty if there are no classes.
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
