"""Counts the windows that long series and clips are cut into, and notes in the summary what is lost."""

import numpy as np

from ..data.summary import note


def count_windows(lengths: np.ndarray, size: int, *, noun: str, split: str) -> np.ndarray:
    """The number of consecutive windows in each sample, (N,) int64.

    The remainder at the end of a sample is dropped. If samples are longer than a window, the summary says how many,
    and how much is dropped.

    Args:
        lengths: (N,), the length of each sample, at least `size`.
        size: the length of a window.
        noun: what samples are called in messages, in the plural.
        split: the split that they belong to.
    """
    counts = lengths // size
    if longer := int((lengths > size).sum()):
        lost = 1 - counts.sum() * size / lengths.sum()
        note(
            split,
            f"{longer} of {len(lengths)} {noun} are longer than {size} and cut into pieces of it: {counts.sum()} "
            f"pieces in all. The remainders at their ends, {lost:.1%} of the data, are left out.",
        )
    return counts
