"""Rows of files: csv, tsv, json, jsonl, parquet, txt and FASTA, loaded or streamed by one reader.

A file is opened as a `Table`, which knows its columns and what they seem to hold by its first rows. Only the columns
that are chosen by that are ever read, each as what it is used for, so that no other column and no value far down the
file can end a run: what cannot be read is one bad row, which `canonical` screens.
"""

import dataclasses
import json
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
from datasets import (
    ArrowBasedBuilder,
    Audio,
    BuilderConfig,
    Dataset,
    DatasetInfo,
    Features,
    Image,
    IterableDataset,
    List,
    SplitGenerator,
    Value,
)
from datasets.builder import Key
from datasets.exceptions import DatasetGenerationError
from datasets.table import table_cast

from ..cache_keys import code_version, file_state
from .fasta import FASTA_ENDINGS, is_fasta, sequences_of
from .records import CsvRecords, JsonRecords, Records, grouped
from .value_types import PROBLEM, as_list, as_number, as_numbers, as_text, column_of, shown, told_by, typed_labels

Choice = Mapping[str, str | tuple[str, ...]]  # of canonical names; several columns are the times of a series

_ENDINGS = {
    ".csv": "csv",
    ".json": "json",
    ".jsonl": "json",
    ".txt": "text",
    ".parquet": "parquet",
    ".tsv": "csv",
}
_STRINGS = Features({"text": Value("string")})
_FIRST_ROWS = 1000  # by which columns of strings are told
_WITH_FILES = 100  # rows of a batch that may hold images


class Table(ABC):
    """The rows of one file, or of several with the same columns.

    Args:
        paths: the files.
        name: how messages call them, as `train_file='a.csv'`.

    Raises:
        ValueError: a file cannot be read.
    """

    kind: str

    def __init__(self, paths: list[Path], name: str) -> None:
        self.paths, self.name = paths, name

    @cached_property
    @abstractmethod
    def features(self) -> Features:
        """All columns, and what their first values seem to be; of a file that states its types, these."""

    @property
    def layout(self) -> str:
        """How the file is laid out, where that was found out rather than given."""
        return ""

    @abstractmethod
    def stored(self, choice: Choice) -> Features:
        """The columns that `load` and `stream` give."""

    @abstractmethod
    def tables_of(self, path: Path, choice: Choice) -> Iterator[pyarrow.Table]:
        """Consecutive rows of one file, as `stored` says."""

    def load(self, choice: Choice) -> Dataset:
        """The chosen columns under their canonical names. They are kept in the cache under a key of these very files,
        their times and sizes."""
        builder = self._builder(choice)
        try:
            builder.download_and_prepare()
        except DatasetGenerationError as error:  # which wraps what the reader raises
            raise ValueError(str(error.__cause__ or error)) from error
        if builder.info.splits["train"].num_examples == 0:  # which as_dataset cannot express
            raise ValueError(f"{self.name} {self.without_rows()}")
        return builder.as_dataset("train")

    def stream(self, choice: Choice) -> IterableDataset:
        """The same rows one after the other, of files that are neither copied nor read as a whole."""
        return self._builder(choice).as_streaming_dataset("train")

    def _builder(self, choice: Choice) -> "_Builder":
        return _Builder(
            read=partial(_numbered, type(self), self.name, dict(choice), tuple(map(str, self.paths))),
            columns=self.stored(choice),
            key=(code_version(), [file_state(str(path)) for path in self.paths]),
        )

    def without_rows(self) -> str:
        """What is wrong where there are no rows."""
        return "has no rows. Give a file with data."

    def failed(self, path: Path, error: Exception) -> ValueError:
        """What is raised for a file that cannot be read."""
        place = "" if len(self.paths) == 1 else f" ({path.name})"
        return ValueError(f"{self.name} cannot be read as {self.kind}{place}: {error}.")


