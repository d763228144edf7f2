"""The file formats that rows are read from: csv, tsv, json, jsonl, parquet, txt and FASTA, loaded or streamed.

A file is opened as a `Table`, which knows its columns and, from the first rows, their types. Only the columns that are
used are read, each as the type that it is used as. Other columns therefore cannot cause errors, and a value that
cannot be read makes its row a bad row (which `columns.canonical` leaves out) and does not end the run.
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
from .value_types import (
    PROBLEM,
    as_list,
    as_number,
    as_numbers,
    as_text,
    column_of,
    infer_feature,
    shown,
    typed_labels,
)

# The columns that are used, by canonical name. If a series has one column for each time, it is a tuple of columns.
Choice = Mapping[str, str | tuple[str, ...]]

_ENDINGS = {
    ".csv": "csv",
    ".json": "json",
    ".jsonl": "json",
    ".txt": "text",
    ".parquet": "parquet",
    ".tsv": "csv",
}
_STRINGS = Features({"text": Value("string")})
_FIRST_ROWS = 1000  # rows by which columns of paths are recognised
_WITH_FILES = 100  # rows per batch of a parquet file, which may hold images


class Table(ABC):
    """The rows of one file, or of several files with the same columns.

    Args:
        paths: the files.
        name: what they are called in messages, such as `train_file='a.csv'`.

    Raises:
        ValueError: a file cannot be read.
    """

    kind: str

    def __init__(self, paths: list[Path], name: str) -> None:
        self.paths, self.name = paths, name

    @cached_property
    @abstractmethod
    def features(self) -> Features:
        """The types of all columns: those that the file states, otherwise those of the first values."""

    @property
    def layout(self) -> str:
        """How the file is read, for the summary of the data, if that was found out and not given; otherwise empty."""
        return ""

    @abstractmethod
    def stored(self, choice: Choice) -> Features:
        """The columns that `load` and `stream` give for this choice, and their types."""

    @abstractmethod
    def tables_of(self, path: Path, choice: Choice) -> Iterator[pyarrow.Table]:
        """The rows of one file in batches, with the columns of `stored`."""

    def load(self, choice: Choice) -> Dataset:
        """The chosen columns under their canonical names.

        The result is cached under a key of the files' paths, sizes and times of modification.

        Raises:
            ValueError: a file cannot be read, or there are no rows.
        """
        builder = self._builder(choice)
        try:
            builder.download_and_prepare()
        except DatasetGenerationError as error:  # wraps the exception of the reader
            raise ValueError(str(error.__cause__ or error)) from error
        if builder.info.splits["train"].num_examples == 0:  # as_dataset would fail
            raise ValueError(f"{self.name} {self.why_no_rows()}")
        return builder.as_dataset("train")

    def stream(self, choice: Choice) -> IterableDataset:
        """The same rows as `load`, read one after the other without a copy in the cache."""
        return self._builder(choice).as_streaming_dataset("train")

    def _builder(self, choice: Choice) -> "_Builder":
        return _Builder(
            read=partial(_read, type(self), self.name, dict(choice), tuple(map(str, self.paths))),
            columns=self.stored(choice),
            key=(code_version(), [file_state(str(path)) for path in self.paths]),
        )

    def why_no_rows(self) -> str:
        """The end of the message if there are no rows."""
        return "has no rows. Give a file with data."

    def failed(self, path: Path, error: Exception) -> ValueError:
        """The exception for a file that cannot be read."""
        place = "" if len(self.paths) == 1 else f" ({path.name})"
        return ValueError(f"{self.name} cannot be read as {self.kind}{place}: {error}.")


class UntypedTable(Table):
    """The base of csv and JSON, whose columns have no types of their own.

    A column has the type that it is used as: text stays text even if it has only digits. Labels are stored as JSON
    text, and `typed_labels` later finds one type for all of them. The column PROBLEM says what is wrong with a row.
    """

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
        return Features({name: infer_feature(map(self.value, values)) for name, values in head.items()})

    @property
    def layout(self) -> str:
        return self._first.layout

    def typed(self) -> Dataset:
        """All columns, in memory, each with the one type that all of its values have."""
        columns: dict[str, list[str | None]] = {name: [] for name in self.features}
        for path in self.paths:
            for batch in self.records(path).batches(list(columns)):
                if problem := next(filter(None, batch.problems), None):
                    raise self.failed(path, ValueError(problem))
                for texts, values in zip(columns.values(), batch.columns, strict=True):
                    texts += map(self.label, values)
        return Dataset.from_dict({name: typed_labels(texts, "any", 0)[0] for name, texts in columns.items()})

    def value(self, value: Any) -> Any:
        """The value that text in the file stands for. The base class returns it as it is."""
        return value

    @abstractmethod
    def label(self, value: Any) -> str | None:
        """A label as JSON text."""

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
    """A csv file: all values are text."""

    kind = "csv"
    records = CsvRecords

    def value(self, value: Any) -> Any:
        # If the separator is a semicolon, a comma is a decimal comma.
        return as_number(value, "," if getattr(self._first, "separator", None) == ";" else ".")

    def label(self, value: Any) -> str | None:
        if value is None:
            return None
        number = self.value(value)
        written = value.strip()
        # Numbers are stored as they are written, since they may turn out to be names: 2.50 must stay 2.50.
        return written if not isinstance(number, str) and _is_json(written) else _json(number)


class JsonTable(UntypedTable):
    """A JSON file: each value has its own type, which may differ from row to row."""

    kind = "json"
    records = JsonRecords

    def label(self, value: Any) -> str | None:
        return None if value is None else _json(value)


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
    """A text file: its lines become the column `text`. Empty lines, which separate paragraphs, are left out."""

    kind = "text"
    features = _STRINGS

    def stored(self, choice: Choice) -> Features:
        return Features({name: Value("string") for name in choice})

    def tables_of(self, path: Path, choice: Choice) -> Iterator[pyarrow.Table]:
        for texts in grouped(self.texts_of(path), len):
            yield pyarrow.table({name: pyarrow.array(texts, pyarrow.string()) for name in choice})

    def why_no_rows(self) -> str:
        lines = sum(1 for path in self.paths for _ in path.open("rb"))
        return f"holds no text: all of its {lines} lines are empty."

    def texts_of(self, path: Path) -> Iterator[str]:
        """The rows of one file."""
        with path.open(encoding="utf-8") as file:
            for line in file:
                if line.strip():
                    yield line.rstrip("\n")


class FastaTable(TextTable):
    """A FASTA file, plain or gzipped: its sequences become the column `text`."""

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
    """Opens the file that a flag names.

    Args:
        file: the path.
        flag: the name of the flag, for messages.

    Raises:
        ValueError: the file has an unknown extension, does not exist or is empty.
    """
    path = Path(file)
    kind = "fasta" if is_fasta(path) else _ENDINGS.get(path.suffix.lower())
    if kind is None:
        known = ", ".join([*_ENDINGS, *FASTA_ENDINGS])
        raise ValueError(f"{flag}={file!r} has an unknown extension: expected one of {known}.")
    if not path.is_file():
        raise ValueError(f"{flag}={file!r} is not a file. Check the path.")
    if path.stat().st_size == 0:
        raise ValueError(f"{flag}={file!r} is empty (0 bytes). Give a file with rows.")
    return _KINDS[kind]([path.absolute()], f"{flag}={file!r}")


def load_file(file: str, flag: str) -> Dataset:
    """All columns of a file, each with the one type that all of its values have. Arguments as `open_file`.

    Raises:
        ValueError: as `open_file`, or a row cannot be read.
    """
    table = open_file(file, flag)
    if not isinstance(table, UntypedTable):
        return table.load({name: name for name in table.features})
    return table.typed()


def open_files(files: list[str], kind: str, name: str) -> Table:
    """Opens several files of the same `kind` ("csv" or "json") as one table. `name` is for messages."""
    return _KINDS[kind]([Path(file) for file in files], name)


@dataclasses.dataclass
class _Config(BuilderConfig):
    """The function that reads the rows, and everything that they depend on. The key of the cache is a hash of this."""

    read: Callable[[list[str]], Iterator[tuple[Key, pyarrow.Table]]] | None = None
    columns: Features | None = None
    key: Any = None


class _Builder(ArrowBasedBuilder):
    """A builder of datasets around `read`, so that rows can be cached or streamed."""

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


def _read(
    kind: type[Table], name: str, choice: Choice, all_files: tuple[str, ...], files: list[str]
) -> Iterator[tuple[Key, pyarrow.Table]]:
    """The rows of `files`, a part of `all_files`, in batches with keys, as datasets asks for."""
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
