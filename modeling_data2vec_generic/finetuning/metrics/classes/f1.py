"""F1, the harmonic mean of precision and recall, averaged over classes; 0 for a class that is never predicted."""

import datasets
import evaluate
from sklearn.metrics import f1_score

from modeling_data2vec_generic.finetuning.metrics.metric_info import row_metric_info


class F1(evaluate.Metric):
    """F1, the harmonic mean of precision and recall, averaged over classes; 0 for a class that is never predicted."""

    def _info(self) -> evaluate.MetricInfo:
        label = datasets.Value("int64")
        rows = datasets.Sequence(label) if self.config_name == "multilabel" else label
        return row_metric_info(__doc__, rows)

    def _compute(self, predictions: list, references: list, average: str = "macro") -> dict[str, float]:
        return {"f1": float(f1_score(references, predictions, average=average, zero_division=0))}
