"""Which rows are trained on and which are held out. Every choice is a function of its seed."""

import numpy as np
from numpy.typing import NDArray
from transformers.utils import logging

logger = logging.get_logger(__name__)

Positions = NDArray[np.int64]


def per_class(labels: NDArray[np.int64], count: int, seed: int, names: list[str]) -> Positions:
    """Ascending positions of `count` rows of each class, (classes * count,); of classes with fewer rows, all of them,
    with a warning that names them.

    A smaller count takes a part of the rows that a larger one takes with the same seed.
    """
    shuffled = _shuffled_by_class(labels, seed)
    if small := [f"{names[number]} {len(rows)}" for number, rows in shuffled if len(rows) < count]:
        logger.warning(
            f"{len(small)} of {len(shuffled)} classes have fewer than labels_per_class={count} training rows: all "
            f"rows of theirs are taken ({', '.join(small[:5])})."
        )
    return np.sort(np.concatenate([rows[:count] for _, rows in shuffled]))


def fraction(labels: NDArray[np.int64] | None, rows: int, share: float, seed: int) -> Positions:
    """Ascending positions of this share of the rows of each class, rounded, one at least; of all rows if `labels` is
    None."""
    classes = np.zeros(rows, dtype=np.int64) if labels is None else labels
    return np.sort(
        np.concatenate(
            [shuffled[: max(1, round(len(shuffled) * share))] for _, shuffled in _shuffled_by_class(classes, seed)]
        )
    )


def by_group(groups: list[str], share: float, seed: int) -> tuple[Positions, Positions]:
    """Ascending positions of the training and of the held-out rows; no group is in both.

    Groups are held out in random order as long as that brings the rows held out closer to `share` of all; one group
    at least is held out, and one is left.

    Raises:
        ValueError: there is one group only.
    """
    names, number = np.unique(np.asarray(groups), return_inverse=True)
    if len(names) < 2:
        raise ValueError(f"All rows are of one group ({names[0]}), so none can be held out. Check group_column_name.")
    sizes, wanted, held = np.bincount(number), share * len(groups), 0
    out: list[int] = []
    for group in np.random.default_rng(seed).permutation(len(names)):
        closer = abs(held + sizes[group] - wanted) < abs(held - wanted)
        if closer and len(out) < len(names) - 1:
            out.append(int(group))
            held += sizes[group]
    if not out:  # every group is more than twice as large as what is wanted
        out = [int(sizes.argmin())]
    is_held_out = np.isin(number, out)
    return np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)


def require_apart(train_groups: list[str], validation_groups: list[str]) -> None:
    """Raise ValueError if a group is on both sides."""
    if shared := sorted(set(train_groups) & set(validation_groups)):
        raise ValueError(
            f"{len(shared)} groups are both in the training and the validation data ({', '.join(shared[:5])}), so "
            "the result would say little about new ones. Remove them from one side, or give one source and let "
            "--validation_split_percentage hold groups out."
        )


def _shuffled_by_class(labels: NDArray[np.int64], seed: int) -> list[tuple[int, Positions]]:
    generator = np.random.default_rng(seed)
    return [(int(number), generator.permutation(np.flatnonzero(labels == number))) for number in np.unique(labels)]
