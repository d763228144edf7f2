"""Precision, recall and F1 of entities (exact spans, marked by BIO or BIOES tags), and the share of correct tags."""

import datasets
import evaluate
from seqeval.metrics import accuracy_score
from seqeval.metrics.sequence_labeling import precision_recall_fscore_support

from modeling_data2vec_generic.finetuning.metrics.metric_info import row_metric_info


class Seqeval(evaluate.Metric):
    """Precision, recall and F1 of entities (exact spans, marked by BIO or BIOES tags), and the share of correct tags.

    They are computed over the entities of all types together, and are 0 if there are none. A tag that may not follow
    the one before it, such as I after O, begins an entity, as in the evaluation of CoNLL.
    """

    def _info(self) -> evaluate.MetricInfo:
        return row_metric_info(__doc__, datasets.Sequence(datasets.Value("string")))

    def _compute(self, predictions: list, references: list) -> dict[str, float]:
        precision, recall, f1, _ = precision_recall_fscore_support(
            references, predictions, average="micro", zero_division=0
        )
        return {
            "precision": float(precision),
            "recall": float(recall),
            "f1": float(f1),
            "accuracy": float(accuracy_score(references, predictions)),
        }
