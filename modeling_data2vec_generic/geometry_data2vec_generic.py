"""How many content positions an input has, and how they lie: patches, frames, padding."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Size, Tensor
from transformers import PreTrainedModel

from .layout_data2vec_generic import UnsupportedBackboneError, describe


def real_positions(encoder: PreTrainedModel, inputs: Mapping[str, Any], length: int, stride: int = 1) -> Tensor | None:
    """(B, T) bool, False at padding, from the attention mask of tokens, frames or samples; `None` if there is none.

    Args:
        length: T.
        stride: frames that the encoder merges into one position (SEW).
    """
    attention_mask = inputs.get("attention_mask")
    if attention_mask is None:
        return None
    if attention_mask.shape[-1] == length:
        return attention_mask.bool()
    frame_mask = getattr(encoder, "_get_feature_vector_attention_mask", None)
    if frame_mask is not None:
        frames = frame_mask(length * stride + stride - 1, attention_mask).bool()
        return frames[:, stride - 1 :: stride][:, :length]
    raise UnsupportedBackboneError(
        f"attention_mask has {attention_mask.shape[-1]} entries per sample and mask has {length}, and "
        f"{describe(encoder)} does not say which positions are padding. Give it "
        "_get_feature_vector_attention_mask(length, attention_mask), as the speech encoders of transformers have, "
        "or set ignore_padding=False."
    )


def patch_sides(config: Any) -> tuple[int, int]:
    """(height, width) of a patch in pixels, as far as a configuration says so; else any square. Patches that overlap
    (Hiera) are as far apart as their stride."""
    patch = getattr(config, "patch_stride", None) or getattr(config, "patch_size", None)
    if isinstance(patch, tuple | list) and len(patch) == 2:
        return patch[0], patch[1]
    return (patch, patch) if isinstance(patch, int) else (1, 1)


def grid_of(image_shape: Size, length: int, patch: tuple[int, int] = (1, 1)) -> tuple[int, int]:
    """(rows, columns) of `length` patches that tile images.

    Args:
        image_shape: (B, channels, height, width) in pixels.
        patch: (height, width) of a patch, or of a part of it: what counts is their ratio.

    Raises:
        ValueError: patches of that ratio don't tile the image.
    """
    height, width = image_shape[-2:]
    rows = round(math.sqrt(length * (height / patch[0]) / (width / patch[1])))
    if rows == 0 or rows * round(length / rows) != length:
        shape = "square patches" if patch[0] == patch[1] else f"patches whose sides are as {patch[0]} to {patch[1]}"
        raise ValueError(f"{length} positions do not tile an image of {height} x {width} pixels with {shape}.")
    return rows, length // rows


@dataclass(frozen=True)
class FrameCounter:
    """Frames that a stack of unpadded convolutions makes of a number of samples, e.g. wav2vec 2.0's feature
    encoder."""

    kernels: tuple[int, ...]
    strides: tuple[int, ...]

    def __call__(self, samples: int) -> int:
        for kernel, stride in zip(self.kernels, self.strides, strict=True):
            samples = (samples - kernel) // stride + 1
        return samples

    def samples_for(self, frames: int) -> int:
        """The fewest samples that make this many frames."""
        samples = frames
        for kernel, stride in zip(reversed(self.kernels), reversed(self.strides), strict=True):
            samples = (samples - 1) * stride + kernel
        return samples


__all__ = ["FrameCounter", "grid_of", "patch_sides", "real_positions"]
