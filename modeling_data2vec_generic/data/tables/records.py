"""Reads csv and JSON files, which do not state the types of their columns.

Values are returned as they are in the file, in batches. A record that cannot be read has a message in place of values.
"""

import csv
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

_SEPARATORS = ",;\t|"
_NO_SEPARATOR = "\x1f"  # a control character that occurs in no text, for files with one column
_SAMPLED = 200  # lines by which the separator is found
_ALIKE = 0.9  # if this share of the records has as many cells as the header, it is the separator
_ROWS, _CHARACTERS = 1000, 8_000_000  # of a batch, at most
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")  # escape of a surrogate, half of a character
_LARGEST_CELL = 2**31 - 1  # characters; Python's own limit of 131,072 is too low for books and images as base64 text


class Batch(NamedTuple):
    """Consecutive records.

    Args:
        columns: the values, column by column.
        problems: for each record what is wrong with it; None if nothing.
    """

    columns: list[list[Any]]
    problems: list[str | None]


class Records(ABC):
    """The records of one file.

    Attributes:
        kind: the name of the format.
        names: the names of the columns; for JSON those in the first records.
        layout: how the file is read, for the summary of the data.

    Raises:
        ValueError: the file or its first record cannot be read. The message says where and why.
    """

    kind: str
    layout: str = ""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    @abstractmethod
    def names(self) -> list[str]: ...

    @abstractmethod
    def batches(self, names: Sequence[str]) -> Iterator[Batch]:
        """The values of the columns `names`. A missing value is None."""

    def head(self) -> dict[str, list[Any]]:
        """The first values of all columns, by name."""
        names = self.names
        batch = next(self.batches(names), Batch([[] for _ in names], []))
        return dict(zip(names, batch.columns, strict=True))


class CsvRecords(Records):
    """A csv file in UTF-8 with a header.

    The separator is a tab in a tsv file, and otherwise the one of `,`, `;`, tab and `|` with which header and records
    have the same number of cells. Only an empty cell is a missing value. Empty lines are skipped.
    """

    kind = "csv"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        csv.field_size_limit(_LARGEST_CELL)
        with self._opened() as file:
            sample = list(islice(file, _SAMPLED))
        self.separator = "\t" if path.suffix.lower() == ".tsv" else _separator_of(sample)
        names = next(filter(None, csv.reader(sample, delimiter=self.separator)), [])
        self._names = _distinct([name.strip() for name in names])
        shown = {"\t": "tab", _NO_SEPARATOR: "none, one column"}.get(self.separator, repr(self.separator))
        self.layout = f"separator {shown}"

    @property
    def names(self) -> list[str]:
        return self._names

    def batches(self, names: Sequence[str]) -> Iterator[Batch]:
        if lacking := [name for name in names if name not in self._names]:
            raise ValueError(f"it has no column {lacking[0]!r}; there are: {', '.join(self._names)}")
        places = [self._names.index(name) for name in names]
        width = len(self._names)
        with self._opened() as file:
            records = islice(_parsed(file, self.separator), 1, None)  # without the header
            for group in grouped(records, lambda record: sum(map(len, record[1]))):
                rows = [[*cells, *[""] * (width - len(cells))] for _, cells in group]
                problems = [
                    f"line {line} of {self.path.name} has {len(cells)} cells, and the header has {width}"
                    if len(cells) > width and any(cells[width:])
                    else None
                    for line, cells in group
                ]
                yield Batch([[row[place] or None for row in rows] for place in places], problems)

    def _opened(self) -> Any:
        return _Utf8(self.path)


class JsonRecords(Records):
    """A JSON file: one object per line, or one list of objects. A list of strings becomes a column `text`.

    Empty lines are skipped.
    """

    kind = "json"

    @cached_property
    def _first(self) -> list[dict[str, Any]]:
        return [record for _, record, _ in islice(self._records(), _ROWS)]

    @cached_property
    def names(self) -> list[str]:
        return list(dict.fromkeys(name for record in self._first for name in record))

    def head(self) -> dict[str, list[Any]]:
        return {name: [record.get(name) for record in self._first] for name in self.names}

    def batches(self, names: Sequence[str]) -> Iterator[Batch]:
        for group in grouped(self._records(), lambda record: record[2]):
            columns = [[record.get(name) for _, record, _ in group] for name in names]
            yield Batch(columns, [problem for problem, *_ in group])

    def _records(self) -> Iterator[tuple[str | None, dict[str, Any], int]]:
        """For each record what is wrong with it (None if nothing), its values by name, and its size in bytes."""
        first = True
        found = self._listed() if self._begins_with(b"[") else self._lines()
        for place, text_or_value, size in found:
            try:
                record = _object(text_or_value)
            except (ValueError, RecursionError) as error:
                why = "it is nested too deeply" if isinstance(error, RecursionError) else error
                if first:
                    raise ValueError(f"{place}: {why}") from error
                yield f"{place} of {self.path.name}: {why}", {}, size
            else:
                yield None, record, size
            first = False

    def _lines(self) -> Iterator[tuple[str, Any, int]]:
        with self.path.open("rb") as file:
            filled = ((number, line) for number, line in enumerate(file, start=1) if line.strip())
            first = next(filled, None)
            second = next(filled, None)
            if first is not None and (second is None or self._goes_on(first[1])):
                _refuse_wrapped(self.path.read_bytes())
            for number, line in [entry for entry in (first, second) if entry is not None]:
                yield f"line {number}", line, len(line)
            for number, line in filled:
                yield f"line {number}", line, len(line)

    def _listed(self) -> Iterator[tuple[str, Any, int]]:
        try:
            values = json.loads(self.path.read_bytes())
        except RecursionError as error:
            raise ValueError("it is nested too deeply") from error
        for number, value in enumerate(values):
            yield f"row {number}", {"text": value} if isinstance(value, str) else value, 1000

    def _goes_on(self, line: bytes) -> bool:
        """Whether the first line of a .json file is only the beginning of a longer object."""
        try:
            json.loads(line)
        except (ValueError, RecursionError):
            return self.path.suffix.lower() == ".json"
        return False

    def _begins_with(self, character: bytes) -> bool:
        with self.path.open("rb") as file:
            return file.read(1000).removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == character


