"""Reports of a fine-tuning run: predictions, figures and the table of a comparison."""

import dataclasses
import json
import statistics
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import transformers
from datasets import Dataset
from scipy.stats import t as student_t
from transformers import PreTrainedModel
from transformers.utils import logging

from ..configuration_data2vec_generic import Data2VecGenericConfig
from ..finetuning.tasks import Task
from ..finetuning.trainer import FinetuningTrainer
from ..modeling_data2vec_generic import Data2VecGenericPreTrainedModel
from .model_card import write_model_cards
from .run_summary import RunSummary, about_data, about_training, about_weights

logger = logging.get_logger(__name__)

# What the figures show that tasks draw, by the names of their files.
_CAPTIONS = {
    "confusion": "Which classes are taken for which.",
    "confusions": "Which characters are taken for which.",
    "errors": "Samples that the model was wrong about.",
}
_OF_SPEED = ("_runtime", "_per_second")  # endings of Trainer's metrics of speed, which are not compared


def report_predictions(task: Any, result: Any, dataset: Dataset, paths: Mapping[int, str], output_dir: Path) -> None:
    """Write `predictions.jsonl` and, if matplotlib is installed, `figures/*.png`.

    Args:
        task: the `Task`.
        result: the `RunResult` on `dataset`.
        dataset: the validation samples.
        paths: paths of the rows' files, by the number of the row in the source. Rows may have none.
        output_dir: where the files are written.
    """
    with open(output_dir / "predictions.jsonl", "w", encoding="utf-8") as file:
        for row in task.predictions(result.logits, result.labels, dataset):
            number = row["id"]
            named = {"id": number, "path": paths[number]} if number in paths else {}
            file.write(json.dumps(named | row, ensure_ascii=False) + "\n")
    if find_spec("matplotlib") is None:
        logger.warning("matplotlib is not installed, so no figures are drawn: `pip install matplotlib`.")
        return
    task.draw(result.logits, result.labels, dataset, output_dir / "figures")
    task.draw_shown(result.shown, dataset, output_dir / "figures")


def summary_of(
    task: Task,
    trainer: FinetuningTrainer,
    samples: Mapping[str, Dataset],
    metrics: Mapping[str, Any],
    method: str,
    name: str,
) -> RunSummary:
    """What the model card of a trained model tells, but for the settings, the figures and the comparison.

    Args:
        task: fitted to the encoder.
        trainer: has trained the model.
        samples: prepared samples, "train" and "validation".
        metrics: of the validation samples, with "eval_" in front.
        method: "finetuned" or "from_scratch".
        name: title of the card.
    """
    model: Any = trainer.model
    config = model.config
    encoder_config: Any = config.encoder_config if isinstance(config, Data2VecGenericConfig) else config
    is_classifier = getattr(config, "problem_type", None) != "regression"
    labels = [name for name in config.id2label.values() if not str(name).startswith("LABEL_")] if is_classifier else []
    weights = about_weights(task.model_args) if method == "finetuned" else {}
    return RunSummary(
        name=name,
        model_type=encoder_config.model_type,
        modality=task.modality_name,
        num_parameters=model.num_parameters(),
        eval_rows=len(samples["validation"]),
        results=dict(metrics),
        task=task.name,
        auto_class=_class_to_load(task.auto_class, model),
        processor_class=None if task.processor_class is None else task.processor_class.__name__,
        has_own_code=isinstance(model, Data2VecGenericPreTrainedModel),
        main_metric=task.main_metric,
        labels=labels,
        method=method,
        **weights,
        **about_data(task.data_args),
        **about_training(trainer, len(samples["train"])),
    )


def _class_to_load(auto_class: Any, model: PreTrainedModel) -> str:
    """The name of a class of transformers that loads a model: an Auto class where it has one for the task.

    It has none for series. Those with our head are loaded by another Auto class that knows the head.
    """
    name = getattr(auto_class, "__name__", "")
    if hasattr(transformers, name):
        return name
    others = [name for name in getattr(model.config, "auto_map", None) or {} if name.startswith("AutoModelFor")]
    return others[0] if others else type(model).__name__


