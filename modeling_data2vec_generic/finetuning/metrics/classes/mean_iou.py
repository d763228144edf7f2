"""Intersection over union of each class, its mean, and the share of correct pixels, over all images."""

import datasets
import evaluate
import numpy as np
from numpy.typing import NDArray

from modeling_data2vec_generic.finetuning.metrics.confusion import confusion_counts, intersection_over_union, recall
from modeling_data2vec_generic.finetuning.metrics.metric_info import row_metric_info


class MeanIoU(evaluate.Metric):
    """Intersection over union of each class, its mean, and the share of correct pixels, over all images.

    Pixels are counted over all images before the ratios are computed. The means leave out classes without a pixel in
    references and predictions, whose own values are NaN. Instead of single pixels, pairs of classes can be given with
    their counts as `sample_weight`, which takes far less memory.
    """

    def _info(self) -> evaluate.MetricInfo:
        return row_metric_info(__doc__, datasets.Value("uint8"))

    def _compute(
        self,
        predictions: list,
        references: list,
        num_labels: int,
        ignore_index: int = 255,
        sample_weight: NDArray[np.int64] | None = None,
    ) -> dict:
        pixels = np.asarray(references), np.asarray(predictions)
        counts = confusion_counts(*pixels, num_labels, ignore_index, sample_weight)
        iou, accuracy = intersection_over_union(counts), recall(counts)
        return {
            "mean_iou": float(np.nanmean(iou)),
            "mean_accuracy": float(np.nanmean(accuracy)),
            "overall_accuracy": float(counts.trace() / counts.sum()),
            "per_category_iou": iou,
            "per_category_accuracy": accuracy,
        }
