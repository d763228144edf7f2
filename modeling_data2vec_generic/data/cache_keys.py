"""What the keys of datasets' cache lack: the files that rows name, and this package's own code.

datasets keys whatever `map` gives by the rows, by the name of the function and by its arguments. A row that names a
file stays the same when the file changes, and a function when its code does.
"""

import hashlib
import os
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.compute
from datasets import Dataset
from datasets.fingerprint import Hasher

# The folders of this package whose code turns rows into samples.
_SAMPLE_CODE = ("data", "modalities", "finetuning")


@cache
def code_version() -> str:
    """A hash of the code that prepares data."""
    package = Path(__file__).parent.parent
    digest = hashlib.sha256()
    for folder in _SAMPLE_CODE:
        for file in sorted((package / folder).rglob("*.py")):
            digest.update(file.read_bytes())
    return digest.hexdigest()


def renewed(dataset: Dataset, column: str | None = None) -> Dataset:
    """The same rows under a key that follows this package's code, and the size and time of change of every file that
    `column` names, as strings, as datasets' files or as lists of either."""
    parts: list[Any] = [dataset._fingerprint, code_version()]
    if column is not None and dataset.cache_files:  # what is made of rows in memory is not kept
        parts.append([file_state(path) for path in _paths(dataset.data.column(column))])
    return dataset.select_columns(dataset.column_names, new_fingerprint=Hasher.hash(parts))


def _paths(values: pyarrow.ChunkedArray) -> list[str | None]:
    if pyarrow.types.is_list(values.type) or pyarrow.types.is_large_list(values.type):
        return _paths(pyarrow.compute.list_flatten(values))
    if pyarrow.types.is_struct(values.type):
        return _paths(pyarrow.compute.struct_field(values, "path"))
    if pyarrow.types.is_string(values.type) or pyarrow.types.is_large_string(values.type):
        return list(values.to_pylist())
    return []  # the files themselves


def file_state(path: str | None) -> tuple[int, int] | None:
    """Size in bytes and time of change in nanoseconds; None if there is no such file. Of a file in an archive, which
    datasets calls zip://FILE::ARCHIVE, those of the archive."""
    try:
        state = os.stat((path or "").rpartition("::")[2])
    except (OSError, ValueError):  # ValueError: a zero byte in the path
        return None
    return state.st_size, state.st_mtime_ns
