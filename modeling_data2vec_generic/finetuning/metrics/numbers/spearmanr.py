"""Rank correlation (Spearman) of predicted and true numbers; 0 if one of the two is constant."""

import datasets
import evaluate
import numpy as np
from scipy.stats import spearmanr

from modeling_data2vec_generic.finetuning.metrics.metric_info import row_metric_info


class Spearman(evaluate.Metric):
    """Rank correlation (Spearman) of predicted and true numbers; 0 if one of the two is constant."""

    def _info(self) -> evaluate.MetricInfo:
        return row_metric_info(__doc__, datasets.Value("float64"))

    def _compute(self, predictions: list, references: list) -> dict[str, float]:
        if np.ptp(predictions) == 0 or np.ptp(references) == 0:
            return {"spearmanr": 0.0}
        return {"spearmanr": float(spearmanr(predictions, references).statistic)}
