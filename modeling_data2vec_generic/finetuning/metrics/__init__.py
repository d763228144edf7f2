"""Metric modules for `evaluate`, in the repository so that no network is needed. scikit-learn and scipy compute."""

from pathlib import Path
from typing import Any

import evaluate


def load_metric(name: str, config_name: str | None = None) -> Any:
    """The `evaluate` module of one file of this folder; what it computes stays in memory.

    Args:
        config_name: "multilabel" where a row may have several classes.
    """
    return evaluate.load(str(Path(__file__).with_name(f"{name}.py")), config_name, keep_in_memory=True)
