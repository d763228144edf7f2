"""Correlation of predicted and true classes (Matthews); 0 where either is constant."""

import datasets
import evaluate
from sklearn.metrics import matthews_corrcoef


class MatthewsCorrelation(evaluate.Metric):
    """Correlation of predicted and true classes (Matthews); 0 where either is constant."""

    def _info(self) -> evaluate.MetricInfo:
        rows = datasets.Value("int64")
        return evaluate.MetricInfo(
            description=str(__doc__),
            citation="",
            inputs_description="predictions and references, one of each for every row",
            features=datasets.Features({"predictions": rows, "references": rows}),
        )

    def _compute(self, predictions: list, references: list) -> dict[str, float]:
        return {"matthews_correlation": float(matthews_corrcoef(references, predictions))}
