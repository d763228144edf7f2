"""Records of csv and JSON files, which say nothing about the types of their columns: values as they stand in the file,
in batches, and for a record that cannot be read what is wrong with it."""

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
_NOWHERE = "\x1f"  # a separator that occurs in no text
_SAMPLED = 200  # lines by which the separator is told
_ALIKE = 0.9  # share of the records that have as many cells as the header, by which a separator is known
_ROWS, _CHARACTERS = 1000, 8_000_000  # of a batch, at most
_HALF = re.compile(rb"\\u[dD][89a-fA-F]")  # escape of a surrogate; two of them are a character
_LARGEST_CELL = 2**31 - 1  # characters; Python's own limit of 131,072 is below a book or an image as base64 text


class Batch(NamedTuple):
    """Consecutive records: their values, column by column, and for each what is wrong with it, None if nothing."""

    columns: list[list[Any]]
    problems: list[str | None]


class Records(ABC):
    """One file.

    Attributes:
        names: its columns; of JSON those of the first records.
        layout: how the file is read, for the summary.

    Raises:
        ValueError: the file as a whole cannot be read, or its first record; the message says where and why.
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
        """The values of some columns; None where a record has none."""

    def head(self) -> dict[str, list[Any]]:
        """The first values of all columns."""
        names = self.names
        batch = next(self.batches(names), Batch([[] for _ in names], []))
        return dict(zip(names, batch.columns, strict=True))


class CsvRecords(Records):
    """A csv file in UTF-8 with a header. The separator is that of , ; tab | that gives header and records the same
    number of cells; of a tsv file the tab. An empty cell is a missing value, and nothing else is. Lines without a cell
    are skipped.
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
        shown = {"\t": "tab", _NOWHERE: "none, one column"}.get(self.separator, repr(self.separator))
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
    """A JSON file: an object per line, or one list of objects; a list of strings is a column `text`. Empty lines are
    skipped."""

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
        """What is wrong with each record, the record, and its size."""
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
        """Whether the first line of a .json file is only the beginning of an object."""
        try:
            json.loads(line)
        except (ValueError, RecursionError):
            return self.path.suffix.lower() == ".json"
        return False

    def _begins_with(self, character: bytes) -> bool:
        with self.path.open("rb") as file:
            return file.read(1000).removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == character


class _Utf8:
    """The lines of a file, with an error that says what to do if it is not UTF-8."""

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
    """The number of the line in which each record begins, and its cells."""
    own: list[str] = []  # the lines of a record

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
    """The separator that parts a header and its records alike; failing that, the one that the header has most of."""
    best, found = (0.0, 0), _NOWHERE
    for separator in _SEPARATORS:
        header, *records = [cells for cells in csv.reader(lines, delimiter=separator) if cells] or [[]]
        alike = sum(len(cells) == len(header) for cells in records) / max(len(records), 1)
        # Only below it does the share count: one record with a cell too many says nothing about the separator.
        known = (1.0 if alike >= _ALIKE else alike, len(header))
        if len(header) > 1 and known > best:
            best, found = known, separator
    return found


def _distinct(names: list[str]) -> list[str]:
    """Names of columns as pandas would have them: none is empty, and none occurs twice."""
    found: list[str] = []
    for place, name in enumerate(names):
        name = name or f"Unnamed: {place}"
        copies = sum(other == name or other.startswith(f"{name}.") for other in found)
        found.append(f"{name}.{copies}" if name in found else name)
    return found


def grouped(records: Iterable[Any], size_of: Callable[[Any], int]) -> Iterator[list[Any]]:
    """Consecutive records, a limited number of them and of characters together."""
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
    """The object that a line of JSON is. ValueError if it is none."""
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
    if isinstance(line, bytes) and _HALF.search(line):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise ValueError("it holds half of a character (\\ud800 to \\udfff)") from error
    return value


def _refuse_wrapped(content: bytes) -> None:
    """Raise ValueError if the content is one object that holds the rows in a field of it."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return  # which whoever reads the records says
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
