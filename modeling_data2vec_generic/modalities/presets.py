"""The settings that `--objective` stands for, by modality, and how they meet the user's own.

The values are those of the papers' base models; each modality's README under examples/ names the source of every one.
"""

from dataclasses import dataclass, fields, replace
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
        top_k_share: share of the blocks that make the target; the papers give a number for 12 blocks.
        decoder_share: the decoder's width as a share of the encoder's.
    """

    config: dict[str, Any]
    mask: dict[str, Any]
    top_k_share: float
    decoder_share: float = 1.0


PRESETS = {
    "data2vec": {
        "text": Preset(
            config={
                "teacher_embeddings": "copy",
                "target_layer_norms": ["layer"],
                "predictor": "mlp",
                "loss_beta": 4.0,
                "loss_scale": 1.0,
            },
            mask={"mask_strategy": "random", "mask_ratio": 0.15},
            top_k_share=10 / 12,
        ),
        "vision": Preset(
            config={
                "teacher_embeddings": "copy",
                "target_source": "block",
                "target_layer_norms": [],
                "target_final_norms": ["layer"],
                "loss_beta": 2.0,
            },
            mask={"mask_strategy": "block", "mask_ratio": 120 / 196},
            top_k_share=6 / 12,
        ),
        "speech": Preset(
            config={"teacher_embeddings": "copy", "target_layer_norms": ["instance"]},
            mask={"mask_strategy": "span", "mask_ratio": 0.65, "mask_length": 10},
            top_k_share=8 / 12,
        ),
        # The papers have no time series. Targets as of speech, but block outputs, since PatchTST folds the channels
        # into the batch around its feed-forward layers; masks as PatchTST's own pre-training (arXiv 2211.14730).
        "series": Preset(
            config={"teacher_embeddings": "copy", "target_source": "block", "target_layer_norms": ["instance"]},
            mask={"mask_strategy": "random", "mask_ratio": 0.4},
            top_k_share=8 / 12,
        ),
    },
    "data2vec2": {
        "text": Preset(
            config={
                "teacher_embeddings": "copy",
                "student_input": "visible",
                "num_masks": 8,
                "target_layer_norms": ["instance"],
                "predictor": "conv",
                "decoder_layers": 5,
                "decoder_kernel_size": 9,
                "decoder_groups": 1,
                "decoder_residual": False,
                "decoder_projection_layers": 2,
                "loss_scale": 1.0,
            },
            mask={"mask_strategy": "random", "mask_ratio": 0.48},
            top_k_share=1.0,
        ),
        "vision": Preset(
            config={
                "student_input": "visible",
                "num_masks": 16,
                "target_layer_norms": ["instance"],
                "target_final_norms": ["layer"],
                "predictor": "conv",
                "decoder_layers": 6,
                "decoder_kernel_size": 3,
                "decoder_groups": 16,
                "cls_loss_weight": 2.56,
            },
            mask={"mask_strategy": "inverse_block", "mask_ratio": 0.8, "mask_length": 3, "mask_adjust": 0.07},
            top_k_share=1.0,
        ),
        "speech": Preset(
            config={
                "teacher_embeddings": "copy",
                "student_input": "visible",
                "num_masks": 8,
                "target_layer_norms": ["instance"],
                "predictor": "conv",
                "decoder_layers": 4,
                "decoder_kernel_size": 7,
                "decoder_groups": 16,
            },
            mask={"mask_strategy": "block", "mask_ratio": 0.5, "mask_length": 5, "mask_adjust": 0.05},
            top_k_share=8 / 12,
            decoder_share=0.5,
        ),
        # As above, with the decoder of speech. PatchTST's blocks cannot leave positions out.
        "series": Preset(
            config={
                "teacher_embeddings": "copy",
                "student_input": "mask_token",
                "num_masks": 8,
                "target_source": "block",
                "target_layer_norms": ["instance"],
                "predictor": "conv",
                "decoder_layers": 4,
                "decoder_kernel_size": 7,
                "decoder_groups": 16,
            },
            mask={"mask_strategy": "random", "mask_ratio": 0.4},
            top_k_share=8 / 12,
            decoder_share=0.5,
        ),
    },
}
# Nor have they video: clips are treated as images are, except that VideoMAE has no CLS whose loss could be weighed.
PRESETS["data2vec"]["video"] = PRESETS["data2vec"]["vision"]
_IMAGES = PRESETS["data2vec2"]["vision"]
PRESETS["data2vec2"]["video"] = replace(_IMAGES, config=_IMAGES.config | {"cls_loss_weight": 0.0})


def preset_of(objective: str, modality: str) -> Preset:
    """The settings of an objective for a modality.

    Raises:
        ValueError: there is no such objective.
    """
    if objective not in PRESETS:
        raise ValueError(f"objective={objective!r} is not one of {', '.join(map(repr, PRESETS))}.")
    return PRESETS[objective][modality]


def objective_config(
    arguments: ObjectiveArguments, encoder_config: PreTrainedConfig, modality: str
) -> Data2VecGenericConfig:
    """The config of a run: what the user set, then what the objective says, then the config's own defaults."""
    preset = preset_of(arguments.objective, modality)
    settings = dict(preset.config)
    stages = getattr(encoder_config, "depths", None)  # targets are the blocks of the last one
    depth = stages[-1] if stages else getattr(encoder_config, "num_hidden_layers", None)
    width = getattr(encoder_config, "hidden_size", None)
    if depth is not None:
        settings["average_top_k_layers"] = max(1, round(preset.top_k_share * depth))
    if width is not None:
        settings["decoder_dim"] = round(preset.decoder_share * width)
    chosen = {field.name: getattr(arguments, field.name) for field in fields(arguments) if field.name != "objective"}
    settings |= {name: value for name, value in chosen.items() if value is not None}
    return Data2VecGenericConfig(encoder_config=encoder_config, **settings)


def mask_settings(arguments: Any, objective: str, modality: str) -> dict[str, Any]:
    """Flags about masks: what the user set, then what the objective says.

    A strategy of the user's own leaves the objective's other mask settings out: a ratio or length means something else
    for another strategy.
    """
    settings = dict(preset_of(objective, modality).mask)
    if arguments.mask_strategy not in (None, settings["mask_strategy"]):
        settings = {"mask_strategy": arguments.mask_strategy, "mask_ratio": settings["mask_ratio"]}
    chosen = {field.name: getattr(arguments, field.name) for field in fields(arguments)}
    return settings | {name: value for name, value in chosen.items() if value is not None}