class UntypedTable(Table):
    """Csv or JSON, whose columns are what they are used for: text is text even if all of it are digits. Labels are
    stored as JSON text, for `typed_labels` to find one type for all of them, and PROBLEM says what is wrong with a
    row."""

    records: Callable[[Path], Records]

    @cached_property
    def _first(self) -> Records:
        try:
            return self.records(self.paths[0])
        except (ValueError, OSError) as error:
            raise self.failed(self.paths[0], error) from error

    @cached_property
    def features(self) -> Features:
        try:
            head = self._first.head()
        except ValueError as error:
            raise self.failed(self.paths[0], error) from error
        if not any(head.values()):
            raise ValueError(f"{self.name} has no rows. Give a file with data.")
        return Features({name: told_by(map(self.value, values)) for name, values in head.items()})

    @property
    def layout(self) -> str:
        return self._first.layout

    def typed(self) -> Dataset:
        """All columns in memory."""
        columns: dict[str, list[str | None]] = {name: [] for name in self.features}
        for path in self.paths:
            for batch in self.records(path).batches(list(columns)):
                if problem := next(filter(None, batch.problems), None):
                    raise self.failed(path, ValueError(problem))
                for texts, values in zip(columns.values(), batch.columns, strict=True):
                    texts += map(self.label, values)
        return Dataset.from_dict({name: typed_labels(texts, "any", 0)[0] for name, texts in columns.items()})

    def value(self, value: Any) -> Any:
        """What a value seems to be, where the file gives it as text."""
        return value

    @abstractmethod
    def label(self, value: Any) -> str | None:
        """JSON text of a label."""

    def stored(self, choice: Choice) -> Features:
        return Features({name: self._stored_as(name, choice[name]) for name in choice} | {PROBLEM: Value("string")})

    def _stored_as(self, name: str, column: str | tuple[str, ...]) -> Any:
        if isinstance(column, tuple):
            return List(Value("float64"))
        feature = self.features.get(column)
        nested = isinstance(feature, List)
        if name == "series":
            deep = nested and isinstance(feature.feature, List)
            return List(List(Value("float64"))) if deep else List(Value("float64"))
        if name == "video" or (name == "text" and nested):
            return List(Value("string"))
        return Value("string")

    def tables_of(self, path: Path, choice: Choice) -> Iterator[pyarrow.Table]:
        features = self.stored(choice)
        columns = {name: (column,) if isinstance(column, str) else column for name, column in choice.items()}
        names = list(dict.fromkeys(name for found in columns.values() for name in found))
        for batch in self.records(path).batches(names):
            given = dict(zip(names, batch.columns, strict=True))
            problems = list(batch.problems)
            arrays = []
            for name, found in columns.items():
                feature = features[name]
                values: Any = given[found[0]]
                convert = self._conversion(name, feature)
                if isinstance(choice[name], tuple):
                    values, convert = list(zip(*(given[column] for column in found), strict=True)), self._times
                array, odd = column_of(values, convert, features.arrow_schema.field(name).type)
                for row, reason in odd.items():
                    problems[row] = problems[row] or f"column {', '.join(found[:3])!r} holds {reason}"
                arrays.append(array)
            yield pyarrow.table([*arrays, pyarrow.array(problems, pyarrow.string())], schema=features.arrow_schema)

    def _conversion(self, name: str, feature: Any) -> Callable[[Any], Any]:
        if name == "label":
            return self.label
        if name == "series":
            return as_numbers
        return as_list if isinstance(feature, List) else as_text

    def _times(self, values: tuple[Any, ...]) -> list[float | None]:
        numbers = [self.value(value) for value in values]
        if odd := [value for value in numbers if isinstance(value, bool) or not isinstance(value, int | float | None)]:
            raise ValueError(f"{shown(odd[0])}, not a number")
        return numbers


class CsvTable(UntypedTable):
    """Text in cells."""

    kind = "csv"
    records = CsvRecords

    def value(self, value: Any) -> Any:
        # Where semicolons part the cells, commas are those of numbers.
        return as_number(value, "," if getattr(self._first, "separator", None) == ";" else ".")

    def label(self, value: Any) -> str | None:
        if value is None:
            return None
        number = self.value(value)
        written = value.strip()
        # Numbers as they are written, should they turn out to be names: 2.50 is to stay 2.50.
        return written if not isinstance(number, str) and _is_json(written) else _json(number)


class JsonTable(UntypedTable):
    """Values with types of their own, which differ from row to row."""

    kind = "json"
    records = JsonRecords

    def label(self, value: Any) -> str | None:
        return None if value is None else _json(value)


class ParquetTable(Table):
    """Columns with types."""

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
                found[field.name] = Value("null")  # of a type that datasets does not know: it can't be used
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

    def tables_of(self, path: Path, choice: Choice) -> Iterator[pyarrow.Table]:
        features = self.stored(choice)
        names = [name for column in choice.values() for name in ([column] if isinstance(column, str) else column)]
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(_WITH_FILES, columns=list(dict.fromkeys(names))):
                arrays = {
                    name: _stacked(batch, column)
                    if isinstance(column, tuple)
                    else batch[column].cast(_plain(batch[column].type))
                    for name, column in choice.items()
                }
                yield table_cast(pyarrow.table(arrays), features.arrow_schema)


class TextTable(Table):
    """Lines of text, as column `text`. Lines without text are left out: they part paragraphs."""

    kind = "text"
    features = _STRINGS

    def stored(self, choice: Choice) -> Features:
        return Features({name: Value("string") for name in choice})

    def tables_of(self, path: Path, choice: Choice) -> Iterator[pyarrow.Table]:
        for texts in grouped(self.texts_of(path), len):
            yield pyarrow.table({name: pyarrow.array(texts, pyarrow.string()) for name in choice})

    def without_rows(self) -> str:
        lines = sum(1 for path in self.paths for _ in path.open("rb"))
        return f"holds no text: all of its {lines} lines are empty."

    def texts_of(self, path: Path) -> Iterator[str]:
        with path.open(encoding="utf-8") as file:
            for line in file:
                if line.strip():
                    yield line.rstrip("\n")


