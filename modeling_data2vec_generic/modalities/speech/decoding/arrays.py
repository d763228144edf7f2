"""Sound as arrays of numbers: .npy and .npz files."""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....data.quality.reading import Unreadable
from .sound import Sound, scaled

FIRST_BYTES = (b"\x93NUMPY", b"PK\x03\x04")
# Names of the sampling rate in .npz files.
_RATES = frozenset(("sampling_rate", "sample_rate", "samplerate", "sr", "rate", "fs"))


class ArraySound(Sound):
    """The array in a .npy file, or the only one of a .npz file that is not its sampling rate.

    It has one axis, or two, of which the shorter one is that of the channels. Integers are scaled by their type
    (`scaled`). Of a .npy file on the disk, only what is wanted is read.

    Args:
        file: a path, or the content.
        rate: the sampling rate, in Hz, of an array that does not state it.

    Raises:
        Unreadable: it holds something else. For broken files, numpy raises other exceptions.
    """

    def __init__(self, file: io.BytesIO | str, rate: int):
        loaded: Any = np.load(file, mmap_mode="r" if isinstance(file, str) else None)
        values, stated = (loaded, None) if isinstance(loaded, np.ndarray) else _parts_of(loaded)
        if values.dtype.kind not in "iuf" or values.ndim not in (1, 2) or stated == 0:
            raise Unreadable(
                f"an array of shape {values.shape} and type {values.dtype}: expected numbers with one axis, or with "
                "two for several channels"
            )
        if values.ndim == 1:
            self._values = values[:, None]
        else:
            self._values = values.T if values.shape[0] < values.shape[1] else values
        self.states_rate = stated is not None
        self.rate = rate if stated is None else stated
        self.frames, self.channels = self._values.shape

    def read(self, start: int, frames: int) -> NDArray[np.float32]:
        return scaled(np.asarray(self._values[start : start + frames]))

    def close(self) -> None:
        del self._values


def _parts_of(archive: Any) -> tuple[NDArray[Any], int | None]:
    """The array of a .npz file, and its sampling rate."""
    with archive:
        rates = [name for name in archive.files if name.lower() in _RATES]
        arrays = [name for name in archive.files if name not in rates]
        if len(arrays) != 1 or len(rates) > 1:
            raise Unreadable(f"the arrays {', '.join(archive.files)}: expected one, and its sampling_rate or none")
        stated = int(archive[rates[0]]) if rates else None
        return archive[arrays[0]], stated
