"""Checks of a run's settings, made before any data are read."""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainingArguments, get_scheduler
from transformers.integrations import (
    INTEGRATION_TO_CALLBACK,
    get_available_reporting_integrations,
    is_deepspeed_available,
)
from transformers.utils import is_liger_kernel_available

from ..errors import as_value_error
from ..versions import CHECKPOINTING_NAMES

LARGEST_SEED = 2**32 - 1  # of numpy's generators
# The smallest value of each; None is allowed.
_AT_LEAST: Mapping[str, int] = {
    "per_device_train_batch_size": 1,
    "per_device_eval_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "eval_accumulation_steps": 1,
    "torch_empty_cache_steps": 1,
    "dataloader_prefetch_factor": 1,
    "dataloader_num_workers": 0,
    "learning_rate": 0,
    "weight_decay": 0,
    "warmup_steps": 0,
    "max_grad_norm": 0,
    "adam_epsilon": 0,
    "neftune_noise_alpha": 0,
    "eval_delay": 0,
    "save_total_limit": 0,
}
_EVERY = ("logging", "eval", "save")  # each has a strategy, and a number of steps
_FILES_OR_JSON = ("accelerator_config", "fsdp_config", "deepspeed")
_JSON = ("lr_scheduler_kwargs", *(f"{name}_kwargs" for name in CHECKPOINTING_NAMES))


def check_ranges(arguments: TrainingArguments) -> None:
    """Raise a ValueError that names the first setting out of its range. Called before transformers reads any."""
    for name, lowest in _AT_LEAST.items():
        _require(arguments, name, lowest)
    for name in ("seed", "data_seed"):
        check_seed(name, getattr(arguments, name))
    for name in ("adam_beta1", "adam_beta2"):
        if not 0 <= getattr(arguments, name) < 1:
            raise ValueError(f"{name}={getattr(arguments, name)} is a share of the old average: it must be in [0, 1).")
    if arguments.max_steps != -1 and arguments.max_steps < 1:
        raise ValueError(
            f"max_steps={arguments.max_steps} must be 1 or more. Leave it out to train for num_train_epochs."
        )
    epochs = arguments.num_train_epochs
    if arguments.max_steps == -1 and not (epochs > 0 and math.isfinite(epochs)):
        raise ValueError(f"num_train_epochs={epochs} must be a number above 0: no step would be taken.")
    for name in _EVERY:
        steps = getattr(arguments, f"{name}_steps")
        strategy = getattr(arguments, f"{name}_strategy")
        if strategy == "steps" and steps is not None and not (steps > 0 and math.isfinite(steps)):
            raise ValueError(
                f"{name}_steps={steps} must be a number of steps above 0, or a share of all below 1. For none, set "
                f"{name}_strategy=no."
            )
    if arguments.deepspeed and not is_deepspeed_available():
        raise ValueError(_missing("deepspeed", "deepspeed"))
    _check_json(arguments)


def check_card(arguments: Any) -> None:
    """Raise ValueError if the Hub would refuse the licence or a language of the model card."""
    if arguments.license is not None and not re.fullmatch(r"[a-z0-9]+([.+-][a-z0-9.+]+)*", arguments.license):
        raise ValueError(
            f"license={arguments.license!r} is no identifier of a licence. Those of the Hub are in lower case and "
            "without spaces, such as apache-2.0, mit, cc-by-4.0 or other."
        )
    for code in arguments.language or ():
        if not re.fullmatch(r"[a-z]{2,3}(-[A-Za-z0-9]+)*|code|multilingual", code):
            raise ValueError(
                f"language={code!r} is no code of a language: give two or three letters (ISO 639), such as en or de, "
                "or multilingual."
            )


def check_seed(name: str, value: int | None) -> None:
    """Raise ValueError if this value of the flag `name` can't seed random numbers."""
    if value is not None and not 0 <= value <= LARGEST_SEED:
        raise ValueError(f"{name}={value} must be between 0 and {LARGEST_SEED}.")


