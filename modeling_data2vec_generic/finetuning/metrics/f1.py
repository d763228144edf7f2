"""F1, harmonic mean of precision and recall, averaged over classes; 0 of a class that is never predicted."""

import datasets
import evaluate
from sklearn.metrics import f1_score


class F1(evaluate.Metric):
    """F1, harmonic mean of precision and recall, averaged over classes; 0 of a class that is never predicted."""

    def _info(self) -> evaluate.MetricInfo:
        label = datasets.Value("int64")
        rows = datasets.Sequence(label) if self.config_name == "multilabel" else label
        return evaluate.MetricInfo(
            description=str(__doc__),
            citation="",
            inputs_description="predictions and references, one of each for every row",
            features=datasets.Features({"predictions": rows, "references": rows}),
        )

    def _compute(self, predictions: list, references: list, average: str = "macro") -> dict[str, float]:
        return {"f1": float(f1_score(references, predictions, average=average, zero_division=0))}
