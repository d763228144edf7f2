"""Arrow files in the cache of datasets: tables that are written piece by piece and read without loading them."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import datasets
import pyarrow
from datasets import Dataset, DatasetInfo, Features
from datasets.table import MemoryMappedTable

_FOLDER = "folders"


def cached_path(name: str) -> Path:
    """The path of a file in the cache, whether it exists or not."""
    return Path(datasets.config.HF_DATASETS_CACHE, _FOLDER, name)


@contextmanager
def whole_file(path: Path) -> Iterator[pyarrow.NativeFile]:
    """A file to write, which is at `path` once it is whole, and never before. Other processes may write it too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.parent / f"unfinished-{uuid4()}"  # not a file of `tempfile`, which only its owner may read
    with open(unfinished, "xb") as file:
        try:
            with pyarrow.PythonFile(file, "w") as sink:
                yield sink
            os.replace(unfinished, path)
        except BaseException:
            os.unlink(unfinished)
            raise


def cached_rows(key: str, rows: Callable[[], tuple[Features, Iterable[pyarrow.Table]]]) -> Dataset:
    """A dataset on the disk, with `key` as its fingerprint.

    Args:
        key: says what the rows are. Rows that are in the cache under it are not made again.
        rows: returns the types of the columns, and the rows in pieces.

    Raises:
        ValueError: a string is not UTF-8.
    """
    path = cached_path(f"{key}.arrow")
    if not path.exists():
        features, pieces = rows()
        with whole_file(path) as sink, pyarrow.ipc.new_stream(sink, features.arrow_schema) as writer:
            for piece in pieces:
                require_text(piece)
                writer.write_table(piece.cast(features.arrow_schema))
    table: Any = MemoryMappedTable.from_file(str(path))
    return Dataset(table, info=DatasetInfo(features=Features.from_arrow_schema(table.schema)), fingerprint=key)


def require_text(rows: pyarrow.Table) -> None:
    """Checks strings, which the readers of parquet and datasets do not: they would fail only later, in Python.

    Raises:
        ValueError: a string is not UTF-8.
    """
    try:
        rows.validate(full=True)
    except pyarrow.ArrowInvalid as error:
        raise ValueError(f"{error}. Strings ({', '.join(rows.column_names)}) have to be UTF-8") from error


def is_checked(dataset: Dataset) -> bool:
    """Whether `cached_rows` made the rows, which has checked their strings."""
    files = [Path(file["filename"]) for file in dataset.cache_files]
    return bool(files) and all(file.parent == cached_path(file.name).parent for file in files)
