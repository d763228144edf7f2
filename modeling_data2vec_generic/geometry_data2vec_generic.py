"""The content positions of an input: how many there are, how they lie on an image, and which are padding."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Size, Tensor
from transformers import PreTrainedModel

from .layout_data2vec_generic import UnsupportedBackboneError, describe


def real_positions(encoder: PreTrainedModel, inputs: Mapping[str, Any], length: int, stride: int = 1) -> Tensor | None:
    """Which content positions are not padding, according to the attention mask.

    Args:
        encoder: converts a mask of raw samples to one of frames by `_get_feature_vector_attention_mask`.
        inputs: a batch. Its `attention_mask` has one entry per token, frame or raw sample.
        length: T, content positions.
        stride: number of frames that the encoder merges into one content position (SEW).

    Returns:
        (B, T) bool, False at padding; `None` if there is no `attention_mask`.

    Raises:
        UnsupportedBackboneError: the mask has more than T entries, and the encoder can't convert it.
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
        f"{describe(encoder)} does not say which positions are padding. Add a method "
        "_get_feature_vector_attention_mask(length, attention_mask) to its class, as the speech encoders of "
        "transformers have, or set ignore_padding=False."
    )


def patch_sides(config: Any) -> tuple[int, int]:
    """(height, width) of a patch in pixels according to a configuration, or (1, 1) if it does not say so.

    Where patches overlap (Hiera), it is the distance between them, their stride.
    """
    patch = getattr(config, "patch_stride", None) or getattr(config, "patch_size", None)
    if isinstance(patch, tuple | list) and len(patch) == 2:
        return patch[0], patch[1]
    return (patch, patch) if isinstance(patch, int) else (1, 1)


def grid_of(image_shape: Size, length: int, patch: tuple[int, int] = (1, 1)) -> tuple[int, int]:
    """(rows, columns) of the grid in which `length` patches tile an image.

    Args:
        image_shape: (B, channels, height, width) in pixels.
        length: T, number of patches.
        patch: (height, width) of a patch in any unit, since only their ratio is used; defaults to a square.

    Raises:
        ValueError: `length` patches of that ratio do not tile the image.
    """
    height, width = image_shape[-2:]
    rows = round(math.sqrt(length * (height / patch[0]) / (width / patch[1])))
    if rows == 0 or rows * round(length / rows) != length:
        shape = "square patches" if patch[0] == patch[1] else f"patches whose sides are as {patch[0]} to {patch[1]}"
        raise ValueError(f"{length} positions do not tile an image of {height} x {width} pixels with {shape}.")
    return rows, length // rows


@dataclass(frozen=True)
class FrameCounter:
    """How many frames a stack of convolutions without padding makes of a waveform, e.g. in wav2vec 2.0.

    Args:
        kernels, strides: of each convolution, in the order in which they run.
    """

    kernels: tuple[int, ...]
    strides: tuple[int, ...]

    def __call__(self, samples: int) -> int:
        """The number of frames that are made of this many samples."""
        for kernel, stride in zip(self.kernels, self.strides, strict=True):
            samples = (samples - kernel) // stride + 1
        return samples

    def samples_for(self, frames: int) -> int:
        """The smallest number of samples of which this many frames are made."""
        samples = frames
        for kernel, stride in zip(reversed(self.kernels), reversed(self.strides), strict=True):
            samples = (samples - 1) * stride + kernel
        return samples


__all__ = ["FrameCounter", "grid_of", "patch_sides", "real_positions"]
