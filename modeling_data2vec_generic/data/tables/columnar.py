"""Parquet and Arrow files, whose columns have types."""

import os
from abc import abstractmethod
from collections.abc import Collection, Iterator, Mapping
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
from datasets import Audio, Features, Image, List, Value
from datasets.table import table_cast

from ..column_types import is_list, is_text
from ..encoded_files import file_of
from .table import Choice, Piece, Table, columns_of
from .untyped.value_types import FILE_COLUMNS, infer_feature

_ROWS = 100  # of a batch, which may hold images; columns of paths are recognised by the first one


class ColumnarTable(Table):
    """The base of tables whose columns have types."""

    @abstractmethod
    def schema_of(self, path: Path) -> pyarrow.Schema:
        """The columns of a file."""

    @abstractmethod
    def batches_of(self, piece: Piece, columns: list[str], skip_rows: int = 0) -> Iterator[pyarrow.RecordBatch]:
        """Some columns of the rows of a piece, without its first `skip_rows` rows."""

    @abstractmethod
    def has_rows(self, path: Path) -> bool:
        """Whether a file has a row."""

    @cached_property
    def _schema(self) -> pyarrow.Schema:
        return _plain_schema(self.schema_of(self.paths[0]))

    @cached_property
    def _files(self) -> dict[str, Any]:
        """The types (Image or Audio) of the columns of strings that hold files, by the first rows."""
        strings = _strings(self._schema)
        head = next(self.batches_of(Piece(self.paths[0]), strings), None) if strings else None
        return {} if head is None else _files_among(dict(zip(head.schema.names, head.columns, strict=True)))

    @cached_property
    def features(self) -> Features:
        found = {}
        try:
            for field in self._schema:
                try:
                    found[field.name] = _feature_of(self._schema, field.name)
                except (ValueError, KeyError):
                    found[field.name] = Value("null")  # datasets does not know this type, so it cannot be used
            found.update(self._files)
            has_rows = any(map(self.has_rows, self.paths))
        except (pyarrow.ArrowException, OSError, ValueError) as error:
            raise self.failed(self.paths[0], error) from error
        if not has_rows:
            raise ValueError(f"{self.name} {self.why_no_rows()}")
        return Features(found)

    def columns_in(self, path: Path) -> Collection[str]:
        return list(self.schema_of(path).names)

    def stored(self, choice: Choice) -> Features:
        return Features({name: self._stored_as(name, column) for name, column in choice.items()})

    def _stored_as(self, name: str, column: str | tuple[str, ...]) -> Any:
        if isinstance(column, tuple):
            return List(Value("float64"))
        feature = _feature_of(self._schema, column)
        return FILE_COLUMNS[name] if name in FILE_COLUMNS and _is_of_strings(feature) else feature

    def rows_of(self, piece: Piece, choice: Choice, skip_rows: int) -> Iterator[pyarrow.Table]:
        schema = self.stored(choice).arrow_schema
        folder = self.folder_of(piece.path)
        for batch in self.batches_of(piece, columns_of(choice), skip_rows):
            arrays = {
                name: _stacked(batch, column)
                if isinstance(column, tuple)
                else self._located(name, column, batch[column], schema.field(name).type, folder)
                for name, column in choice.items()
            }
            yield table_cast(pyarrow.table(arrays), schema)

    def _located(
        self, name: str, column: str, values: pyarrow.Array, kind: pyarrow.DataType, folder: str
    ) -> pyarrow.Array:
        """The values of a column, with files as datasets stores them, and paths that need no folder in front."""
        plain = values.cast(_plain(values.type))
        if name in FILE_COLUMNS and not plain.type.equals(kind) and _holds_strings(plain.type):
            return pyarrow.array([file_of(value, folder) for value in plain.to_pylist()], kind)
        if name == "label" and column in self._files:
            return pyarrow.array([value and os.path.join(folder, value) for value in plain.to_pylist()], plain.type)
        return plain


class ParquetTable(ColumnarTable):
    """A parquet file."""

    kind = "parquet"

    def schema_of(self, path: Path) -> pyarrow.Schema:
        with pyarrow.parquet.ParquetFile(path) as file:
            return file.schema_arrow

    def has_rows(self, path: Path) -> bool:
        with pyarrow.parquet.ParquetFile(path) as file:
            return file.metadata.num_rows > 0

    def pieces_of(self, path: Path, count: int) -> list[Piece]:
        with pyarrow.parquet.ParquetFile(path) as file:
            return _parts(path, file.metadata.num_row_groups, count)

    def batches_of(self, piece: Piece, columns: list[str], skip_rows: int = 0) -> Iterator[pyarrow.RecordBatch]:
        with pyarrow.parquet.ParquetFile(piece.path) as file:
            groups, skip_rows = _without_first(file.metadata, piece, skip_rows)
            yield from _skipped(file.iter_batches(_ROWS, row_groups=groups, columns=columns), skip_rows)


class ArrowTable(ColumnarTable):
    """A file of Arrow record batches, in the format of files or that of streams, which has no index of its batches."""

    kind = "arrow"

    def schema_of(self, path: Path) -> pyarrow.Schema:
        return _reader(path).schema

    def has_rows(self, path: Path) -> bool:
        return next(self.batches_of(Piece(path), list(self.schema_of(path).names[:1])), None) is not None

    def pieces_of(self, path: Path, count: int) -> list[Piece]:
        reader = _reader(path)
        is_file = isinstance(reader, pyarrow.ipc.RecordBatchFileReader)
        return _parts(path, reader.num_record_batches, count) if is_file else [Piece(path)]

    def batches_of(self, piece: Piece, columns: list[str], skip_rows: int = 0) -> Iterator[pyarrow.RecordBatch]:
        reader = _reader(piece.path)
        if isinstance(reader, pyarrow.ipc.RecordBatchFileReader):
            batches = map(reader.get_batch, range(reader.num_record_batches)[piece.start : piece.stop])
        else:
            batches = iter(reader)
        parts = (
            batch.select(columns).slice(first, _ROWS) for batch in batches for first in range(0, len(batch), _ROWS)
        )
        yield from _skipped(parts, skip_rows)


def _reader(path: Path) -> Any:
    """Opens a file of record batches without a copy in memory."""
    content = pyarrow.memory_map(str(path))
    try:
        return pyarrow.ipc.open_file(content)
    except pyarrow.ArrowInvalid:
        content.seek(0)
        return pyarrow.ipc.open_stream(content)


def _parts(path: Path, units: int, count: int) -> list[Piece]:
    """Divides the row groups, or record batches, of a file into at most `count` pieces."""
    ends = np.linspace(0, units, min(count, max(units, 1)) + 1).round().astype(int).tolist()
    return [Piece(path, start, stop) for start, stop in pairwise(ends)]


def _skipped(batches: Iterator[pyarrow.RecordBatch], skip_rows: int) -> Iterator[pyarrow.RecordBatch]:
    for batch in batches:
        if skip_rows < len(batch):
            yield batch.slice(skip_rows)
        skip_rows = max(0, skip_rows - len(batch))


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


def _is_of_strings(feature: Any) -> bool:
    return is_text(feature) or is_list(feature, is_text)


def _holds_strings(kind: pyarrow.DataType) -> bool:
    types = pyarrow.types
    if types.is_list(kind) or types.is_large_list(kind):
        return _holds_strings(kind.value_type)
    return types.is_string(kind) or types.is_large_string(kind)
