"""Choosing the rows to train on and those to hold out. Every choice depends on a seed and on nothing else random."""

import numpy as np
from numpy.typing import NDArray
from transformers.utils import logging

from ..data.splitting import Positions, held_out_count, shuffled_by_class, stratified

logger = logging.get_logger(__name__)


def per_class(labels: NDArray[np.int64], count: int, seed: int, names: list[str]) -> Positions:
    """Choose `count` rows of each class. Of a class with fewer rows, all are taken, and a warning names the class.

    With the same seed, the rows of a smaller count are among those of a larger one.

    Args:
        labels: (N,) class of each row.
        names: of the classes.

    Returns:
        Ascending positions, (classes * count,) or fewer.
    """
    shuffled = shuffled_by_class(labels, seed)
    if small := [f"{names[labels[rows[0]]]} {len(rows)}" for rows in shuffled if len(rows) < count]:
        logger.warning(
            f"{len(small)} of {len(shuffled)} classes have fewer than labels_per_class={count} training rows, so all "
            f"of their rows are taken ({', '.join(small[:5])})."
        )
    return np.sort(np.concatenate([rows[:count] for rows in shuffled]))


def fraction(labels: NDArray[np.int64] | None, rows: int, share: float, seed: int) -> Positions:
    """Choose a share of the rows.

    Args:
        labels: (N,) class of each row. Each class keeps its share (by the largest remainder), and at least one row.
            None if rows have no classes.
        rows: N.
        share: of the rows, between 0 and 1.

    Returns:
        Ascending positions.
    """
    classes = 1 if labels is None else len(np.unique(labels))
    return stratified(labels, rows, max(round(rows * share), classes), seed, least=1)


def by_group(
    groups: list[str], share: float, seed: int, labels: NDArray[np.int64] | None = None
) -> tuple[Positions, Positions]:
    """Hold out a share of the rows in whole groups.

    Groups are considered in random order. A group is held out if that brings the number of held-out rows closer to
    `held_out_count`: first only groups with a class that has no held-out row yet, then any group. A group that has all
    the training rows left of a class is not held out, unless no other group can be. At least one group is held
    out, and at least one is left.

    Args:
        groups: group of each row, N of them.
        share: of the rows to hold out, between 0 and 1.
        labels: (N,) class of each row; None if rows have no classes.

    Returns:
        Ascending positions of the training rows and of the held-out rows.

    Raises:
        ValueError: there is only one group.
    """
    names, number = np.unique(np.asarray(groups), return_inverse=True)
    if len(names) < 2:
        raise ValueError(f"All rows are of one group ({names[0]}), so none can be held out. Check group_column_name.")
    classes = np.zeros(len(groups), dtype=np.int64) if labels is None else labels
    members = _classes_of(number, classes)
    sizes, wanted, held = np.bincount(number), held_out_count(len(groups), share), 0
    left, covered = np.bincount(classes), np.zeros(classes.max() + 1, dtype=bool)
    out = np.zeros(len(names), dtype=bool)
    order = np.random.default_rng(seed).permutation(len(names)).tolist()
    for only_new in (True, False):
        for group in order:
            found, counts = members[group]
            closer = abs(held + sizes[group] - wanted) < abs(held - wanted)
            if not closer or out[group] or (only_new and covered[found].all()) or (left[found] <= counts).any():
                continue
            out[group] = True
            held += sizes[group]
            left[found] -= counts
            covered[found] = True
    if not out.any():  # every group is more than twice as large as what is wanted, or has all rows of a class
        leaves_all = [group for group in order if (left[members[group][0]] > members[group][1]).all()]
        out[min(leaves_all or order, key=lambda group: sizes[group])] = True
    return np.flatnonzero(~out[number]), np.flatnonzero(out[number])


def _classes_of(
    groups: NDArray[np.int64], classes: NDArray[np.int64]
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """For each group, in the order of their numbers, the classes of its rows and the number of rows of each class."""
    pairs, counts = np.unique(np.stack([groups, classes]), axis=1, return_counts=True)
    ends = np.cumsum(np.bincount(pairs[0]))[:-1]
    return list(zip(np.split(pairs[1], ends), np.split(counts, ends), strict=True))


def require_apart(train_groups: list[str], validation_groups: list[str]) -> None:
    """Check that no group is in both the training and the validation data.

    Raises:
        ValueError: a group is.
    """
    if shared := sorted(set(train_groups) & set(validation_groups)):
        raise ValueError(
            f"{len(shared)} groups are both in the training and the validation data ({', '.join(shared[:5])}), so "
            "the result would say little about new groups. Remove them from one of the two, or give one source and "
            "let --validation_split_percentage hold groups out."
        )
