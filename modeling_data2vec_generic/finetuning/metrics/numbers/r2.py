"""Share of the variance of the true numbers that is explained (R²): at most 1, and 0 for predicting their mean."""

import datasets
import evaluate
from sklearn.metrics import r2_score

from modeling_data2vec_generic.finetuning.metrics.metric_info import row_metric_info


class R2(evaluate.Metric):
    """Share of the variance of the true numbers that is explained (R²): at most 1, and 0 for predicting their mean."""

    def _info(self) -> evaluate.MetricInfo:
        return row_metric_info(__doc__, datasets.Value("float64"))

    def _compute(self, predictions: list, references: list) -> dict[str, float]:
        return {"r2": float(r2_score(references, predictions))}
