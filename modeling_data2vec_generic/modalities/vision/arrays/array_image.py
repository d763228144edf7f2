"""A decoded image with any number of channels and any depth, with the methods of Pillow's images that are used."""

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image


class ArrayImage:
    """An image that Pillow has no mode for.

    Attributes:
        values: (H, W, C), uint8, uint16 or float32.
    """

    def __init__(self, values: NDArray[Any]) -> None:
        self.values = values

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, as in Pillow."""
        return self.values.shape[1], self.values.shape[0]

    def resize(
        self, size: tuple[int, int], resample: Any = None, box: tuple[float, float, float, float] | None = None
    ) -> Self:
        """The image, or the part of it in `box`, resized by Pillow, channel by channel.

        8 bits stay 8 bits. Other values are resized in float32, and 16 bits are rounded to whole numbers again.

        Args:
            size: width and height of the result.
            resample: a filter of Pillow; bicubic by default.
            box: left, top, right, bottom.
        """
        if size == self.size and box in (None, (0, 0, *size)):
            return self
        resized = np.empty((size[1], size[0], self.values.shape[2]), self.values.dtype)
        for channel in range(self.values.shape[2]):
            values = np.ascontiguousarray(self.values[..., channel])
            part = Image.fromarray(values if values.dtype == np.uint8 else values.astype(np.float32))
            found = np.asarray(part.resize(size, resample, box=box))
            # Filters with negative weights may leave the range of the values.
            resized[..., channel] = found.round().clip(0, 65535) if values.dtype == np.uint16 else found
        return type(self)(resized)


def as_picture(image: Image.Image | ArrayImage) -> NDArray[np.uint8]:
    """An image as it is shown in figures, (H, W, 3): other than three channels as the grey of their mean.

    The smallest and the largest value of an `ArrayImage` become black and white.
    """
    if not isinstance(image, ArrayImage):
        return np.asarray(image)
    values = image.values.astype(np.float64)
    colours = values if values.shape[2] == 3 else np.repeat(values.mean(axis=2, keepdims=True), 3, axis=2)
    low, high = colours.min(), colours.max()
    return np.round((colours - low) / max(high - low, 1e-12) * 255).astype(np.uint8)