def write_finetuned_card(run_dir: Path, summary: RunSummary) -> None:
    """Write the model card of one run into the folder of its model, with the figures that lie there."""
    drawn = [(f"figures/{name}.png", caption) for name, caption in _CAPTIONS.items()]
    figures = [(path, caption) for path, caption in drawn if (run_dir / path).is_file()]
    write_model_cards(run_dir, dataclasses.replace(summary, figures=figures))


def compared(
    metrics: Mapping[str, Sequence[Mapping[str, float]]], main_metric: str
) -> dict[str, dict[str, list[float]]]:
    """For each method, the values of each metric that all of its runs and all other methods have, speed left out.

    Args:
        metrics: for each method that was run, the metrics of each seed.
        main_metric: the metric that comes first, without "eval_" in front.
    """
    shared = set.intersection(*(set(values) for runs in metrics.values() for values in runs))
    names = sorted(
        (name for name in shared if not name.endswith(_OF_SPEED)),
        key=lambda name: (name != f"eval_{main_metric}", name),
    )
    return {method: {name: [values[name] for values in runs] for name in names} for method, runs in metrics.items()}


def summarised(table: Mapping[str, Mapping[str, Sequence[float]]]) -> dict[str, float]:
    """The values of a comparison as `all_results.json` holds them: of several seeds means and 95% confidence intervals
    ("_ci95"), and of several methods with the method in front of each name."""
    results = {method: _summary(columns) for method, columns in table.items()}
    if len(results) == 1:
        return next(iter(results.values()))
    return {f"{method}_{name}": value for method, values in results.items() for name, value in values.items()}


def report_comparison(
    table: Mapping[str, Mapping[str, Sequence[float]]], seeds: Sequence[int], main_metric: str, output_dir: Path
) -> str:
    """Write `comparison.json`, `comparison.md`, `all_results.json` and `figures/comparison.png`.

    With several seeds, they hold means and 95% confidence intervals.

    Args:
        table: what `compared` returns.
        seeds: of the runs, in the order of the values.
        main_metric: the metric that is drawn, without "eval_" in front.
        output_dir: where the files are written. The figure needs matplotlib.

    Returns:
        The text of `comparison.md`.
    """
    names = list(next(iter(table.values())))
    results = {method: _summary(columns) for method, columns in table.items()}
    by_seed = {method: results[method] | {"by_seed": dict(table[method])} for method in table}
    comparison = by_seed if len(seeds) > 1 else results
    (output_dir / "comparison.json").write_text(json.dumps(comparison, indent=4), encoding="utf-8")
    (output_dir / "all_results.json").write_text(json.dumps(summarised(table), indent=4), encoding="utf-8")
    lines = [
        "| | " + " | ".join(name.removeprefix("eval_").replace("_", " ") for name in names) + " |",
        "|---" * (len(names) + 1) + "|",
        *(
            f"| {method.replace('_', ' ')} | " + " | ".join(_cell(values, name) for name in names) + " |"
            for method, values in results.items()
        ),
    ]
    if len(seeds) > 1:
        listed = ", ".join(str(seed) for seed in seeds)
        lines += ["", f"Mean and 95% confidence interval (Student's t) over the seeds {listed}."]
    text = "\n".join(lines) + "\n"
    (output_dir / "comparison.md").write_text(text, encoding="utf-8")
    if find_spec("matplotlib") is not None:
        from ..figures.predictions import plot_comparison

        name = f"eval_{main_metric}"
        main = {method: (values[name], values.get(f"{name}_ci95")) for method, values in results.items()}
        plot_comparison(main, main_metric, output_dir / "figures" / "comparison.png")
    return text


def half_interval(values: Sequence[float]) -> float:
    """Half the width of the 95% confidence interval of the mean of two or more values, by Student's t."""
    quantile = float(student_t.ppf(0.975, len(values) - 1))
    return quantile * statistics.stdev(values) / len(values) ** 0.5


def _summary(columns: Mapping[str, Sequence[float]]) -> dict[str, float]:
    means = {name: statistics.fmean(values) for name, values in columns.items()}
    halves = {f"{name}_ci95": half_interval(values) for name, values in columns.items() if len(values) > 1}
    return means | halves


def _cell(values: Mapping[str, float], name: str) -> str:
    half = values.get(f"{name}_ci95")
    return f"{values[name]:.4f}" + ("" if half is None else f" ± {half:.4f}")
