"""The base of csv and JSON files, whose columns have no types of their own."""

import json
import os
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow
from datasets import Audio, Dataset, Features, Image, List, Value

from ...encoded_files import file_of
from ..compressed import READ_ERRORS
from ..table import Choice, Piece, Table, columns_of
from .records import Records
from .value_types import (
    FILE_COLUMNS,
    PROBLEM,
    as_file,
    as_list,
    as_numbers,
    as_text,
    column_of,
    infer_feature,
    shown,
    typed_labels,
)


class UntypedTable(Table):
    """The base of csv and JSON, whose columns have no types of their own.

    A column has the type that it is used as: text stays text even if it has only digits. Labels are stored as JSON
    text, and `typed_labels` later finds one type for all of them. The column PROBLEM says what is wrong with a row.
    """

    records: Callable[[Path], Records]
    untyped = True

    @cached_property
    def _first(self) -> Records:
        try:
            return self.records(self.paths[0])
        except READ_ERRORS as error:
            raise self.failed(self.paths[0], error) from error

    @cached_property
    def features(self) -> Features:
        try:
            head = self._first.head()
        except READ_ERRORS as error:
            raise self.failed(self.paths[0], error) from error
        if not any(head.values()):
            raise ValueError(f"{self.name} has no rows. Give a file with data.")
        return Features({name: infer_feature(map(self.value, values)) for name, values in head.items()})

    @property
    def layout(self) -> str:
        return ", ".join(filter(None, [super().layout, self._first.layout]))

    def columns_in(self, path: Path) -> Collection[str]:
        return self.records(path).first_names

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
        if name == "series" and not (isinstance(feature, Image) or feature == Value("string")):
            deep = nested and isinstance(feature.feature, List)
            return List(List(Value("float64"))) if deep else List(Value("float64"))
        if name in FILE_COLUMNS:
            return FILE_COLUMNS[name]
        return List(Value("string")) if name == "text" and nested else Value("string")

    def rows_of(self, piece: Piece, choice: Choice, skip_rows: int) -> Iterator[pyarrow.Table]:
        features = self.stored(choice)
        columns = {name: (column,) if isinstance(column, str) else column for name, column in choice.items()}
        names = columns_of(choice)
        folder = self.folder_of(piece.path)
        for batch in self.records(piece.path).batches(names, piece, skip_rows):
            given = dict(zip(names, batch.columns, strict=True))
            problems = list(batch.problems)
            arrays = []
            for name, found in columns.items():
                feature = features[name]
                values: Any = given[found[0]]
                is_path = isinstance(self.features.get(found[0]), Audio | Image)
                convert = self._conversion(name, feature, folder, is_path)
                if isinstance(choice[name], tuple):
                    values, convert = list(zip(*(given[column] for column in found), strict=True)), self._times
                array, odd = column_of(values, convert, features.arrow_schema.field(name).type)
                for row, reason in odd.items():
                    problems[row] = problems[row] or f"column {', '.join(found[:3])!r} holds {reason}"
                arrays.append(array)
            yield pyarrow.table([*arrays, pyarrow.array(problems, pyarrow.string())], schema=features.arrow_schema)

    def _conversion(self, name: str, feature: Any, folder: str, is_path: bool) -> Callable[[Any], Any]:
        """The function that converts the values of a column.

        Args:
            name: its canonical name.
            feature: its type.
            folder: what paths are relative to.
            is_path: whether it is a column of labels that are paths, such as those of masks.
        """
        if name == "label":
            return (lambda value: self.label(_in(folder, value))) if is_path else self.label
        if name == "series" and isinstance(feature, List):
            return as_numbers
        if name in FILE_COLUMNS:
            convert = as_list if isinstance(feature, List) else as_file
            return lambda value: file_of(convert(value), folder)
        return as_list if isinstance(feature, List) else as_text

    def _times(self, values: tuple[Any, ...]) -> list[float | None]:
        numbers = [self.value(value) for value in values]
        if odd := [value for value in numbers if isinstance(value, bool) or not isinstance(value, int | float | None)]:
            raise ValueError(f"{shown(odd[0])}, not a number")
        return numbers


def _in(folder: str, path: Any) -> Any:
    return os.path.join(folder, path) if isinstance(path, str) else path


def as_json(value: Any) -> str:
    """A value as JSON text, as it is stored for labels."""
    return json.dumps(value, ensure_ascii=False)
