"""What a finished run tells about itself: the contents of its model card."""

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments

from ..data.arguments import SOURCE_FLAGS, VALIDATION_FLAGS, DataArguments
from ..data.sources.built_in import BUILT_IN
from ..training.arguments import ModelArguments
from ..training.monitoring.health import verdict_of
from .provenance import Setting, settings_that_matter

_OF_PATHS = (*SOURCE_FLAGS, *VALIDATION_FLAGS, "model_name_or_path", "config_name", "processor_name")
_PACKAGES = ("modeling_data2vec_generic", "transformers", "torch", "datasets")


@dataclass(frozen=True)
class RunSummary:
    """The contents of a model card.

    Args:
        name: title of the card.
        model_type: the encoder's `config.model_type`.
        modality: the name of a modality.
        num_parameters: of the encoder, without teacher and predictor; of the whole model if it is fine-tuned.
        begun_from: the Hub id or the folder's name of the weights that the run began with; None for new ones.
        base_model: the same, if it is a Hub id.
        sources: names of the sources of training rows, without the folders that they lie in.
        datasets: those of them that are datasets of the Hub.
        source_rows: rows of training data.
        train_rows, eval_rows: samples that were made of them, and of validation rows; None if they are not known
            (streams) or there are none.
        steps: optimizer steps.
        samples: samples that were trained on, in all steps together.
        epochs: passes over the training data; None for streams.
        seconds: how long the training took, with its evaluations.
        hardware: what it ran on, in words.
        settings: those that determine the result.
        results: contents of `all_results.json`.
        health, health_reason: the last verdict on the health of a pre-training run, and what shows it.
        figures: of each figure its path from the directory of the card, and a sentence on what it shows.
        license: identifier of the Hub, such as "apache-2.0".
        language: codes such as "en".
        versions: of the software, by name.
        task: name of the task, if the model is fine-tuned.
        auto_class: the Auto class of transformers that loads a fine-tuned model.
        processor_class: the one that loads its processor; None if there is none.
        has_own_code: whether loading the model runs code that is saved with it.
        main_metric: the metric that counts most for the task.
        labels: names of the classes of the task.
        comparison: a Markdown table of this and other ways to train on the same rows; empty if there were none.
        method: how a fine-tuned model was trained: "finetuned" or "from_scratch".
    """

    name: str
    model_type: str
    modality: str
    num_parameters: int
    begun_from: str | None = None
    base_model: str | None = None
    sources: Sequence[str] = ()
    datasets: Sequence[str] = ()
    source_rows: int | None = None
    train_rows: int | None = None
    eval_rows: int | None = None
    steps: int = 0
    samples: int = 0
    epochs: float | None = None
    seconds: float = 0.0
    hardware: str = ""
    settings: Sequence[Setting] = ()
    results: Mapping[str, Any] = field(default_factory=dict)
    health: str = ""
    health_reason: str = ""
    figures: Sequence[tuple[str, str]] = ()
    license: str | None = None
    language: Sequence[str] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    task: str | None = None
    auto_class: str = ""
    processor_class: str | None = None
    has_own_code: bool = False
    main_metric: str = ""
    labels: Sequence[str] = ()
    comparison: str = ""
    method: str = "finetuned"


def about_weights(arguments: ModelArguments) -> dict[str, Any]:
    """`begun_from` and `base_model`."""
    source = arguments.model_name_or_path
    if source is None:
        return {}
    folder = Path(source)
    if not folder.is_dir():
        return {"begun_from": source, "base_model": source}
    parts = folder.resolve().parts[-2:]  # "encoder" alone would say nothing
    return {"begun_from": "/".join(parts) if parts[-1] == "encoder" else parts[-1]}


def about_data(arguments: DataArguments) -> dict[str, Any]:
    """`sources` and `datasets`."""
    given = [(flag, value) for flag in SOURCE_FLAGS for value in getattr(arguments, flag) or ()]
    local = {value for flag, value in given if flag != "dataset_name" or os.path.exists(value)}
    names = [Path(value).resolve().name if value in local else value for _, value in given]
    of_hub = [value for _, value in given if value not in local and value not in BUILT_IN]
    return {"sources": names, "datasets": of_hub}


def about_training(trainer: Any, rows: int | None) -> dict[str, Any]:
    """`steps`, `samples`, `epochs`, `seconds`, `hardware` and `train_rows` of a trainer that has trained.

    Args:
        rows: samples of the training data; None for streams.
    """
    state, args = trainer.state, trainer.args
    runtimes = [entry["train_runtime"] for entry in state.log_history if "train_runtime" in entry]
    per_step = trainer.get_total_train_batch_size(args)
    return {
        "steps": state.global_step,
        "samples": round(state.epoch * rows) if rows and state.epoch else state.global_step * per_step,
        "epochs": state.epoch if rows else None,
        "seconds": runtimes[-1] if runtimes else 0.0,
        "hardware": hardware(args),
        "train_rows": rows,
    }


def about_health(log_history: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """`health` and `health_reason`."""
    states = [entry["health"] for entry in log_history if "health" in entry]
    if not states:
        return {}
    return {"health": states[-1], "health_reason": verdict_of(log_history).reason}


def about_card(arguments: Any, settings: Sequence[Setting]) -> dict[str, Any]:
    """`license`, `language`, `settings` and `versions`."""
    return {
        "license": arguments.license,
        "language": arguments.language or [],
        "settings": [_without_folders(setting) for setting in settings_that_matter(settings)],
        "versions": {"Python": platform.python_version()} | _versions(),
    }


def _without_folders(setting: Setting) -> Setting:
    """The setting without the folders of the files that it names, which say more about a machine than about a run."""
    if setting.name not in _OF_PATHS:
        return setting
    values = setting.value if isinstance(setting.value, list) else [setting.value]
    names = [Path(value).resolve().name if os.path.exists(value) else value for value in values]
    return replace(setting, value=names if isinstance(setting.value, list) else names[0])


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # this package, run from a clone where it is not installed
            continue
    return found


def hardware(arguments: TrainingArguments) -> str:
    """What a run with these arguments runs on, in words: "2 NVIDIA H200", "a CPU with 8 cores"."""
    if arguments.device.type == "cuda":
        return f"{arguments.world_size} {torch.cuda.get_device_name(arguments.device)}"
    if arguments.device.type != "cpu":
        return f"{arguments.world_size} devices of type {arguments.device.type}"
    processes = f" ({arguments.world_size} processes)" if arguments.world_size > 1 else ""
    return f"a CPU with {os.cpu_count()} cores{processes}"
