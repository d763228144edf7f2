"""The description that `evaluate` needs of a metric."""

import datasets
import evaluate


def row_metric_info(description: str | None, rows: datasets.Value | datasets.Sequence) -> evaluate.MetricInfo:
    """Describe a metric that compares a prediction and a reference of type `rows` for each row."""
    return evaluate.MetricInfo(
        description=str(description),
        citation="",
        inputs_description="predictions and references, one of each for every row",
        features=datasets.Features({"predictions": rows, "references": rows}),
    )
