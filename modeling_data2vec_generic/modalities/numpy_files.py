"""Arrays in .npy and .npz files, read without trusting what their headers say."""

import io
import math
import zipfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

_NPY, _NPZ = b"\x93NUMPY", b"PK\x03\x04"
_LARGEST = 1 << 31  # bytes of an array
_NAMES = ("image", "series", "arr_0")  # which of several arrays in a .npz file is read, in order of preference


@dataclass(frozen=True)
class StoredNumbers:
    """The array of a .npy or .npz file, of which the header was read.

    Attributes:
        file: the content of the file, or its path.
        shape: of the array.
        dtype: of the array: booleans, whole numbers or floating point.
        besides: as for `open_numpy`.
    """

    file: io.BytesIO | str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    besides: Collection[str] = ()

    def read(self) -> NDArray[Any]:
        """The array, which may be read-only.

        Raises:
            ValueError: the file is shorter than its header says, or the array is too large.
        """
        size = math.prod(self.shape) * self.dtype.itemsize
        if size > _LARGEST:
            raise ValueError(f"an array of {size} bytes is larger than {_LARGEST}")
        with _opened(self.file, self.besides) as file:
            _, is_fortran, _ = _header(file)
            content = file.read(size)
        if len(content) < size:
            raise ValueError(f"{len(content)} bytes of values where {size} are expected")
        return np.frombuffer(content, self.dtype).reshape(self.shape, order="F" if is_fortran else "C")

    def mapped(self) -> NDArray[Any]:
        """The array, of which only what is used is read, if it is in a .npy file on the disk; otherwise as `read`."""
        with _opened(self.file, self.besides) as file:
            if not isinstance(self.file, str) or isinstance(file, zipfile.ZipExtFile):
                return self.read()
            _, is_fortran, _ = _header(file)
            return np.memmap(self.file, self.dtype, "r", file.tell(), self.shape, "F" if is_fortran else "C")


def open_numpy(file: io.BytesIO | str, besides: Collection[str] = ()) -> StoredNumbers:
    """The array in a .npy file, or in a .npz file the only one, or the one that is called image, series or arr_0.

    Args:
        file: the content of a file, or its path.
        besides: names in a .npz file of what is not the array, such as its rate.

    Raises:
        ValueError: the file is damaged, or holds something else than real numbers, or several arrays. A damaged .npz
            file may raise other exceptions of zipfile and zlib.
    """
    with _opened(file, besides) as opened:
        shape, _, dtype = _header(opened)
    if dtype.kind not in "biuf":
        raise ValueError(f"an array of {dtype}, and real numbers are expected")
    return StoredNumbers(file, shape, dtype, besides)


def number_in(file: io.BytesIO | str, names: Collection[str]) -> float | None:
    """The single number in a .npz file that has one of the names; None if there is none, and in a .npy file.

    Raises:
        ValueError: as `open_numpy`, or it is not a single number.
    """
    with open(file, "rb") if isinstance(file, str) else io.BytesIO(file.getbuffer()) as opened:
        if opened.read(len(_NPZ)) != _NPZ:
            return None
        with zipfile.ZipFile(opened) as archive:
            members = _members(archive)
    found = next((name for name in members if name in names), None)
    if found is None:
        return None
    value = open_numpy(file, besides=[name for name in members if name != found]).read()
    if value.size != 1:
        raise ValueError(f"{found} in a .npz file has shape {value.shape}, and one number is expected")
    return float(value.reshape(()))


def is_numpy(beginning: bytes) -> bool:
    """Whether a file with this beginning is a .npy or .npz file."""
    return beginning.startswith((_NPY, _NPZ))


@contextmanager
def _opened(file: io.BytesIO | str, besides: Collection[str]) -> Iterator[IO[bytes]]:
    """The content of a .npy file, also if it is in a .npz file."""
    with open(file, "rb") if isinstance(file, str) else io.BytesIO(file.getbuffer()) as opened:
        is_archive = opened.read(len(_NPZ)) == _NPZ
        opened.seek(0)
        if not is_archive:
            yield opened
            return
        with zipfile.ZipFile(opened) as archive, archive.open(_member(archive, besides)) as member:
            yield member


def _members(archive: zipfile.ZipFile) -> list[str]:
    return [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]


def _member(archive: zipfile.ZipFile, besides: Collection[str]) -> str:
    """The name of the file in the archive that holds the array."""
    names = [name for name in _members(archive) if name not in besides]
    chosen = names if len(names) == 1 else [name for name in _NAMES if name in names][:1]
    if not chosen:
        raise ValueError(
            f"a .npz file with {len(names)} arrays ({', '.join(names[:10])}): give each array a file of its own, or "
            f"call the one that is to be read {', '.join(_NAMES[:-1])} or {_NAMES[-1]}"
        )
    return f"{chosen[0]}.npy"


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """The shape, whether the first axis is the fastest, and the type. The file is then at the first value."""
    if np.lib.format.read_magic(file) == (1, 0):
        return np.lib.format.read_array_header_1_0(file)
    with suppress(UnicodeError):  # version 3 differs from version 2 in the encoding of names of fields alone
        return np.lib.format.read_array_header_2_0(file)
    raise ValueError("an array of several fields, and one of numbers is expected")