class _Utf8:
    """Opens a file and gives its lines, with an error that says what to do if it is not UTF-8."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Iterator[str]:
        self.file = self.path.open(encoding="utf-8-sig", newline="")
        return self._lines()

    def __exit__(self, *_: Any) -> None:
        self.file.close()

    def _lines(self) -> Iterator[str]:
        try:
            yield from self.file
        except UnicodeDecodeError as error:
            raise ValueError(f"it is not UTF-8 ({error}). Save it as UTF-8") from error


def _parsed(lines: Iterable[str], separator: str) -> Iterator[tuple[int, list[str]]]:
    """The records of a csv file: the number of the line in which each begins, and its cells."""
    own: list[str] = []  # the lines of the current record

    def noted() -> Iterator[str]:
        for line in lines:
            own.append(line)
            yield line

    reader = csv.reader(noted(), delimiter=separator)
    last: list[str] = []
    for cells in reader:
        if cells:
            yield reader.line_num - len(own) + 1, cells
        last = own[:]
        own.clear()
    try:
        list(csv.reader(last, delimiter=separator, strict=True))
    except csv.Error as error:
        if "unexpected end" in str(error):
            raise ValueError(f"the quote that opens in line {reader.line_num - len(last) + 1} is not closed") from None


def _separator_of(lines: list[str]) -> str:
    """The separator with which most records have as many cells as the header.

    Among separators that fit at least 90% of the records, it is the one that gives the header the most cells.
    """
    best, found = (0.0, 0), _NO_SEPARATOR
    for separator in _SEPARATORS:
        header, *records = [cells for cells in csv.reader(lines, delimiter=separator) if cells] or [[]]
        alike = sum(len(cells) == len(header) for cells in records) / max(len(records), 1)
        # Above 90% the exact share does not count: a record with a cell too many says nothing about the separator.
        fit = (1.0 if alike >= _ALIKE else alike, len(header))
        if len(header) > 1 and fit > best:
            best, found = fit, separator
    return found


def _distinct(names: list[str]) -> list[str]:
    """Unique, non-empty names of columns, made as pandas does: `Unnamed: 2`, `name.1`."""
    found: list[str] = []
    for place, name in enumerate(names):
        name = name or f"Unnamed: {place}"
        copies = sum(other == name or other.startswith(f"{name}.") for other in found)
        found.append(f"{name}.{copies}" if name in found else name)
    return found


def grouped(records: Iterable[Any], size_of: Callable[[Any], int]) -> Iterator[list[Any]]:
    """Groups of consecutive records: at most 1,000 records each, and about 8 million characters.

    Args:
        size_of: the number of characters of a record.
    """
    group: list[Any] = []
    size = 0
    for record in records:
        group.append(record)
        size += size_of(record)
        if len(group) == _ROWS or size > _CHARACTERS:
            yield group
            group, size = [], 0
    if group:
        yield group


def _object(line: Any) -> dict[str, Any]:
    """The values of a record, by name.

    Args:
        line: a line of a JSON file as bytes, or a value that is parsed already.

    Raises:
        ValueError: it is not a JSON object.
    """
    value = line
    if isinstance(line, bytes):
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            if line.rstrip().endswith(b","):
                raise ValueError("it ends with a comma: remove the commas between the lines") from error
            raise ValueError(f"it is not JSON ({error.msg} at character {error.pos})") from error
        except UnicodeDecodeError as error:
            raise ValueError(f"it is not UTF-8 ({error})") from error
    if not isinstance(value, dict):
        raise ValueError(f'it is a {type(value).__name__}, and an object, {{"column": value, ...}}, is expected')
    if isinstance(line, bytes) and _SURROGATE.search(line):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise ValueError("it holds half of a character (\\ud800 to \\udfff)") from error
    return value


def _refuse_wrapped(content: bytes) -> None:
    """Raises ValueError if the content is one object that holds the rows, or the columns, in its fields."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return  # reading the records reports it
    if not isinstance(value, dict):
        return
    for name, rows in value.items():
        if isinstance(rows, list) and rows and isinstance(rows[0], dict):
            raise ValueError(
                f"it is one object with the fields {', '.join(value)}, and the rows seem to be the {len(rows)} "
                f"objects in {name!r}. Save that list as a file of its own"
            )
    lengths = {len(values) for values in value.values() if isinstance(values, list)}
    if len(value) > 1 and len(lengths) == 1 and all(isinstance(values, list) for values in value.values()):
        raise ValueError(
            f"it is one object of {len(value)} lists ({', '.join(value)}), which seem to be columns. Save a list of "
            "objects, one for each row"
        )
