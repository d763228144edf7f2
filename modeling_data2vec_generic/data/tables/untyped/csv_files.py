"""csv and tsv files: all values are text. A csv file is one piece, since line ends may lie within quotes."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from ..compressed import ending_of, opened
from ..table import Piece
from .records import Batch, Records, grouped
from .table import UntypedTable, as_json
from .value_types import as_number

_SEPARATORS = ",;\t|"
_NO_SEPARATOR = "\x1f"  # a control character that occurs in no text, for files with one column
_SAMPLED = 200  # lines by which the separator is found
_ALIKE = 0.9  # if this share of the records has as many cells as the header, it is the separator
_LARGEST_CELL = 2**31 - 1  # characters; Python's own limit of 131,072 is too low for books and images as base64 text


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
        self.separator = "\t" if ending_of(path) == ".tsv" else _separator_of(sample)
        names = next(filter(None, csv.reader(sample, delimiter=self.separator)), [])
        self._names = _distinct([name.strip() for name in names])
        shown = {"\t": "tab", _NO_SEPARATOR: "none, one column"}.get(self.separator, repr(self.separator))
        self.layout = f"separator {shown}"

    @property
    def names(self) -> list[str]:
        return self._names

    def batches(self, names: Sequence[str], piece: Piece | None = None, skip_rows: int = 0) -> Iterator[Batch]:
        if lacking := [name for name in names if name not in self._names]:
            raise ValueError(f"it has no column {lacking[0]!r}; there are: {', '.join(self._names)}")
        places = [self._names.index(name) for name in names]
        width = len(self._names)
        with self._opened() as file:
            records = islice(_parsed(file, self.separator), 1 + skip_rows, None)  # without the header
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


class _Utf8:
    """Opens a file and gives its lines, with an error that says what to do if it is not UTF-8."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Iterator[str]:
        self.file = io.TextIOWrapper(opened(self.path), encoding="utf-8-sig", newline="")
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
        return written if not isinstance(number, str) and _is_json(written) else as_json(number)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
