"""Intersection over union of each class, its mean over classes, and the share of right pixels, over all images."""

import datasets
import evaluate
import numpy as np
from numpy.typing import NDArray

from modeling_data2vec_generic.finetuning.metrics.confusion import confusion_counts, intersection_over_union, recall
from modeling_data2vec_generic.finetuning.metrics.metric_info import row_metric_info


class MeanIoU(evaluate.Metric):
    """Intersection over union of each class, its mean over classes, and the share of right pixels, over all images.

    Pixels are counted over all images before anything is divided. A class that has no pixel in references and
    predictions has no part in the means; its own values are NaN. Counts, given as `sample_weight` of each pair of
    classes, take far less than the pixels do.
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
