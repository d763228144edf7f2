"""An image file of which the header was read: what it holds, and how it is decoded."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

ORIENTATION = 0x0112  # EXIF tag
# Largest ratio of the sides. When a processor scales the shorter side to its size, the longer side becomes this many
# times that size, which takes memory.
_LARGEST_RATIO = 200
_LARGEST = 1 << 31  # bytes of a decoded image
_UPRIGHT: dict[int, Callable[[NDArray[Any]], NDArray[Any]]] = {  # by EXIF orientation
    2: lambda values: values[:, ::-1],
    3: lambda values: values[::-1, ::-1],
    4: lambda values: values[::-1],
    5: lambda values: values.swapaxes(0, 1),
    6: lambda values: values[::-1].swapaxes(0, 1),
    7: lambda values: values[::-1, ::-1].swapaxes(0, 1),
    8: lambda values: values[:, ::-1].swapaxes(0, 1),
}


@dataclass(frozen=True)
class StoredArray:
    """An image file of which the header was read.

    Attributes:
        size: width and height of the upright image.
        channels: their number.
        eight_bits: whether the values are whole numbers of 8 bits or one bit.
        stored: decodes the image, (H, W, C), as it is stored.
        orientation: the EXIF orientation, 1 to 8.
        pages: the number of pages or frames; those after the first are not read unless they are the channels.
        pages_are_channels: whether each page is a channel.
    """

    size: tuple[int, int]
    channels: int
    eight_bits: bool
    stored: Callable[[], NDArray[Any]]
    orientation: int = 1
    pages: int = 1
    pages_are_channels: bool = False

    @property
    def is_ordinary(self) -> bool:
        """Whether Pillow has a mode for the image: 8 bits, grey or RGB."""
        return self.eight_bits and self.channels in (1, 3)

    def decode(self) -> NDArray[Any]:
        """The upright image, (H, W, C): 8 bits as uint8, 16 bits without a sign as uint16, all others as float32.

        Raises:
            ValueError: the image is too large, or has values that are not finite. For broken files, decoders raise
                other exceptions, too.
        """
        check_size(*self.size)
        if 4 * self.size[0] * self.size[1] * self.channels > _LARGEST:
            raise ValueError(f"{self.size[0]} x {self.size[1]} pixels of {self.channels} channels are too many")
        values = upright(self.stored(), self.orientation)
        if values.dtype == np.bool:
            return values.astype(np.uint8) * 255
        if values.dtype.kind == "u" and values.dtype.itemsize <= 2:
            return values.astype(f"u{values.dtype.itemsize}")
        with np.errstate(over="ignore"):  # values beyond float32 become infinite
            values = values.astype(np.float32)
        if not np.isfinite(values).all():
            raise ValueError("pixels that are not finite")
        return values


def upright(values: NDArray[Any], orientation: int) -> NDArray[Any]:
    """An image (H, W) or (H, W, C) turned and mirrored as its EXIF orientation, 1 to 8, says."""
    return _UPRIGHT.get(orientation, np.asarray)(values)


def check_size(width: int, height: int) -> None:
    """Raises ValueError for a size, as the header states it, that would take too much memory."""
    limit = PIL.Image.MAX_IMAGE_PIXELS  # Pillow itself only warns above it
    if limit is not None and width * height > limit:
        raise ValueError(f"{width} x {height} pixels are more than the {limit} of PIL.Image.MAX_IMAGE_PIXELS")
    if max(width, height) > _LARGEST_RATIO * min(width, height):
        raise ValueError(f"{width} x {height} pixels: one side is over {_LARGEST_RATIO} times the other")
