"""Which rows are trained on and which are held out. Every choice is a function of its seed."""

import numpy as np
from numpy.typing import NDArray
from transformers.utils import logging

from ..data.splitting import Positions, held_out_count, shuffled_by_class, stratified

logger = logging.get_logger(__name__)


def per_class(labels: NDArray[np.int64], count: int, seed: int, names: list[str]) -> Positions:
    """Ascending positions of `count` rows of each class, (classes * count,); of classes with fewer rows, all of them,
    with a warning that names them.

    A smaller count takes a part of the rows that a larger one takes with the same seed.
    """
    shuffled = shuffled_by_class(labels, seed)
    if small := [f"{names[labels[rows[0]]]} {len(rows)}" for rows in shuffled if len(rows) < count]:
        logger.warning(
            f"{len(small)} of {len(shuffled)} classes have fewer than labels_per_class={count} training rows: all "
            f"rows of theirs are taken ({', '.join(small[:5])})."
        )
    return np.sort(np.concatenate([rows[:count] for rows in shuffled]))


def fraction(labels: NDArray[np.int64] | None, rows: int, share: float, seed: int) -> Positions:
    """Ascending positions of this share of the rows, shared out over the classes by the largest remainder, one row of
    each at least; of all rows if `labels` is None."""
    classes = 1 if labels is None else len(np.unique(labels))
    return stratified(labels, rows, max(round(rows * share), classes), seed, least=1)


def by_group(
    groups: list[str], share: float, seed: int, labels: NDArray[np.int64] | None = None
) -> tuple[Positions, Positions]:
    """Ascending positions of the training and of the held-out rows; no group is in both.

    Groups are held out in random order as long as that brings the rows held out closer to `held_out_count`: first
    those with a class of which nothing is held out yet, then any. None takes the last training rows of a class along,
    if that can be helped. One group at least is held out, and one is left.

    Args:
        groups: of each row.
        labels: (N,) class of each row; None if they have none.

    Raises:
        ValueError: there is one group only.
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
    if not out.any():  # every group is more than twice as large as what is wanted, or holds all of a class
        leaves_all = [group for group in order if (left[members[group][0]] > members[group][1]).all()]
        out[min(leaves_all or order, key=lambda group: sizes[group])] = True
    return np.flatnonzero(~out[number]), np.flatnonzero(out[number])


def _classes_of(
    groups: NDArray[np.int64], classes: NDArray[np.int64]
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Of each group, by its number, the classes of its rows and how many rows are of each."""
    pairs, counts = np.unique(np.stack([groups, classes]), axis=1, return_counts=True)
    ends = np.cumsum(np.bincount(pairs[0]))[:-1]
    return list(zip(np.split(pairs[1], ends), np.split(counts, ends), strict=True))


def require_apart(train_groups: list[str], validation_groups: list[str]) -> None:
    """Raise ValueError if a group is on both sides."""
    if shared := sorted(set(train_groups) & set(validation_groups)):
        raise ValueError(
            f"{len(shared)} groups are both in the training and the validation data ({', '.join(shared[:5])}), so "
            "the result would say little about new ones. Remove them from one side, or give one source and let "
            "--validation_split_percentage hold groups out."
        )
