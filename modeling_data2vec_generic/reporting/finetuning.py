"""What a fine-tuning run leaves for people to read: predictions, figures and the table of a comparison."""

import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers.utils import logging

logger = logging.get_logger(__name__)


def report_predictions(task: Any, outcome: Any, dataset: Dataset, output_dir: Path) -> None:
    """Write `predictions.jsonl` and `figures/*.png`.

    Args:
        task: a `Task`.
        outcome: an `Outcome` on `dataset`.
    """
    rows = task.predictions(outcome.logits, outcome.labels, dataset)
    with open(output_dir / "predictions.jsonl", "w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    if find_spec("matplotlib") is None:
        logger.warning("matplotlib is not installed, so no figures are drawn: `pip install matplotlib`.")
        return
    task.draw(outcome.logits, outcome.labels, dataset, output_dir / "figures")


def report_comparison(metrics: Mapping[str, Mapping[str, float]], main_metric: str, output_dir: Path) -> None:
    """Write `comparison.json`, `comparison.md` and `figures/comparison.png` of several runs' metrics, by run."""
    names = [name for name in next(iter(metrics.values())) if all(name in values for values in metrics.values())]
    names = sorted(names, key=lambda name: (name != f"eval_{main_metric}", name))
    table = {arm: {name: values[name] for name in names} for arm, values in metrics.items()}
    (output_dir / "comparison.json").write_text(json.dumps(table, indent=4), encoding="utf-8")
    lines = [
        "| | " + " | ".join(name.removeprefix("eval_").replace("_", " ") for name in names) + " |",
        "|---" * (len(names) + 1) + "|",
        *(
            f"| {arm.replace('_', ' ')} | " + " | ".join(f"{values[name]:.4f}" for name in names) + " |"
            for arm, values in table.items()
        ),
    ]
    (output_dir / "comparison.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    flat = {f"{arm}_{name}": value for arm, values in table.items() for name, value in values.items()}
    (output_dir / "all_results.json").write_text(json.dumps(flat, indent=4), encoding="utf-8")
    if find_spec("matplotlib") is not None:
        from .predictions import plot_comparison

        main = {arm: values[f"eval_{main_metric}"] for arm, values in table.items()}
        plot_comparison(main, main_metric, output_dir / "figures" / "comparison.png")
