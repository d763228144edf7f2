"""Correlation of predicted and true classes (Matthews); 0 if one of the two is constant."""

import datasets
import evaluate
from sklearn.metrics import matthews_corrcoef

from modeling_data2vec_generic.finetuning.metrics.metric_info import row_metric_info


class MatthewsCorrelation(evaluate.Metric):
    """Correlation of predicted and true classes (Matthews); 0 if one of the two is constant."""

    def _info(self) -> evaluate.MetricInfo:
        return row_metric_info(__doc__, datasets.Value("int64"))

    def _compute(self, predictions: list, references: list) -> dict[str, float]:
        return {"matthews_correlation": float(matthews_corrcoef(references, predictions))}
