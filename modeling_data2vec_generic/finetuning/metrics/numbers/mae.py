"""Mean absolute error, in the units of the labels; lower is better."""

import datasets
import evaluate
from sklearn.metrics import mean_absolute_error

from modeling_data2vec_generic.finetuning.metrics.metric_info import row_metric_info


class MeanAbsoluteError(evaluate.Metric):
    """Mean absolute error, in the units of the labels; lower is better."""

    def _info(self) -> evaluate.MetricInfo:
        return row_metric_info(__doc__, datasets.Value("float64"))

    def _compute(self, predictions: list, references: list) -> dict[str, float]:
        return {"mae": float(mean_absolute_error(references, predictions))}
