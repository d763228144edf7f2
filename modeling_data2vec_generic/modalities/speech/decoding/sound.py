"""The base class of what sound is read from."""

from abc import ABC, abstractmethod
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ....data.quality.reading import Unreadable


class Sound(ABC):
    """Opened sound, of which any part can be read without the rest.

    Attributes:
        rate: the sampling rate, in Hz.
        channels: the number of channels.
        frames: the length, in samples of each channel.
        states_rate: whether `rate` is stated, and not taken from a flag.
    """

    rate: int
    channels: int
    frames: int
    states_rate: bool = True

    @abstractmethod
    def read(self, start: int, frames: int) -> NDArray[np.float32]:
        """The samples from `start` on, `frames` of them or up to the end, float32 (samples, channels).

        Raises:
            Unreadable: there are fewer than the header states. For broken content, decoders raise other exceptions.
        """

    @abstractmethod
    def close(self) -> None:
        """Closes the file."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @staticmethod
    def check_length(found: int, wanted: int, tolerance: int = 0) -> None:
        """Raises Unreadable if fewer samples were found than wanted."""
        if found < wanted - tolerance:
            raise Unreadable(f"truncated: {found} of {wanted} samples are there")


def scaled(values: NDArray[np.generic]) -> NDArray[np.float32]:
    """Samples of any type of number as float32: integers are divided by the largest of their type, so that they lie
    in [-1, 1], and unsigned ones are centred. Floats stay as they are."""
    if values.dtype.kind in "iu":
        half = 2.0 ** (8 * values.dtype.itemsize - 1)
        middle = half if values.dtype.kind == "u" else 0.0
        return ((values.astype(np.float64) - middle) / half).astype(np.float32)
    return values.astype(np.float32, copy=False)
