"""Parquet files, whose columns have types."""

from collections.abc import Iterator, Mapping
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
from datasets import Audio, Features, Image, List, Value
from datasets.table import table_cast

from .table import Choice, Piece, Table
from .untyped.value_types import infer_feature

_FIRST_ROWS = 1000  # rows by which columns of paths are recognised
_WITH_FILES = 100  # rows per batch, which may hold images


class ParquetTable(Table):
    """A parquet file: the columns have types."""

    kind = "parquet"

    @cached_property
    def features(self) -> Features:
        try:
            with pyarrow.parquet.ParquetFile(self.paths[0]) as file:
                schema = _plain_schema(file.schema_arrow)
                head = next(file.iter_batches(_FIRST_ROWS, columns=_strings(schema)), None)
        except (pyarrow.ArrowException, OSError, ValueError) as error:
            raise self.failed(self.paths[0], error) from error
        found = {}
        for field in schema:
            try:
                found[field.name] = _feature_of(schema, field.name)
            except (ValueError, KeyError):
                found[field.name] = Value("null")  # datasets does not know this type, so the column cannot be used
        found.update(_files_among({} if head is None else dict(zip(head.schema.names, head.columns, strict=True))))
        return Features(found)

    def stored(self, choice: Choice) -> Features:
        with pyarrow.parquet.ParquetFile(self.paths[0]) as file:
            schema = _plain_schema(file.schema_arrow)
        return Features(
            {
                name: List(Value("float64")) if isinstance(column, tuple) else _feature_of(schema, column)
                for name, column in choice.items()
            }
        )

    def pieces_of(self, path: Path, count: int) -> list[Piece]:
        with pyarrow.parquet.ParquetFile(path) as file:
            groups = file.metadata.num_row_groups
        ends = np.linspace(0, groups, min(count, max(groups, 1)) + 1).round().astype(int).tolist()
        return [Piece(path, start, stop) for start, stop in pairwise(ends)]

    def rows_of(self, piece: Piece, choice: Choice, skip_rows: int) -> Iterator[pyarrow.Table]:
        features = self.stored(choice)
        names = [name for column in choice.values() for name in ([column] if isinstance(column, str) else column)]
        with pyarrow.parquet.ParquetFile(piece.path) as file:
            groups, skip_rows = _without_first(file.metadata, piece, skip_rows)
            for batch in file.iter_batches(_WITH_FILES, row_groups=groups, columns=list(dict.fromkeys(names))):
                batch, skip_rows = batch.slice(skip_rows), max(0, skip_rows - len(batch))
                if not len(batch):
                    continue
                arrays = {
                    name: _stacked(batch, column)
                    if isinstance(column, tuple)
                    else batch[column].cast(_plain(batch[column].type))
                    for name, column in choice.items()
                }
                yield table_cast(pyarrow.table(arrays), features.arrow_schema)


def _without_first(metadata: pyarrow.parquet.FileMetaData, piece: Piece, skip_rows: int) -> tuple[list[int], int]:
    """The row groups of a piece that are not skipped as a whole, and how many rows of the first are skipped."""
    groups = list(range(metadata.num_row_groups)[piece.start : piece.stop])
    while groups and skip_rows >= (rows := metadata.row_group(groups[0]).num_rows):
        skip_rows -= rows
        groups.pop(0)
    return groups, skip_rows


def _files_among(columns: Mapping[str, pyarrow.Array]) -> dict[str, Any]:
    """The types (Image or Audio) of those columns of strings that hold paths of files, or files as base64 text."""
    found = {}
    for name, values in columns.items():
        try:
            values.validate(full=True)
        except pyarrow.ArrowInvalid:  # not UTF-8, which is an error only if the column is used
            continue
        feature = infer_feature(values.to_pylist())
        if isinstance(feature, Image | Audio):
            found[name] = feature
    return found


def _strings(schema: pyarrow.Schema) -> list[str]:
    """The names of the columns of strings."""
    return [
        field.name
        for field in schema
        if pyarrow.types.is_string(field.type) or pyarrow.types.is_large_string(field.type)
    ]


def _feature_of(schema: pyarrow.Schema, column: str) -> Any:
    """The type of one column, found without the others, whose types datasets may not know."""
    return Features.from_arrow_schema(pyarrow.schema([schema.field(column)], schema.metadata))[column]


def _plain_schema(schema: pyarrow.Schema) -> pyarrow.Schema:
    """The schema with every type replaced by `_plain`."""
    return pyarrow.schema([field.with_type(_plain(field.type)) for field in schema], schema.metadata)


def _plain(kind: pyarrow.DataType) -> pyarrow.DataType:
    """A type that datasets knows for the same values: views become strings, and dictionaries their values."""
    types = pyarrow.types
    if types.is_string_view(kind):
        return pyarrow.string()
    if types.is_binary_view(kind):
        return pyarrow.binary()
    if types.is_dictionary(kind):
        return _plain(kind.value_type)
    if types.is_list(kind):
        return pyarrow.list_(_plain(kind.value_type))
    if types.is_large_list(kind):
        return pyarrow.large_list(_plain(kind.value_type))
    if types.is_struct(kind):
        return pyarrow.struct([field.with_type(_plain(field.type)) for field in kind.fields])
    return kind


def _stacked(batch: pyarrow.RecordBatch, columns: tuple[str, ...]) -> pyarrow.Array:
    """Several columns of numbers as one column of lists. A missing number is NaN."""
    values = np.stack([batch[name].cast(pyarrow.float64()).to_numpy(zero_copy_only=False) for name in columns], 1)
    ends = np.arange(len(values) + 1, dtype=np.int32) * len(columns)
    return pyarrow.ListArray.from_arrays(ends, pyarrow.array(values.ravel()))
