"""Samples of any length to pieces of one length: how many there are, and what gets lost."""

import numpy as np

from ..data.summary import note


def count_windows(lengths: np.ndarray, size: int, *, noun: str, split: str) -> np.ndarray:
    """How many consecutive windows of `size` samples of these lengths (N,), each at least `size`, have: (N,) int64.

    What is left at a sample's end is dropped; if there is anything to cut, the summary says how much.
    """
    counts = lengths // size
    if longer := int((lengths > size).sum()):
        lost = 1 - counts.sum() * size / lengths.sum()
        note(
            split,
            f"{longer} of {len(lengths)} {noun} are longer than {size} and cut into pieces of it: {counts.sum()} "
            f"pieces in all. What remains at the ends, {lost:.1%} of the data, is left out.",
        )
    return counts
