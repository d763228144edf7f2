"""Words inserted, deleted and replaced in all rows, per word of the references; lower is better."""

import datasets
import evaluate
import jiwer

from modeling_data2vec_generic.finetuning.metrics.metric_info import row_metric_info


class WordErrorRate(evaluate.Metric):
    """Words inserted, deleted and replaced in all rows, per word of the references; lower is better."""

    def _info(self) -> evaluate.MetricInfo:
        return row_metric_info(__doc__, datasets.Value("string"))

    def _compute(self, predictions: list, references: list) -> dict[str, float]:
        return {"wer": float(jiwer.wer(references, predictions))}
