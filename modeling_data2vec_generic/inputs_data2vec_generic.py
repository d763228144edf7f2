"""Inputs of an encoder: the name of its main input, made-up inputs, and single samples of a batch."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from .geometry_data2vec_generic import FrameCounter
from .layout_data2vec_generic import BackboneLayout

MADE_UP_POSITIONS = 12
# In a short text, some attention (local attention, for instance) leaves out a part of its computation.
MADE_UP_TOKENS = 64


def main_input(encoder: PreTrainedModel) -> str:
    """The name of the forward argument that holds the data.

    It is `main_input_name` if `forward` has an argument of that name, else "inputs_embeds", else the first argument:
    classes that are not from transformers may leave `main_input_name` at its default, "input_ids".
    """
    arguments = list(inspect.signature(encoder.forward).parameters)
    declared = getattr(encoder, "main_input_name", None)
    return next((name for name in (declared, "inputs_embeds") if name in arguments), arguments[0])


def all_inputs(layout: BackboneLayout, inputs: Mapping[str, Any], length: int) -> dict[str, Any]:
    """The inputs, and with them the arguments that the encoder's quirks require.

    Args:
        inputs: a batch, which must hold at least one tensor.
        length: T, content positions.
    """
    quirks = layout.quirks
    extra = dict(quirks.inputs)
    if quirks.ordered_input is not None and quirks.ordered_input not in inputs:
        main = next(value for value in inputs.values() if isinstance(value, Tensor))
        extra[quirks.ordered_input] = torch.arange(length, device=main.device, dtype=main.dtype).expand(len(main), -1)
    return {**extra, **inputs}


def made_up_inputs(encoder: PreTrainedModel) -> dict[str, Tensor] | None:
    """One sample of random values (float32) or random tokens, of the shape that the encoder's configuration describes.

    Returns:
        The main input by its name; `None` if the configuration does not say enough.
    """
    name, config = main_input(encoder), encoder.config
    generator = torch.Generator().manual_seed(0)
    try:
        shape = _SHAPES[name](config)
    except (KeyError, AttributeError, TypeError):
        return None
    if name == "input_ids":
        special = {
            token
            for field, value in vars(config).items()
            if field.endswith("_token_id")
            for token in (value if isinstance(value, list) else [value])  # there may be several end-of-text tokens
        }
        words = [
            word for word in range(min(getattr(config, "vocab_size", 0), 4 * MADE_UP_TOKENS)) if word not in special
        ]
        if not words:
            return None
        values = torch.tensor(words)[torch.randint(len(words), shape, generator=generator)]
    else:
        values = torch.randn(shape, generator=generator, dtype=torch.float32)
    return {name: values.to(encoder.device)}


def _tokens_shape(config: Any) -> tuple[int, ...]:
    most = getattr(config, "max_position_embeddings", None) or -1  # -1: no limit
    return 1, min(MADE_UP_TOKENS, most // 2) if most > 0 else MADE_UP_TOKENS


def _image_shape(config: Any) -> tuple[int, ...]:
    size = getattr(config, "image_size", None) or 224  # encoders without it read images of any size
    sides = (size, size) if isinstance(size, int) else tuple(size)
    frames = () if getattr(config, "num_frames", None) is None else (config.num_frames,)
    return (1, *frames, getattr(config, "num_channels", 3), *sides)


def _sound_shape(config: Any) -> tuple[int, ...]:
    if hasattr(config, "num_mel_bins"):
        return 1, config.max_length, config.num_mel_bins
    if not hasattr(config, "conv_kernel"):
        return 1, 1000 * MADE_UP_POSITIONS
    return 1, FrameCounter(tuple(config.conv_kernel), tuple(config.conv_stride)).samples_for(MADE_UP_POSITIONS)


def _features_shape(config: Any) -> tuple[int, ...]:
    if hasattr(config, "max_source_positions") and hasattr(config, "num_mel_bins"):
        return 1, config.num_mel_bins, 2 * config.max_source_positions
    for field in ("feature_projection_input_dim", "num_mel_bins", "input_feat_per_channel"):
        if hasattr(config, field):
            return 1, 8 * MADE_UP_POSITIONS, getattr(config, field)
    raise AttributeError("no width of the features")


_SHAPES: dict[str, Callable[[Any], tuple[int, ...]]] = {
    "input_ids": _tokens_shape,
    "pixel_values": _image_shape,
    "pixel_values_videos": lambda config: (1, config.frames_per_clip, 3, config.crop_size, config.crop_size),
    "input_values": _sound_shape,
    "input_features": _features_shape,
    "past_values": lambda config: (1, config.context_length, config.num_input_channels),
    "inputs_embeds": lambda config: (1, min(MADE_UP_TOKENS, config.context_length), config.feature_size),
}


def first_sample(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The first sample of a batch without NaN and infinity, as a batch of one in float32.

    If every sample holds NaN or infinity, it is the first sample of the batch.
    """
    row = _first_finite_row(inputs)
    sample = {
        name: value[row : row + 1] if isinstance(value, Tensor) and value.ndim else value
        for name, value in inputs.items()
    }
    return {
        name: value.float() if isinstance(value, Tensor) and value.is_floating_point() else value
        for name, value in sample.items()
    }


def _first_finite_row(inputs: Mapping[str, Any]) -> int:
    finite = [
        value.reshape(len(value), -1).isfinite().all(1)
        for value in inputs.values()
        if isinstance(value, Tensor) and value.ndim and value.numel() and value.is_floating_point()
    ]
    rows = [row for row in finite if len(row) == len(finite[0])]
    return int(torch.stack(rows).all(0).int().argmax()) if rows else 0


def repeated(inputs: Mapping[str, Any], times: int) -> dict[str, Any]:
    """A batch in which each sample comes `times` times in a row: (B, ...) -> (B * times, ...)."""
    return {
        name: value.repeat_interleave(times, 0) if isinstance(value, Tensor) and value.ndim else value
        for name, value in inputs.items()
    }


def longest_text(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The longest text of a batch of tokens, as a batch of one without padding.

    Some encoders (ESM) set padding to zero before the first block, so that a change there could not be followed.
    """
    attention_mask = inputs.get("attention_mask")
    if attention_mask is None:
        return dict(inputs)
    row = int(attention_mask.sum(1).argmax())
    real = attention_mask[row].bool()
    return {
        name: value[row : row + 1, real]
        if isinstance(value, Tensor) and value.shape[:2] == attention_mask.shape
        else value
        for name, value in inputs.items()
    }


__all__ = ["all_inputs", "first_sample", "longest_text", "made_up_inputs", "main_input", "repeated"]
