"""Sound that is read in parts: the base class of what it is read from, and clips of which a part becomes a sample.

Nothing here needs the packages that decode sound.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ...data.quality.reading import Blank, Unreadable

# The largest difference between samples of silence: three levels of 16 bits, which dithered silence has.
_SILENCE = 3 / 2**15


class Sound(ABC):
    """Opened sound, of which any part can be read without the rest.

    Attributes:
        rate: the sampling rate, in Hz.
        channels: the number of channels.
        frames: the length, in samples of each channel.
    """

    rate: int
    channels: int
    frames: int

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


@dataclass(frozen=True)
class LongClip:
    """A clip of which each sample is a part, in place of its waveform: the part is read once it is known which.

    Args:
        read: returns the part at a place, float32 (samples,), or an [`Unreadable`]. Places are shares, from 0, the
            first part, to 1, the last one.
        place: of the part that evaluation reads.
    """

    read: Callable[[float], Any]
    place: float = 0.0

    def fixed(self) -> NDArray[np.float32]:
        """The part that evaluation reads. Raises Unreadable."""
        part: NDArray[np.float32] | Unreadable = self.read(self.place)
        if isinstance(part, Unreadable):
            raise part
        return part

    def crop(self, places: Iterable[float]) -> NDArray[np.float32]:
        """The part at the first of the places that is not silent.

        Raises:
            Blank: all are silent.
            Unreadable: a part cannot be read.
        """
        for place in places:
            part: NDArray[np.float32] | Unreadable = self.read(place)
            if isinstance(part, Unreadable):
                raise part
            if not is_silent(part):
                return part
        raise Blank("silence in all parts that were tried")


def is_silent(waveform: NDArray[np.float32]) -> bool:
    """Whether no sample differs from another by more than noise of the last of 16 bits does."""
    return len(waveform) == 0 or bool(waveform.max() - waveform.min() <= _SILENCE)
