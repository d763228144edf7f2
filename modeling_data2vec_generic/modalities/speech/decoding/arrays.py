"""Sound as arrays of numbers: .npy and .npz files."""

import io

import numpy as np
from numpy.typing import NDArray

from ....data.quality.reading import Unreadable
from ...numpy_files import number_in, open_numpy
from .sound import Sound, scaled

# Names of the sampling rate in .npz files.
_RATES = frozenset(("sampling_rate", "sample_rate", "samplerate", "sr", "rate", "fs"))


class ArraySound(Sound):
    """The array in a .npy file, or in a .npz file the one beside its sampling rate.

    It has one axis, or two, of which the shorter one is that of the channels. Integers are scaled by their type
    (`scaled`). Of a .npy file on the disk, only what is wanted is read.

    Args:
        file: a path, or the content.
        rate: the sampling rate, in Hz, of an array that does not state it.

    Raises:
        Unreadable: it is no array of sound. For broken files, other exceptions are raised, too.
    """

    def __init__(self, file: io.BytesIO | str, rate: int):
        stored = open_numpy(file, _RATES)
        if len(stored.shape) not in (1, 2) or stored.dtype.kind == "b":
            raise Unreadable(
                f"an array of shape {stored.shape} and type {stored.dtype}: expected numbers with one axis, or with "
                "two for several channels"
            )
        stated = number_in(file, _RATES)
        self.states_rate = stated is not None
        self.rate = rate if stated is None else round(stated)
        values = stored.mapped()
        if values.ndim == 1:
            self._values = values[:, None]
        else:
            self._values = values.T if values.shape[0] < values.shape[1] else values
        self.frames, self.channels = self._values.shape

    def read(self, start: int, frames: int) -> NDArray[np.float32]:
        return scaled(np.asarray(self._values[start : start + frames]))

    def close(self) -> None:
        del self._values