def check_packages(arguments: TrainingArguments) -> None:
    """Raise a ValueError that names a missing package, or says why the optimizer or the schedule cannot be made.

    Called after transformers has read the settings.
    """
    known, installed = sorted(INTEGRATION_TO_CALLBACK), get_available_reporting_integrations()
    for name in arguments.report_to or []:
        if name not in known:
            raise ValueError(f"report_to={name!r} is unknown: choose among {', '.join(known)}, all or none.")
        if name not in installed and name != "flyte":  # transformers can't tell whether flyte is installed
            raise ValueError(_missing(f"report_to={name!r}", name))
    if arguments.use_liger_kernel and not is_liger_kernel_available():
        raise ValueError(_missing("use_liger_kernel", "liger-kernel"))
    if arguments.optim_target_modules is None:  # otherwise it is made for layers of the model
        with as_value_error(
            f"optim={_plain(arguments.optim)!r} cannot be used",
            "Install what it needs, or choose another with --optim.",
        ):
            Trainer.get_optimizer_cls_and_kwargs(arguments, torch.nn.Identity())  # type: ignore[arg-type]
    with as_value_error(
        f"lr_scheduler_type={_plain(arguments.lr_scheduler_type)!r} cannot be used with lr_scheduler_kwargs="
        f"{arguments.lr_scheduler_kwargs}",
        "Change these, or choose another schedule.",
    ):
        get_scheduler(
            arguments.lr_scheduler_type,
            optimizer=torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0),
            num_warmup_steps=1,
            num_training_steps=10,
            scheduler_specific_kwargs=arguments.lr_scheduler_kwargs,  # type: ignore[arg-type]  # it has been read
        )


def check_evaluation(arguments: TrainingArguments, has_rows: bool) -> None:
    """Raise ValueError if evaluations are asked for and there are no rows to evaluate on."""
    if has_rows or not (arguments.eval_on_start or arguments.eval_strategy != "no"):
        return
    asked = "eval_on_start" if arguments.eval_on_start else f"eval_strategy={_plain(arguments.eval_strategy)}"
    raise ValueError(
        f"{asked} asks for evaluations, and there are no validation rows: the source has none, and none are held out. "
        "Give --validation_file or --validation_dir, more data with a larger --validation_split_percentage (not of "
        "streams), or set --eval_strategy no."
    )


def refuse_several_devices(arguments: TrainingArguments) -> None:
    """Make sure that this process trains on one GPU at most.

    transformers' Trainer would wrap the model in `nn.DataParallel`, whose replicas share the hooks by which masks go
    in and targets come out, so that losses would be wrong without an error.

    Raises:
        ValueError: the process sees several GPUs, and no launcher has started one process for each.
    """
    count = arguments.n_gpu
    if count > 1:
        raise ValueError(
            f"This process sees {count} GPUs, and one process can't train on several: nn.DataParallel, which Trainer "
            "would use, shares hooks between its replicas and gives wrong losses. Start one process for each GPU with "
            f"`torchrun --nproc_per_node {count} SCRIPT.py FLAGS` or `accelerate launch --num_processes {count} "
            "SCRIPT.py FLAGS`, in place of `python SCRIPT.py FLAGS`. To train on one GPU alone, set "
            "CUDA_VISIBLE_DEVICES=0."
        )


def _require(arguments: TrainingArguments, name: str, lowest: int) -> None:
    value = getattr(arguments, name)
    if value is not None and not (value >= lowest and math.isfinite(value)):
        raise ValueError(f"{name}={value} must be {lowest} or more.")


def _plain(value: Any) -> str:
    """A setting that transformers keeps as an enumeration, as it is written in the flag."""
    return str(getattr(value, "value", value))


def _missing(setting: str, package: str) -> str:
    return (
        f"{setting} needs the package {package}, which is not installed. Install it (pip install {package}), or leave "
        "the flag out."
    )


def _check_json(arguments: TrainingArguments) -> None:
    for name in (*_FILES_OR_JSON, *_JSON):
        value: Any = getattr(arguments, name)
        if not isinstance(value, str):
            continue
        if value.startswith("{"):
            try:
                json.loads(value)
            except ValueError as error:
                raise ValueError(f"{name}={value!r} is not valid JSON: {error}.") from error
        elif name in _JSON or not Path(value).is_file():
            kinds = "an object in JSON" if name in _JSON else "a JSON file, or an object in JSON"
            raise ValueError(f"{name}={value!r} is not {kinds}, such as '{{\"name\": 1}}'. Check it.")
