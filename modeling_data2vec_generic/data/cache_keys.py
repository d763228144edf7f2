"""Makes the keys of datasets' cache depend on two more things: the files that rows name, and this package's code.

datasets stores what `map` returns under a key of the rows, the name of the function and its arguments. But a row that
names a file stays the same when the file changes, and a function keeps its name when its code changes.
"""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.compute
import xxhash
from datasets import Dataset
from datasets.fingerprint import Hasher
from datasets.utils import tqdm
from numpy.typing import NDArray

# The folders of this package whose code turns rows into samples.
_SAMPLE_CODE = ("data", "modalities", "finetuning")
_AT_ONCE = 1 << 16  # rows whose paths are held at a time
_PER_THREAD = 1 << 10


@cache
def code_version() -> str:
    """A hash of the code that turns rows into samples."""
    package = Path(__file__).parent.parent
    digest = hashlib.sha256()
    for folder in _SAMPLE_CODE:
        for file in sorted((package / folder).rglob("*.py")):
            digest.update(file.read_bytes())
    return digest.hexdigest()


def renewed(dataset: Dataset, column: str | None = None) -> Dataset:
    """The same rows under a key that also depends on this package's code and on the files that `column` names.

    What `map` finds in files is stored under a key of rows that this function was called on with their column. It
    looks at each file: by its size and its time of modification. The column holds files as datasets stores them, or
    lists of them. Default: no files are read.
    """
    parts: list[Any] = [dataset._fingerprint, code_version()]
    if column is not None and dataset.cache_files:  # results from rows in memory are not cached
        parts.append(_state_of_files(dataset.select_columns(column).with_format("arrow"), column))
    return dataset.select_columns(dataset.column_names, new_fingerprint=Hasher.hash(parts))


def _state_of_files(dataset: Dataset, column: str) -> str:
    """A hash of the states of all files. Threads wait for the file system at the same time."""
    digest = xxhash.xxh3_128()
    firsts = range(0, len(dataset), _AT_ONCE)
    with (
        ThreadPoolExecutor() as threads,
        tqdm(total=len(dataset), unit=" rows", desc="Looking for changed files", delay=3) as bar,
    ):
        for first in firsts:
            paths = _paths(dataset[first : first + _AT_ONCE][column])
            pieces = [paths[start : start + _PER_THREAD] for start in range(0, len(paths), _PER_THREAD)]
            for states in threads.map(_states, pieces):
                digest.update(states.tobytes())
            bar.update(min(_AT_ONCE, len(dataset) - first))
    return digest.hexdigest()


def _states(paths: list[str | None]) -> NDArray[np.int64]:
    return np.array([file_state(path) or (-1, -1) for path in paths], dtype=np.int64)


def _paths(values: pyarrow.ChunkedArray) -> list[str | None]:
    if pyarrow.types.is_list(values.type) or pyarrow.types.is_large_list(values.type):
        return _paths(pyarrow.compute.list_flatten(values))
    if pyarrow.types.is_struct(values.type):
        return list(pyarrow.compute.struct_field(values, "path").to_pylist())
    return []  # the column holds encoded files, not paths


def file_state(path: str | None) -> tuple[int, int] | None:
    """Size in bytes and time of modification in nanoseconds; None if there is no such file.

    For a file in an archive, which datasets calls zip://FILE::ARCHIVE, these are of the archive.
    """
    try:
        state = os.stat((path or "").rpartition("::")[2])
    except (OSError, ValueError):  # ValueError: a zero byte in the path
        return None
    return state.st_size, state.st_mtime_ns
