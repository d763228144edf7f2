"""The settings that `--objective` stands for, and how they are combined with the user's own.

The values are in `preset.py` in the folder of each modality.
"""

from dataclasses import dataclass, fields
from importlib import import_module
from typing import Any

from transformers import PreTrainedConfig

from ..configuration_data2vec_generic import Data2VecGenericConfig
from ..training.arguments import ObjectiveArguments


@dataclass(frozen=True)
class Preset:
    """Settings of one objective for one modality.

    Args:
        config: fields of `Data2VecGenericConfig`.
        mask: fields of `MaskArguments`.
        top_k_share: share of the encoder's blocks that are averaged to targets. The papers give a number of blocks for
            encoders with 12.
        decoder_share: width of the decoder as a share of the encoder's.
    """

    config: dict[str, Any]
    mask: dict[str, Any]
    top_k_share: float
    decoder_share: float = 1.0


OBJECTIVES = ("data2vec", "data2vec2")


def preset_of(objective: str, modality: str) -> Preset:
    """The settings of an objective for a modality.

    Raises:
        ValueError: there is no such objective.
    """
    if objective not in OBJECTIVES:
        raise ValueError(f"objective={objective!r} is not one of {', '.join(map(repr, OBJECTIVES))}.")
    presets: dict[str, Preset] = import_module(f".{modality}.preset", __package__).PRESETS
    return presets[objective]


def published_settings(objective: str, encoder_config: PreTrainedConfig, modality: str) -> dict[str, Any]:
    """The fields of `Data2VecGenericConfig` that an objective sets for an encoder.

    Raises:
        ValueError: there is no such objective.
    """
    preset = preset_of(objective, modality)
    settings = dict(preset.config)
    stages = getattr(encoder_config, "depths", None)  # targets are made of the blocks of the last stage
    depth = stages[-1] if stages else getattr(encoder_config, "num_hidden_layers", None)
    width = getattr(encoder_config, "hidden_size", None)
    if depth is not None:
        settings["average_top_k_layers"] = max(1, round(preset.top_k_share * depth))
    if width is not None:
        settings["decoder_dim"] = round(preset.decoder_share * width)
    return settings


def objective_config(
    arguments: ObjectiveArguments, encoder_config: PreTrainedConfig, modality: str
) -> Data2VecGenericConfig:
    """The config of a run. A setting is the user's own, else that of the objective, else the default of the config.

    Raises:
        ValueError: there is no such objective.
    """
    settings = published_settings(arguments.objective, encoder_config, modality)
    chosen = {field.name: getattr(arguments, field.name) for field in fields(arguments) if field.name != "objective"}
    settings |= {name: value for name, value in chosen.items() if value is not None}
    return Data2VecGenericConfig(encoder_config=encoder_config, **settings)


def mask_settings(arguments: Any, objective: str, modality: str) -> dict[str, Any]:
    """The settings of masks, by the names of `MaskArguments`. Each is the user's own, else that of the objective.

    Args:
        arguments: `MaskArguments`.
        objective: one of OBJECTIVES.
        modality: the modality of the data.

    Raises:
        ValueError: there is no such objective.
    """
    settings = published_masks(arguments.mask_strategy, objective, modality)
    chosen = {field.name: getattr(arguments, field.name) for field in fields(arguments)}
    return settings | {name: value for name, value in chosen.items() if value is not None}


def published_masks(strategy: str | None, objective: str, modality: str) -> dict[str, Any]:
    """The fields of `MaskArguments` that an objective sets.

    If the user chooses another strategy than the objective, only the ratio of the objective is kept, since its other
    settings belong to its strategy.

    Args:
        strategy: the user's choice; None if it is left to the objective.

    Raises:
        ValueError: there is no such objective.
    """
    settings = preset_of(objective, modality).mask
    if strategy not in (None, settings["mask_strategy"]):
        return {"mask_strategy": strategy, "mask_ratio": settings["mask_ratio"]}
    return dict(settings)
