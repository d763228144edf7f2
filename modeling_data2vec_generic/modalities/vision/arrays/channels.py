"""Which axis of an array is the channels, and images that are given to encoders of another number of channels."""

import numpy as np
from numpy.typing import NDArray

# The weights of red, green and blue in grey, which are those of Pillow (ITU-R 601-2).
_LUMA = np.array([299, 587, 114], dtype=np.float64) / 1000
_REMEDY = "store it as (height, width, channels), and give the number of channels, --config_overrides num_channels=N"


def channel_axis(shape: tuple[int, ...], channels: int | None) -> int | None:
    """The axis of the channels in an array with two or three axes; None if it has two.

    It is the first or the last axis: the one that has as many entries as the encoder reads channels, otherwise the
    one that is the smallest of all three.

    Args:
        shape: of the array.
        channels: the number that the encoder reads; None if it is not known yet.

    Raises:
        ValueError: there are fewer or more axes, or the rule does not lead to one axis.
    """
    if len(shape) == 2:
        return None
    if len(shape) != 3:
        raise ValueError(f"an array of shape {shape}, and (height, width) with or without channels is expected")
    ends = [axis for axis in (0, 2) if shape[axis] == channels]
    if not ends:
        smallest = min(shape)
        ends = [axis for axis in (0, 2) if shape[axis] == smallest] if shape.count(smallest) == 1 else []
    if len(ends) != 1:
        raise ValueError(f"an array of shape {shape}, whose channels may be the first or the last axis: {_REMEDY}")
    return ends[0]


def channels_last(values: NDArray, axis: int | None) -> NDArray:
    """An array as (H, W, C). `axis` is that of the channels; None if it has none."""
    return values[..., None] if axis is None else np.moveaxis(values, axis, -1)


def can_become(found: int, wanted: int) -> bool:
    """Whether an image of so many channels can be given to an encoder of `wanted`: equal, or grey for RGB or back."""
    return found == wanted or {found, wanted} == {1, 3}


def with_channels(values: NDArray, wanted: int) -> NDArray:
    """An image (H, W, C) with another number of channels: grey is repeated, and RGB becomes grey as in Pillow.

    Raises:
        ValueError: it has too few or too many.
    """
    found = values.shape[2]
    if found == wanted:
        return values
    if not can_become(found, wanted):
        raise ValueError(f"{found} channel{'s' * (found > 1)}, and the encoder reads {wanted}")
    if found == 1:
        return np.repeat(values, 3, axis=2)
    grey = values @ _LUMA
    return (np.rint(grey) if values.dtype.kind == "u" else grey).astype(values.dtype)[..., None]


def on_white(values: NDArray, white: float, is_premultiplied: bool = False) -> NDArray:
    """An image (H, W, C) whose last channel is its opacity, as one without it, with white behind what is transparent.

    Args:
        values: whole numbers.
        white: the largest value, that of white and of what is opaque.
        is_premultiplied: whether colours have been multiplied with the opacity ("associated alpha").
    """
    colours, opacity = values[..., :-1].astype(np.float64), values[..., -1:].astype(np.float64) / white
    covered = colours if is_premultiplied else colours * opacity
    return np.rint((covered + white * (1 - opacity)).clip(0, white)).astype(values.dtype)
