"""The model card of a run, README.md: what the model is, how to load it, what it learned from, and how good it is.

Its code loads the model from where the card lies. `hub/card.py` makes that of a repository of it.
"""

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from ..hub.card import encoder_section, full_section
from ..hub.layout import CARD, ENCODER_DIR
from ..modalities import modality_class
from ..training.monitoring.verdict import COLLAPSED, HEALTHY, PARTIAL, RISING, TOO_EARLY
from .card_sections import (
    NOUNS,
    amount,
    figures_section,
    joined,
    license_section,
    settings_section,
    table,
    training_data,
)
from .run_summary import RunSummary

if TYPE_CHECKING:
    from ..finetuning.tasks import Task

PAPERS = {
    "data2vec": "[data2vec](https://arxiv.org/abs/2202.03555)",
    "data2vec2": "[data2vec 2.0](https://arxiv.org/abs/2212.07525)",
}
_IDENTIFIERS = {"data2vec": "arxiv:2202.03555", "data2vec2": "arxiv:2212.07525"}

# The name of a metric in `all_results.json` without "init_" and "eval_", and what the card calls it.
MEASURES = {
    "linear_accuracy": "accuracy of a linear classifier",
    "knn_accuracy": "accuracy of nearest neighbours",
    "effective_rank": "effective rank of the features",
    "loss": "loss per masked position",
    "target_std": "spread of the targets",
    "prediction_std": "spread of the predictions",
}
_OF_SPEED = ("runtime", "per_second")  # endings of Trainer's metrics of speed
_HEALTH = {
    HEALTHY: "The run was healthy when it was last looked at",
    RISING: "The loss rose while the targets told more, which is normal",
    PARTIAL: "**Some features have collapsed**, so that they tell less than they could",
    COLLAPSED: "**The model has collapsed** to features that are nearly the same for all inputs. Do not use it",
}


def model_card(summary: RunSummary, output_dir: Path) -> str:
    """The text of the card in the output directory of a run. Links to figures are relative to it, and code loads the
    models from it; for the Hub, `hub_card` makes another of it."""
    text = _pretrained(summary, output_dir) if summary.task is None else _finetuned(summary, output_dir)
    return _card(summary, text)


def encoder_card(summary: RunSummary, output_dir: Path) -> str:
    """The text of the card in the folder of the encoder, without figures, which are not there."""
    return _card(summary, _pretrained(dataclasses.replace(summary, figures=()), output_dir, has_whole=False))


def _card(summary: RunSummary, text: str) -> str:
    return str(ModelCard(f"---\n{metadata(summary)}\n---\n\n{text}"))


def write_model_cards(output_dir: Path, summary: RunSummary) -> None:
    """Write README.md of a run into its output directory and, for a pre-training run, into that of the encoder."""
    (output_dir / CARD).write_text(model_card(summary, output_dir), encoding="utf-8")
    if summary.task is None:
        (output_dir / ENCODER_DIR / CARD).write_text(encoder_card(summary, output_dir), encoding="utf-8")


def metadata(summary: RunSummary) -> ModelCardData:
    """The head of the card, which the Hub reads."""
    modality = modality_class(summary.modality)
    objective = _objective(summary)
    if summary.task is None:
        tag: str | None = modality.pipeline_tag
        tags = ["data2vec", "self-supervised", _IDENTIFIERS[objective], summary.modality, summary.model_type]
    else:
        tag = _task(summary.task).pipeline_tag
        tags = ["data2vec", summary.task, summary.modality, summary.model_type]
    return ModelCardData(
        model_name=summary.name,
        library_name="transformers",
        pipeline_tag=tag,
        tags=list(dict.fromkeys(tags)),
        license=summary.license,
        language=list(summary.language) or None,
        base_model=summary.base_model,
        datasets=list(summary.datasets) or None,
        metrics=sorted({result.metric_type for result in _results(summary)}) or None,
        eval_results=_results(summary) or None,
    )


