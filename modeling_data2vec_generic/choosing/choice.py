"""All settings of a run, chosen for its data and its device: what the other files choose, put together."""

import math
from collections.abc import Mapping
from importlib import import_module
from types import ModuleType
from typing import Any

from datasets import Dataset

from ..cli.flags import Chosen
from ..data.arguments import DataArguments
from ..modalities.presets import preset_of
from . import constants
from .constants import KINDS
from .cost import Work
from .device import Device
from .plan import Look, Plan, Scale, scale_for
from .training import steps_of, training_settings
from .tried import MASKS, Tried, tried_with


def look_at(raw: Dataset, modality: str, args: DataArguments) -> Look:
    """Describes training rows by some of them.

    Args:
        raw: the rows, as `load_raw_datasets` gives them; of a stream its first rows.
        modality: what they are.
        args: the flags.

    Raises:
        ValueError: nothing that was looked at can be read.
    """
    found: Look = _kind_of_data(modality).look(raw, None if args.streaming else len(raw), args)
    return found


def choose(seen: Look, device: Device, given: Mapping[str, Any], modality: str, evaluates: bool) -> dict[str, Chosen]:
    """The settings of a run that names no encoder, by flag, each with its reason. It depends on nothing else.

    Args:
        seen: a look at the training rows. Of a stream, `max_steps` is given.
        device: what the run computes on.
        given: the flags that were given, by name. They are not chosen, and what follows from them is.
        modality: the name of the modality.
        evaluates: whether there are validation rows.
    """
    kind = KINDS[seen.kind]
    scale = scale_for(seen, device, given)
    tried = tried_with(seen.kind, scale.name)
    plan: Plan = _kind_of_data(modality).plan(seen, scale, tried, given)
    chosen = {
        "modality": Chosen(modality, "what the data hold"),
        "model_type": Chosen(tried.model_type, tried.reason),
        "config_overrides": Chosen(_joined({**tried.overrides, **plan.overrides}), plan.reason),
        "objective": tried.objective["objective"],
        **_objective(tried, scale, plan, given),
        **{name: setting for name, setting in plan.settings.items() if name not in MASKS},
    }
    work = _work(scale, plan, modality, {name: setting.value for name, setting in chosen.items()} | dict(given))
    seconds = work.flops / (kind.pace * device.flops)
    steps = steps_of(kind, tried, plan, (seconds, work.bytes * _longest(plan)), device, given)
    chosen |= steps.settings
    chosen |= training_settings(kind, tried, steps, seconds * steps.batch, device, evaluates, given)
    return {name: setting for name, setting in chosen.items() if name not in given}


def too_few(seen: Look) -> str:
    """A warning if there are too few rows to learn from; "" if there are not."""
    kind = KINDS[seen.kind]
    if seen.rows is None or seen.rows >= constants.TOO_FEW_ROWS:
        return ""
    return (
        f"There are {seen.rows} training {kind.noun}, and an encoder learns little from fewer than "
        f"{constants.TOO_FEW_ROWS}: expect features that are hardly better than those of new weights. Add data, which "
        "need no labels, or go on from an encoder that is trained already with --model_name_or_path."
    )


def _kind_of_data(modality: str) -> ModuleType:
    """Its file. Each needs other packages, so that only this one is imported."""
    return import_module(f".kinds.{modality}", __package__)


def _objective(tried: Tried, scale: Scale, plan: Plan, given: Mapping[str, Any]) -> dict[str, Chosen]:
    """Settings of objective and masks, where they are not those of the objective's preset.

    They belong to the objective, and those of masks to its strategy: with another one that is given, none is chosen.
    """
    if not tried.is_objective_of(given):
        return {}
    found = dict(tried.objective)
    if tried.top_share is not None:
        blocks = max(1, round(tried.top_share * scale.size.blocks))
        found["average_top_k_layers"] = Chosen(blocks, f"of {scale.size.blocks} blocks, the same share {tried.reason}")
    own = {name: setting for name, setting in plan.settings.items() if name in MASKS}
    if "mask_strategy" in own or "mask_strategy" in given:
        found = {name: setting for name, setting in found.items() if name not in MASKS}
    return found if "mask_strategy" in given else found | own


def _longest(plan: Plan) -> float:
    """How many times as many positions as a usual sample the longest ones have."""
    return 1.0 if plan.longest is None else plan.longest / plan.positions


def _joined(overrides: Mapping[str, Any]) -> str:
    """Changes to a configuration in the form of --config_overrides."""
    return ",".join(f"{name}={value}".replace(" ", "") for name, value in overrides.items())


def _work(scale: Scale, plan: Plan, modality: str, settings: Mapping[str, Any]) -> Work:
    """What a step computes for a sample; `settings`: by flag, those that are chosen or given."""
    preset = preset_of(settings["objective"], modality)
    values: dict[str, Any] = {"student_input": "mask_token", "num_masks": 1, "predictor": "linear"}
    values |= preset.config | preset.mask | {name: value for name, value in settings.items() if value is not None}
    width = plan.width or scale.size.width
    visible = max(1, round(plan.positions * (1 - values["mask_ratio"])))
    has_decoder = values["predictor"] == "conv"
    return Work(
        positions=plan.positions,
        seen=visible if values["student_input"] == "visible" else plan.positions,
        masks=values["num_masks"],
        blocks=scale.size.blocks,
        width=width,
        sequences=plan.sequences,
        decoder_layers=values.get("decoder_layers", 4) if has_decoder else 0,
        decoder_width=values.get("decoder_dim") or round(preset.decoder_share * width),
        decoder_kernel=values.get("decoder_kernel_size", 3) ** plan.axes,
        decoder_groups=math.gcd(values.get("decoder_groups", 16), width),
        seconds=plan.seconds,
        convolutions=plan.convolutions,
    )
