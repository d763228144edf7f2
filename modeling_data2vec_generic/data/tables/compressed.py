"""Opens files that may be compressed, by the extension of their names."""

import bz2
import gzip
import io
import lzma
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow

# What reading a damaged file may raise. pyarrow's own exceptions are ValueErrors and OSErrors.
READ_ERRORS = (ValueError, OSError, EOFError, zlib.error, lzma.LZMAError, tarfile.TarError)


_DECOMPRESSED: dict[str, Callable[[Path], Any]] = {
    ".gz": gzip.GzipFile,
    ".bz2": bz2.BZ2File,
    ".xz": lzma.LZMAFile,
    ".zst": lambda path: pyarrow.input_stream(str(path), compression="zstd"),
}
COMPRESSIONS = tuple(_DECOMPRESSED)
_FIRST_BYTES = {
    b"\x1f\x8b": ".gz",
    b"BZh": ".bz2",
    b"\xfd7zXZ\0": ".xz",
    b"\x28\xb5\x2f\xfd": ".zst",
    b"PK\x03\x04": ".zip",
    b"PAR1": ".parquet",
    b"ARROW1": ".arrow",
}


def is_compressed(path: Path) -> bool:
    """Whether a file is compressed, by its extension."""
    return path.suffix.lower() in _DECOMPRESSED


def ending_of(path: Path) -> str:
    """The extension of a file in lower case, without that of a compression: `.csv` for `a.csv` and `a.CSV.gz`."""
    return (Path(path.stem) if is_compressed(path) else path).suffix.lower()


def opened(path: Path) -> io.BufferedReader:
    """Opens a file for reading bytes, which are decompressed if its name says so."""
    if not is_compressed(path):
        return path.open("rb")
    return io.BufferedReader(_DECOMPRESSED[path.suffix.lower()](path))


def looks_like(path: Path) -> str | None:
    """The extension that the first bytes of a file stand for, if it is not one of text; otherwise None."""
    with path.open("rb") as file:
        start = file.read(max(map(len, _FIRST_BYTES)))
    return next((ending for first, ending in _FIRST_BYTES.items() if start.startswith(first)), None)
