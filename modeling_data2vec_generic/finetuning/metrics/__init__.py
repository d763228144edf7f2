"""Metric modules for `evaluate`, in the repository so that no network is needed. scikit-learn and scipy compute.

A file in one of the folders is one metric; `metric_info.py` is what they share.
"""

from pathlib import Path
from typing import Any

import evaluate


def load_metric(name: str, config_name: str | None = None) -> Any:
    """The `evaluate` module of one file of the folders below; what it computes stays in memory.

    Args:
        config_name: "multilabel" where a row may have several classes.
    """
    module = next(Path(__file__).parent.glob(f"*/{name}.py"))
    return evaluate.load(str(module), config_name, keep_in_memory=True)
