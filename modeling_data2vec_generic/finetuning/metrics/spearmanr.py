"""Correlation of ranks (Spearman) of predicted and true numbers; 0 where either is constant."""

import datasets
import evaluate
import numpy as np
from scipy.stats import spearmanr


class Spearman(evaluate.Metric):
    """Correlation of ranks (Spearman) of predicted and true numbers; 0 where either is constant."""

    def _info(self) -> evaluate.MetricInfo:
        rows = datasets.Value("float64")
        return evaluate.MetricInfo(
            description=str(__doc__),
            citation="",
            inputs_description="predictions and references, one of each for every row",
            features=datasets.Features({"predictions": rows, "references": rows}),
        )

    def _compute(self, predictions: list, references: list) -> dict[str, float]:
        if np.ptp(predictions) == 0 or np.ptp(references) == 0:
            return {"spearmanr": 0.0}
        return {"spearmanr": float(spearmanr(predictions, references).statistic)}