def _results(summary: RunSummary) -> list[EvalResult]:
    """The results of a run as the Hub lists them; those before training are in the card alone."""
    if summary.task is None:
        task, name = modality_class(summary.modality).probe_task, "classification of frozen features (probe)"
        found = {metric: ("accuracy", MEASURES[metric]) for metric in ("linear_accuracy", "knn_accuracy")}
    else:
        task, name = _task(summary.task).pipeline_tag or "other", _task_in_words(summary.task)
        found = {metric: (metric, metric.replace("_", " ")) for metric in _task_metrics(summary)}
    source = " and ".join(summary.sources)
    return [
        EvalResult(
            task_type=task,
            task_name=name,
            dataset_type=summary.datasets[0] if summary.datasets else source,
            dataset_name=source,
            dataset_split="validation",
            metric_type=kind,
            metric_name=label,
            metric_value=round(float(summary.results[f"eval_{metric}"]), 6),
        )
        for metric, (kind, label) in found.items()
        if math.isfinite(summary.results.get(f"eval_{metric}", math.nan))
    ]


def _task(name: str) -> "type[Task]":
    """The class of a fine-tuning task. It is imported for cards of fine-tuned models alone: tasks need all extras."""
    from ..finetuning.tasks import TASKS

    return TASKS[name]


def _task_metrics(summary: RunSummary) -> list[str]:
    """The metrics of a fine-tuned model, the main one first, without its loss and its speed."""
    names = [
        name.removeprefix("eval_")
        for name, value in summary.results.items()
        if name.startswith("eval_") and isinstance(value, int | float) and not name.endswith((*_OF_SPEED, "_loss"))
    ]
    return sorted(names, key=lambda name: (name != summary.main_metric, name))


def _task_in_words(task: str) -> str:
    return (_task(task).pipeline_tag or task).replace("-", " ")


def _objective(summary: RunSummary) -> str:
    return next((str(setting.value) for setting in summary.settings if setting.name == "objective"), "data2vec")


# --- pre-trained encoders


def _pretrained(summary: RunSummary, output_dir: Path, has_whole: bool = True) -> str:
    begun = "new, random weights" if summary.begun_from is None else f"the weights of {_weights(summary)}"
    return joined(
        [
            f"# {summary.name}",
            f"A `{summary.model_type}` encoder of {summary.num_parameters:,} parameters, pre-trained without labels "
            f"by {PAPERS[_objective(summary)]} on {training_data(summary)}: a student that sees part of the input "
            "predicts, at the masked places, what a slowly moving average of itself makes of the whole.",
            _loading_of_encoder(summary, output_dir, has_whole),
            f"## Training\n\nThe run began with {begun}. {amount(summary)}\n\n{_health(summary)}",
            _results_of_pretraining(summary),
            _limits_of_pretraining(summary),
            settings_section(summary),
            figures_section(summary),
            license_section(summary),
        ]
    )


def _weights(summary: RunSummary) -> str:
    name = summary.begun_from
    return f"`{name}`" if summary.base_model is None else f"[{name}](https://huggingface.co/{name})"


def _loading_of_encoder(summary: RunSummary, output_dir: Path, has_whole: bool) -> str:
    modality = modality_class(summary.modality)
    processor = None if modality.processor_class is None else modality.processor_class.__name__
    folder = output_dir.as_posix()
    encoder = encoder_section(folder, processor, modality.encoder_call)
    return joined(["## How to load", encoder, full_section(folder) if has_whole else ""])


def _health(summary: RunSummary) -> str:
    if summary.health == TOO_EARLY:
        return "The run ended too early for a verdict: whether it was healthy is not known."
    if summary.health not in _HEALTH:
        return "The health of the run was not measured."
    return f"{_HEALTH[summary.health]}: {summary.health_reason}."


def _results_of_pretraining(summary: RunSummary) -> str:
    rows = [
        (label, *(_number(name, summary.results.get(f"{prefix}_{name}")) for prefix in ("init", "eval")))
        for name, label in MEASURES.items()
        if f"eval_{name}" in summary.results
    ]
    if not rows:
        return "## Results\n\nNothing was measured on held-out data: the run had no validation rows."
    noun = NOUNS[summary.modality]
    probe = (
        "The first two are those of a probe: a linear classifier and nearest neighbours are fitted to the frozen "
        "features of labelled training rows, and tested on labelled validation rows. The encoder never saw a label."
    )
    return joined(
        [
            "## Results",
            f"On validation data that were not trained on, {summary.eval_rows:,} {noun}:",
            table(("measure", "before training", "after"), rows),
            probe if "eval_linear_accuracy" in summary.results else "",
        ]
    )


