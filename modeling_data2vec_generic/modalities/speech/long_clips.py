"""Clips of which a sample is a part, and what silence is. Nothing here needs the packages that decode sound."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...data.quality.reading import Blank, Unreadable

# The largest difference between samples of silence: three levels of 16 bits, which dithered silence has.
_SILENCE = 3 / 2**15


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
