"""JSON files: each value has its own type, which may differ from row to row."""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import Any

from ..compressed import ending_of, opened
from ..pieces_of_lines import lines_before, pieces_of_lines
from ..table import Piece
from .records import ROWS, Batch, Records, grouped
from .table import UntypedTable, as_json

_FEW = 100  # records by which the columns of further files are found
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")  # escape of a surrogate, half of a character


class JsonRecords(Records):
    """A JSON file: one object per line, or one list of objects. A list of strings becomes a column `text`.

    Empty lines are skipped.
    """

    kind = "json"

    @cached_property
    def _first(self) -> list[dict[str, Any]]:
        return [record for _, record, _ in islice(self._records(Piece(self.path), 0), ROWS)]

    @cached_property
    def names(self) -> list[str]:
        return list(dict.fromkeys(name for record in self._first for name in record))

    @property
    def first_names(self) -> list[str]:
        records = islice(self._records(Piece(self.path), 0), _FEW)
        return list(dict.fromkeys(name for _, record, _ in records for name in record))

    def head(self) -> dict[str, list[Any]]:
        return {name: [record.get(name) for record in self._first] for name in self.names}

    @property
    def is_of_lines(self) -> bool:
        """Whether each line of the file is a record."""
        if self._begins_with(b"["):
            return False
        with opened(self.path) as file:
            first = next(filter(bytes.strip, file), b"")
        return not self._goes_on(first)

    def batches(self, names: Sequence[str], piece: Piece | None = None, skip_rows: int = 0) -> Iterator[Batch]:
        records = self._records(Piece(self.path) if piece is None else piece, skip_rows)
        for group in grouped(records, lambda record: record[2]):
            columns = [[record.get(name) for _, record, _ in group] for name in names]
            yield Batch(columns, [problem for problem, *_ in group])

    def _records(self, piece: Piece, skip_rows: int) -> Iterator[tuple[str | None, dict[str, Any], int]]:
        """For each record what is wrong with it (None if nothing), its values by name, and its size in bytes."""
        first = piece.start == skip_rows == 0
        listed = self._begins_with(b"[")
        found = self._listed() if listed else self._lines(piece)
        for number, text_or_value, size in islice(found, skip_rows, None):
            try:
                record = _object(text_or_value)
            except (ValueError, RecursionError) as error:
                why = "it is nested too deeply" if isinstance(error, RecursionError) else error
                place = f"row {number}" if listed else f"line {lines_before(piece) + number}"
                if first:
                    raise ValueError(f"{place}: {why}") from error
                yield f"{place} of {self.path.name}: {why}", {}, size
            else:
                yield None, record, size
            first = False

    def _lines(self, piece: Piece) -> Iterator[tuple[int, Any, int]]:
        """The lines of a piece that are not empty, with their numbers in the piece, which begin at 1."""
        with opened(self.path) as file:
            if piece.start:
                file.seek(piece.start)
            filled = ((number, line) for number, line in enumerate(_until(file, piece), start=1) if line.strip())
            checked = [] if piece.start else list(islice(filled, 2))
            if piece.start == 0 and piece.stop is None and checked:
                if len(checked) == 1 or self._goes_on(checked[0][1]):
                    _refuse_wrapped(self._content())
            for number, line in chain(checked, filled):
                yield number, line, len(line)

    def _listed(self) -> Iterator[tuple[int, Any, int]]:
        try:
            values = json.loads(self._content())
        except RecursionError as error:
            raise ValueError("it is nested too deeply") from error
        for number, value in enumerate(values):
            yield number, {"text": value} if isinstance(value, str) else value, 1000

    def _content(self) -> bytes:
        with opened(self.path) as file:
            return file.read()

    def _goes_on(self, line: bytes) -> bool:
        """Whether the first line of a .json file is only the beginning of a longer object."""
        try:
            json.loads(line)
        except (ValueError, RecursionError):
            return ending_of(self.path) == ".json"
        return False

    def _begins_with(self, character: bytes) -> bool:
        with opened(self.path) as file:
            return file.read(1000).removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == character


def _until(file: Iterable[bytes], piece: Piece) -> Iterator[bytes]:
    """The lines of an open file up to the end of the piece."""
    place = piece.start
    for line in file:
        yield line
        place += len(line)
        if piece.stop is not None and place >= piece.stop:
            return


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


class JsonTable(UntypedTable):
    """A JSON file: each value has its own type, which may differ from row to row."""

    kind = "json"
    records = JsonRecords

    def pieces_of(self, path: Path, count: int) -> list[Piece]:
        return pieces_of_lines(path, count) if JsonRecords(path).is_of_lines else [Piece(path)]

    def label(self, value: Any) -> str | None:
        return None if value is None else as_json(value)