class FastaTable(TextTable):
    """Sequences of a FASTA file, plain or gzipped, as column `text`."""

    kind = "FASTA"

    def texts_of(self, path: Path) -> Iterator[str]:
        return sequences_of(path)


_KINDS: Mapping[str, type[Table]] = {
    "csv": CsvTable,
    "json": JsonTable,
    "parquet": ParquetTable,
    "text": TextTable,
    "fasta": FastaTable,
}


def open_file(file: str, flag: str) -> Table:
    """The file that a flag names. ValueError if it is of no known kind, absent or empty."""
    path = Path(file)
    kind = "fasta" if is_fasta(path) else _ENDINGS.get(path.suffix.lower())
    if kind is None:
        known = ", ".join([*_ENDINGS, *FASTA_ENDINGS])
        raise ValueError(f"{flag}={file!r} is of an unknown kind: expected one of {known}.")
    if not path.is_file():
        raise ValueError(f"{flag}={file!r} is not a file. Check the path.")
    if path.stat().st_size == 0:
        raise ValueError(f"{flag}={file!r} is empty (0 bytes). Give a file with rows.")
    return _KINDS[kind]([path.absolute()], f"{flag}={file!r}")


def load_file(file: str, flag: str) -> Dataset:
    """All columns of a file, each of the one type that all of its values have.

    Raises:
        ValueError: as `open_file`, or a row cannot be read.
    """
    table = open_file(file, flag)
    if not isinstance(table, UntypedTable):
        return table.load({name: name for name in table.features})
    return table.typed()


def open_files(files: list[str], kind: str, name: str) -> Table:
    """Several csv or json files as one table."""
    return _KINDS[kind]([Path(file) for file in files], name)


@dataclasses.dataclass
class _Config(BuilderConfig):
    """What makes the rows, and all that they depend on: the key of the cache is a hash of these."""

    read: Callable[[list[str]], Iterator[tuple[Key, pyarrow.Table]]] | None = None
    columns: Features | None = None
    key: Any = None


class _Builder(ArrowBasedBuilder):
    """Rows by `read`, for datasets to keep or to stream."""

    BUILDER_CONFIG_CLASS = _Config
    config: _Config

    def _info(self) -> DatasetInfo:
        return DatasetInfo(features=self.config.columns)

    def _split_generators(self, dl_manager: Any) -> list[SplitGenerator]:
        assert self.config.read is not None
        return [SplitGenerator("train", gen_kwargs={"files": list(self.config.read.args[3])})]  # type: ignore[attr-defined]

    def _generate_tables(self, files: list[str]) -> Iterator[tuple[Key, pyarrow.Table]]:
        assert self.config.read is not None
        yield from self.config.read(files)


def _numbered(
    kind: type[Table], name: str, choice: Choice, all_files: tuple[str, ...], files: list[str]
) -> Iterator[tuple[Key, pyarrow.Table]]:
    table = kind([Path(file) for file in all_files], name)
    for number, file in enumerate(files):
        try:
            for place, rows in enumerate(table.tables_of(Path(file), choice)):
                yield Key(number, place), rows
        except (ValueError, OSError, EOFError, zlib.error) as error:  # pyarrow's own are ValueErrors and OSErrors
            raise table.failed(Path(file), error) from error


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _files_among(columns: Mapping[str, pyarrow.Array]) -> dict[str, Any]:
    """The types of those columns of strings that name files, or hold them as base64 text."""
    found = {}
    for name, values in columns.items():
        try:
            values.validate(full=True)
        except pyarrow.ArrowInvalid:  # not UTF-8, which is said where the column is used
            continue
        told = told_by(values.to_pylist())
        if isinstance(told, Image | Audio):
            found[name] = told
    return found


def _strings(schema: pyarrow.Schema) -> list[str]:
    """The columns of strings."""
    return [
        field.name
        for field in schema
        if pyarrow.types.is_string(field.type) or pyarrow.types.is_large_string(field.type)
    ]


def _feature_of(schema: pyarrow.Schema, column: str) -> Any:
    """The type of one column, whatever those of the others are."""
    return Features.from_arrow_schema(pyarrow.schema([schema.field(column)], schema.metadata))[column]


def _plain_schema(schema: pyarrow.Schema) -> pyarrow.Schema:
    return pyarrow.schema([field.with_type(_plain(field.type)) for field in schema], schema.metadata)


def _plain(kind: pyarrow.DataType) -> pyarrow.DataType:
    """A type that datasets knows in place of those that other writers have for the same values."""
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
    """Columns of numbers as a list for each row; a missing number is NaN."""
    values = np.stack([batch[name].cast(pyarrow.float64()).to_numpy(zero_copy_only=False) for name in columns], 1)
    ends = np.arange(len(values) + 1, dtype=np.int32) * len(columns)
    return pyarrow.ListArray.from_arrays(ends, pyarrow.array(values.ravel()))
