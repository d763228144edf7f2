"""Metrics as modules for `evaluate`, which are part of the package so that no network is needed.

Each file in `classes/`, `numbers/` and `transcripts/` is one metric. `metric_info.py` and `confusion.py` are
what they share.
"""

from pathlib import Path
from typing import Any

import evaluate


def load_metric(name: str, config_name: str | None = None) -> Any:
    """Load a metric, which keeps its predictions and references in memory instead of in files.

    Args:
        name: of its file, without the ending.
        config_name: "multilabel" if rows may have several classes.

    Returns:
        An `evaluate.Metric`.
    """
    module = next(Path(__file__).parent.glob(f"*/{name}.py"))
    return evaluate.load(str(module), config_name, keep_in_memory=True)
