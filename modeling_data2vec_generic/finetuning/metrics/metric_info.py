"""What `evaluate` wants to know of a metric of rows."""

import datasets
import evaluate


def row_metric_info(description: str | None, rows: datasets.Value | datasets.Sequence) -> evaluate.MetricInfo:
    """Predictions and references, one of type `rows` for every row."""
    return evaluate.MetricInfo(
        description=str(description),
        citation="",
        inputs_description="predictions and references, one of each for every row",
        features=datasets.Features({"predictions": rows, "references": rows}),
    )
