"""Confusion counts of classes, and the metrics of a segmentation that are computed from them."""

import numpy as np
from numpy.typing import NDArray


def confusion_counts(
    references: NDArray[np.integer],
    predictions: NDArray[np.integer],
    num_labels: int,
    ignore_index: int,
    times: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """Count pixels by class and predicted class.

    Args:
        references, predictions: classes of the pixels, of the same shape.
        num_labels: K, number of classes.
        ignore_index: reference of pixels that are not counted.
        times: how often each pixel counts, of the same shape; None counts each once.

    Returns:
        (K, K) counts: rows are classes, columns are predicted classes.
    """
    known = references != ignore_index
    pairs = references[known].astype(np.int64) * num_labels + predictions[known]
    counts = np.bincount(pairs.ravel(), None if times is None else times[known], minlength=num_labels**2)
    return counts.astype(np.int64).reshape(num_labels, num_labels)


def intersection_over_union(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """(K,) intersection over union of each class; NaN for a class without pixels in references and predictions."""
    found = counts.diagonal()
    either = counts.sum(0) + counts.sum(1) - found
    return np.divide(found, either, out=np.full(len(counts), np.nan), where=either > 0)


def recall(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """(K,) share of the pixels of each class that are predicted correctly; NaN for a class without pixels."""
    pixels = counts.sum(1)
    return np.divide(counts.diagonal(), pixels, out=np.full(len(counts), np.nan), where=pixels > 0)
