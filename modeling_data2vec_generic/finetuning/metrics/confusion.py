"""How often each class is taken for which, and what that says of a segmentation."""

import numpy as np
from numpy.typing import NDArray


def confusion_counts(
    references: NDArray[np.integer],
    predictions: NDArray[np.integer],
    num_labels: int,
    ignore_index: int,
    times: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """(K, K) pixels by class (row) and predicted class (column), without those whose reference is `ignore_index`; each
    counts once, or as many `times` as given for it."""
    known = references != ignore_index
    pairs = references[known].astype(np.int64) * num_labels + predictions[known]
    counts = np.bincount(pairs.ravel(), None if times is None else times[known], minlength=num_labels**2)
    return counts.astype(np.int64).reshape(num_labels, num_labels)


def intersection_over_union(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """(K,) pixels of a class that are found, divided by those that are of it or taken for it; NaN where there are
    none."""
    found = counts.diagonal()
    either = counts.sum(0) + counts.sum(1) - found
    return np.divide(found, either, out=np.full(len(counts), np.nan), where=either > 0)


def recall(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """(K,) share of a class's pixels that are found; NaN where it has none."""
    pixels = counts.sum(1)
    return np.divide(counts.diagonal(), pixels, out=np.full(len(counts), np.nan), where=pixels > 0)
