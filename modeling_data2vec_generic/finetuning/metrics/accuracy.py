"""Share of rows that are predicted exactly; of several labels per row, all of them."""

import datasets
import evaluate
from sklearn.metrics import accuracy_score


class Accuracy(evaluate.Metric):
    """Share of rows that are predicted exactly; of several labels per row, all of them."""

    def _info(self) -> evaluate.MetricInfo:
        label = datasets.Value("int64")
        rows = datasets.Sequence(label) if self.config_name == "multilabel" else label
        return evaluate.MetricInfo(
            description=str(__doc__),
            citation="",
            inputs_description="predictions and references, one of each for every row",
            features=datasets.Features({"predictions": rows, "references": rows}),
        )

    def _compute(self, predictions: list, references: list) -> dict[str, float]:
        return {"accuracy": float(accuracy_score(references, predictions))}
