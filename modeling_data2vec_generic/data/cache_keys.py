"""Makes the keys of datasets' cache depend on two more things: the files that rows name, and this package's code.

datasets stores what `map` returns under a key of the rows, the name of the function and its arguments. But a row that
names a file stays the same when the file changes, and a function keeps its name when its code changes.
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
    """A hash of the code that turns rows into samples."""
    package = Path(__file__).parent.parent
    digest = hashlib.sha256()
    for folder in _SAMPLE_CODE:
        for file in sorted((package / folder).rglob("*.py")):
            digest.update(file.read_bytes())
    return digest.hexdigest()


def renewed(dataset: Dataset, column: str | None = None) -> Dataset:
    """The same rows under a key that also depends on this package's code and on the files that `column` names.

    A file counts by its size and its time of modification. The column holds paths as strings, files as datasets stores
    them, or lists of either. Default: there are no files.
    """
    parts: list[Any] = [dataset._fingerprint, code_version()]
    if column is not None and dataset.cache_files:  # results from rows in memory are not cached
        parts.append([file_state(path) for path in _paths(dataset.data.column(column))])
    return dataset.select_columns(dataset.column_names, new_fingerprint=Hasher.hash(parts))


def _paths(values: pyarrow.ChunkedArray) -> list[str | None]:
    if pyarrow.types.is_list(values.type) or pyarrow.types.is_large_list(values.type):
        return _paths(pyarrow.compute.list_flatten(values))
    if pyarrow.types.is_struct(values.type):
        return _paths(pyarrow.compute.struct_field(values, "path"))
    if pyarrow.types.is_string(values.type) or pyarrow.types.is_large_string(values.type):
        return list(values.to_pylist())
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
