"""Share of rows that are predicted correctly; with several labels per row, all of them must be."""

import datasets
import evaluate
from sklearn.metrics import accuracy_score

from modeling_data2vec_generic.finetuning.metrics.metric_info import row_metric_info


class Accuracy(evaluate.Metric):
    """Share of rows that are predicted correctly; with several labels per row, all of them must be."""

    def _info(self) -> evaluate.MetricInfo:
        label = datasets.Value("int64")
        rows = datasets.Sequence(label) if self.config_name == "multilabel" else label
        return row_metric_info(__doc__, rows)

    def _compute(self, predictions: list, references: list) -> dict[str, float]:
        return {"accuracy": float(accuracy_score(references, predictions))}
