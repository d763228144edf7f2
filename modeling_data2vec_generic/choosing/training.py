"""Batch, length, learning rate, teacher, looks and precision of a run, by its data, its encoder and its device."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..cli.flags import Chosen
from . import constants
from .constants import Kind
from .device import Device
from .plan import Plan, in_words
from .tried import Tried


@dataclass(frozen=True)
class Steps:
    """The optimizer steps of a run.

    Args:
        number: of steps.
        batch: samples of a step, on all devices together.
        settings: what of them was chosen.
    """

    number: int
    batch: int
    settings: Mapping[str, Chosen]


def steps_of(
    kind: Kind, tried: Tried, plan: Plan, cost: tuple[float, float], device: Device, given: Mapping[str, Any]
) -> Steps:
    """Batch and length of the run.

    Args:
        kind, plan: the data, and the encoder for them.
        tried: the settings for an encoder of its size.
        cost: seconds of all devices together and bytes of memory that a step takes per sample, as estimated.
        device: what the run computes on.
        given: the flags that were given, by name.
    """
    per_sample, memory = cost
    batch, settings = _batch(tried, kind, plan, memory, device, given)
    if "max_steps" in given:
        return Steps(given["max_steps"], batch, settings)
    assert plan.samples is not None  # streams need --max_steps
    if "num_train_epochs" in given:
        return Steps(math.ceil(given["num_train_epochs"] * plan.samples / batch), batch, settings)
    allowed = constants.CPU_MINUTES * 60 if device.is_cpu else constants.GPU_HOURS * 3600
    limits = {
        _in_time(device): allowed / (per_sample * batch),
        f"{kind.most_epochs} passes over {plan.samples:,} samples": kind.most_epochs * plan.samples / batch,
        "longer runs were not tried at this size": tried.most_steps * tried.batch / batch,
    }
    reason = min(limits, key=lambda limit: limits[limit])
    number = _rounded(limits[reason])
    if number < constants.FEWEST_STEPS:
        reason = f"hardly anything is learned in fewer; {reason} would be {number}"
        number = constants.FEWEST_STEPS
    passes = number * batch / plan.samples
    settings = {**settings, "max_steps": Chosen(number, f"{reason}; {in_words(passes)} passes over the data")}
    return Steps(number, batch, settings)


def _in_time(device: Device) -> str:
    allowed = f"{constants.CPU_MINUTES} minutes" if device.is_cpu else f"{constants.GPU_HOURS} hours"
    return f"as many as take about {allowed} on {device}, as estimated"


def _batch(
    tried: Tried, kind: Kind, plan: Plan, memory: float, device: Device, given: Mapping[str, Any]
) -> tuple[int, dict[str, Chosen]]:
    """Samples of a step, and the flags that say so."""
    accumulated = given.get("gradient_accumulation_steps", 1)
    if "max_tokens_per_batch" in given:
        fitting = max(1, given["max_tokens_per_batch"] // plan.positions)
        return fitting * accumulated * device.processes, {}
    if "per_device_train_batch_size" in given:
        return given["per_device_train_batch_size"] * accumulated * device.processes, {}
    wanted, reason = tried.batch, f"a usual one for {kind.noun} and an encoder of this size"
    if plan.samples is not None and (most := _power_of_two(plan.samples / constants.FEWEST_BATCHES)) < wanted:
        wanted = min(wanted, max(constants.SMALLEST_BATCH, most))
        reason = f"so that {plan.samples:,} samples make several batches"
    own = math.ceil(wanted / device.processes)
    fits = max(1, _power_of_two(constants.MEMORY_SHARE * device.memory / memory))
    if "gradient_accumulation_steps" not in given:
        accumulated = math.ceil(own / fits)
    own = math.ceil(own / accumulated)
    shared = f", shared by {device.processes} processes" if device.processes > 1 else ""
    chosen = {"per_device_train_batch_size": Chosen(own, f"{reason}: {wanted} samples per step{shared}")}
    if accumulated > 1:
        why = f"the memory of the device holds {fits} samples or so at a time"
        chosen["gradient_accumulation_steps"] = Chosen(accumulated, why)
    return own * accumulated * device.processes, chosen


def training_settings(
    kind: Kind,
    tried: Tried,
    steps: Steps,
    seconds: float,
    device: Device,
    evaluates: bool,
    given: Mapping[str, Any],
) -> dict[str, Chosen]:
    """All other settings of the training.

    Args:
        steps: of the run.
        seconds: that a step takes, as estimated.
        evaluates: whether there are validation rows.
    """
    return {
        "learning_rate": _learning_rate(tried, steps.batch),
        "lr_scheduler_type": Chosen("cosine", "it suits runs of any length"),
        "warmup_steps": Chosen(0.1, "a tenth of the run, as in the small recipes"),
        **tried.optimizer,
        **_teacher(kind, tried, steps.number, given),
        **_looks(steps, seconds, device, evaluates, given),
        **_on_device(steps, device, given),
    }


def _learning_rate(tried: Tried, batch: int) -> Chosen:
    rate = _rounded_float(tried.learning_rate * math.sqrt(batch / tried.batch))
    if batch == tried.batch:
        return Chosen(rate, f"that of an encoder of this size with a batch of {batch}")
    return Chosen(
        rate, f"{tried.learning_rate:g} for a batch of {tried.batch}, times the square root of {batch}/{tried.batch}"
    )


def _teacher(kind: Kind, tried: Tried, steps: int, given: Mapping[str, Any]) -> dict[str, Chosen]:
    by_steps = tried.teacher if tried.teacher is not None and tried.is_objective_of(given) else kind.teacher
    start, end = next(decays for most, decays in by_steps.items() if steps <= most)
    start, end = min(start, given.get("ema_end_decay", 1.0)), max(end, given.get("ema_decay", 0.0))
    return {
        "ema_decay": Chosen(start, f"at first it forgets half of its weights in {_half_life(start)} steps"),
        "ema_end_decay": Chosen(
            end, f"at the end in {_half_life(end)}, of the {in_words(steps)} steps over which the decay rises"
        ),
    }


def _half_life(decay: float) -> str:
    return in_words(math.log(2) / -math.log(decay)) if 0 < decay < 1 else "no" if decay == 0 else "any number of"


def _looks(
    steps: Steps, seconds: float, device: Device, evaluates: bool, given: Mapping[str, Any]
) -> dict[str, Chosen]:
    """Evaluations, saves and logs."""
    chosen = {"logging_steps": Chosen(0.01, "a hundred lines in a run")} if _by_steps("logging", given) else {}
    count = constants.EVALUATIONS_ON_CPU if device.is_cpu else constants.EVALUATIONS_ON_GPU
    if evaluates:
        chosen["eval_strategy"] = Chosen("steps", "there are validation rows")
        if given.get("eval_strategy", "steps") == "steps":
            slow = ", since the probe takes time of the same threads" if device.is_cpu else ""
            chosen["eval_steps"] = Chosen(1 / count, f"{count} evaluations in a run{slow}")
        if device.is_cpu:
            fitted, tested = constants.PROBE_ON_CPU
            chosen["probe_train_samples"] = Chosen(fitted, "so that a probe takes seconds on a CPU")
            chosen["probe_test_samples"] = Chosen(tested, "the same")
    if _by_steps("save", given):
        often = min(1 / count, constants.SECONDS_BETWEEN_SAVES / (steps.number * seconds))
        if given.get("load_best_model_at_end"):
            chosen["save_steps"] = Chosen(1 / count, "with each evaluation, of which the best is loaded")
        elif often < 1 / count:
            number = max(1, round(often * steps.number))
            chosen["save_steps"] = Chosen(number, "a checkpoint in half an hour or so")
        else:
            chosen["save_steps"] = Chosen(1 / count, f"{count} checkpoints in a run")
        chosen["save_total_limit"] = Chosen(2, "older checkpoints are deleted")
    return chosen


def _by_steps(name: str, given: Mapping[str, Any]) -> bool:
    """Whether logs or saves happen after so many steps, which is the default."""
    return bool(given.get(f"{name}_strategy", "steps") == "steps")


def _on_device(steps: Steps, device: Device, given: Mapping[str, Any]) -> dict[str, Chosen]:
    own = steps.settings.get("per_device_train_batch_size")
    trained = given.get("per_device_train_batch_size", 64 if own is None else own.value)
    chosen = {
        "per_device_eval_batch_size": Chosen(min(256, 2 * trained), "twice the batch, since nothing goes backward")
    }
    if device.is_cpu:
        return chosen
    if device.bf16 and not given.get("fp16"):
        chosen["bf16"] = Chosen(True, "the GPU computes in bfloat16, in which it is faster")
    workers = max(0, min(constants.MOST_WORKERS, device.cores // device.processes - 1))
    chosen["dataloader_num_workers"] = Chosen(
        workers, f"{device.cores} cores, of which each process needs one for itself"
    )
    return chosen


def _power_of_two(number: float) -> int:
    """The largest power of two that is not above a number; 0 below one."""
    return 2 ** math.floor(math.log2(number)) if number >= 1 else 0


def _rounded(number: float) -> int:
    """A number of steps in two significant digits, not above it; 0 below one."""
    if number < 1:
        return 0
    unit = 10 ** max(0, math.floor(math.log10(number)) - 1)
    return int(number // unit * unit)


def _rounded_float(number: float) -> float:
    return float(f"{number:.2g}")
