"""Checks that a resumed run has the data and the settings of the run that saved the checkpoint."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from transformers.utils import logging

RUN_NAME = "run.json"
SAMPLED_ROWS = 32

# Settings that determine what a step computes. The length of a run, its logs, evaluations and saves may change.
ARGUMENTS = (
    "learning_rate weight_decay adam_beta1 adam_beta2 adam_epsilon optim optim_args lr_scheduler_type "
    "lr_scheduler_kwargs warmup_steps max_grad_norm seed data_seed bf16 fp16 dataloader_drop_last "
    "train_sampling_strategy max_tokens_per_batch label_smoothing_factor ema_decay ema_end_decay ema_anneal_steps "
    "layer_decay tri_stage freeze_encoder_steps freeze_convolutions"
).split()
# Loading the optimizer's state restores these.
RESTORED = ("learning_rate", "weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon")

logger = logging.get_logger(__name__)


def describe_arguments(arguments: Any) -> dict[str, Any]:
    """By name, those of ARGUMENTS that these arguments have."""
    return {name: getattr(arguments, name) for name in ARGUMENTS if hasattr(arguments, name)}


def describe_collator(collator: Any) -> dict[str, Any]:
    """By name, numbers and strings among the fields of a collator, and among those of its masks and crops."""
    if not dataclasses.is_dataclass(collator):
        return {}
    found: dict[str, Any] = {}
    for field in dataclasses.fields(collator):
        value = getattr(collator, field.name)
        if value is None or isinstance(value, bool | int | float | str):
            found[field.name] = value
        else:
            found |= {f"{field.name}.{name}": inner for name, inner in describe_collator(value).items()}
    return found


def describe_data(dataset: Any) -> dict[str, Any]:
    """The number of rows of training data and, for a `datasets.Dataset`, a digest of some rows from all parts of it.

    Files count by their names and sizes, so that the data may be moved. Streams have no length and give nothing.
    """
    if not hasattr(dataset, "__len__"):
        return {}
    described: dict[str, Any] = {"rows": len(dataset)}
    if isinstance(dataset, datasets.Dataset) and len(dataset):
        chosen = np.unique(np.linspace(0, len(dataset) - 1, SAMPLED_ROWS).round().astype(int))
        rows = dataset.with_format("arrow")[chosen.tolist()].to_pylist()
        described["digest"] = hashlib.sha256(repr([_movable(row) for row in rows]).encode()).hexdigest()
    return described


def _movable(value: Any) -> Any:
    """A value of a row, without the folders of its files."""
    if isinstance(value, Mapping):
        if set(value) == {"bytes", "path"}:
            path = value["path"]
            if value["bytes"] is not None or path is None:
                return value["bytes"]
            return os.path.basename(path), os.path.getsize(path) if os.path.isfile(path) else None
        return {name: _movable(inner) for name, inner in value.items()}
    return [_movable(inner) for inner in value] if isinstance(value, list) and value and _nests(value[0]) else value


def _nests(value: Any) -> bool:
    return isinstance(value, Mapping | list)


def write_run(folder: str | os.PathLike, data: dict[str, Any], settings: dict[str, Any]) -> None:
    """Write `run.json` into a checkpoint: which run it belongs to."""
    Path(folder, RUN_NAME).write_text(json.dumps(_plain({"data": data, "settings": settings}), indent=2), "utf-8")


def read_run(path: Path) -> dict[str, Any]:
    """What `write_run` wrote.

    Raises:
        ValueError: the file holds something else.
    """
    saved = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(saved, dict) or not all(isinstance(saved.get(part), dict) for part in ("data", "settings")):
        raise ValueError("there are no data and settings in it")
    return saved


def require_same_run(
    checkpoint: str | os.PathLike, data: dict[str, Any], settings: dict[str, Any], any_data: bool
) -> None:
    """Compare with what `write_run` wrote into a checkpoint; warn of settings that differ.

    Args:
        data, settings: of the run that resumes.
        any_data: warn of other data too, instead of refusing them.

    Raises:
        ValueError: the data differ.
    """
    path = Path(checkpoint, RUN_NAME)
    if not path.is_file():
        logger.warning(
            f"{checkpoint} has no {RUN_NAME}, by which data and settings are compared with those of the run that it "
            "is of: an earlier version or other software saved it. See to it that they are the same."
        )
        return
    saved = read_run(path)
    if saved["data"] and data and saved["data"] != data:
        before, now = saved["data"]["rows"], data["rows"]
        counts = f"{before} rows then, {now} now" if before != now else f"{now} rows as then, but other ones"
        message = (
            f"The training data differ from those of {checkpoint}: {counts}. Where the run stands in an epoch means "
            "nothing in other data."
        )
        if not any_data:
            raise ValueError(
                f"{message} Resume with the data that the run began with and the flags that choose rows (--seed, "
                "--max_train_samples, ...), or start a new run from its weights with --model_name_or_path. "
                "--ignore_data_skip true goes on with other data, from their beginning."
            )
        logger.warning(f"{message} With ignore_data_skip the run goes on from their beginning.")
    now_plain = _plain(settings)
    differing = [name for name, value in saved["settings"].items() if name in now_plain and now_plain[name] != value]
    for restored in (True, False):
        changes = [
            f"{name} was {saved['settings'][name]!r} and is {now_plain[name]!r}"
            for name in differing
            if (name in RESTORED) == restored
        ]
        if changes:
            outcome = (
                "The checkpoint's values are used, since they come with the optimizer's state; for others start a new "
                "run from its weights with --model_name_or_path."
                if restored
                else "The run goes on with the new values; to have the run that was begun, give those from before."
            )
            logger.warning(f"Settings differ from those of {checkpoint}: {'; '.join(changes)}. {outcome}")


def _plain(value: Any) -> Any:
    """The value as it comes back from JSON."""
    return json.loads(json.dumps(value, default=lambda odd: odd.value if isinstance(odd, Enum) else str(odd)))