def _number(name: str, value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.1%}" if name.endswith("accuracy") else f"{value:.4g}"


def _limits_of_pretraining(summary: RunSummary) -> str:
    limits = [
        "The encoder gives features, not answers: it needs a head that is fine-tuned, or a classifier on top of it.",
        f"It has seen {training_data(summary)} and nothing else since it began. Other data may be strange to it, and "
        "whatever is one-sided in these is in its features.",
    ]
    before, after = (summary.results.get(f"{prefix}_linear_accuracy") for prefix in ("init", "eval"))
    if before is not None and after is not None and after < before:
        limits.append(
            "**The probe finds its features worse than those that it began with**: by this measure, the run was not "
            "worth it."
        )
    if after is None:
        limits.append("What its features are worth was not measured, since there were no labelled validation data.")
    if summary.health == TOO_EARLY:
        limits.append("It was trained for a very short time, too short for a verdict on its health.")
    return "## Limits\n\n" + "\n".join(f"- {limit}" for limit in limits)


# --- fine-tuned models

_LIMITS_OF_FINETUNED = """## Limits

- It gives an answer to whatever it is given, also to what is unlike its training data.
- Whatever is one-sided in the training data and their labels is in its answers. Measure it on data of your own before
  you rely on it."""


def _finetuned(summary: RunSummary, output_dir: Path) -> str:
    task = _task_in_words(str(summary.task))
    trained = (
        f"trained from new weights on {training_data(summary)}"
        if summary.method == "from_scratch" or summary.begun_from is None
        else f"made of the encoder {_weights(summary)} by fine-tuning on {training_data(summary)} with labels"
    )
    labels = f" Its {len(summary.labels)} classes are {_listed(summary.labels)}." if summary.labels else ""
    return joined(
        [
            f"# {summary.name}",
            f"A `{summary.model_type}` model of {summary.num_parameters:,} parameters for {task}, {trained}.{labels}",
            _loading_of_finetuned(summary, output_dir),
            f"## Training\n\n{amount(summary)}",
            _results_of_finetuning(summary),
            _LIMITS_OF_FINETUNED,
            settings_section(summary),
            figures_section(summary),
            license_section(summary),
        ]
    )


def _listed(names: Any, most: int = 12) -> str:
    shown = ", ".join(f"`{name}`" for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def _loading_of_finetuned(summary: RunSummary, output_dir: Path) -> str:
    place = output_dir.as_posix()
    task = _task(str(summary.task))
    modality = modality_class(summary.modality)
    trust = ", trust_remote_code=True" if summary.has_own_code else ""
    note = "It runs code that is saved with the model. Read it first." if summary.has_own_code else ""
    names = [name for name in (summary.processor_class, summary.auto_class) if name]
    lines = [f"from transformers import {', '.join(sorted(names))}", ""]
    if summary.processor_class is not None:
        lines.append(f'processor = {summary.processor_class}.from_pretrained("{place}")')
    lines += [
        f'model = {summary.auto_class}.from_pretrained("{place}"{trust})',
        f"outputs = model({task.model_call or modality.encoder_call})",
    ]
    pipeline = ""
    if task.pipeline_tag is not None:
        pipeline = f"""
```python
from transformers import pipeline

answer = pipeline("{task.pipeline_tag}", model="{place}"{trust})
answer({task.pipeline_input})
```

or, by hand:
"""
    return f"## How to load\n{pipeline}\n```python\n" + "\n".join(lines) + f"\n```\n\n{note}"


def _results_of_finetuning(summary: RunSummary) -> str:
    rows = [(name.replace("_", " "), f"{summary.results[f'eval_{name}']:.4g}") for name in _task_metrics(summary)]
    compared = ""
    if summary.comparison:
        compared = f"### Compared with other ways to train on the same rows\n\n{summary.comparison}"
    held_out = f"On {summary.eval_rows:,} {NOUNS[summary.modality]} that were not trained on:"
    return joined(["## Results", held_out, table(("metric", "value"), rows), compared])
