"""Text files, whose lines are rows."""

import io
from collections.abc import Collection, Iterator
from itertools import islice
from pathlib import Path

import pyarrow
from datasets import Features, Value

from .compressed import opened
from .pieces_of_lines import PartOfFile, pieces_of_lines
from .table import Choice, Piece, Table
from .untyped.records import grouped

_STRINGS = Features({"text": Value("string")})


class TextTable(Table):
    """A text file: its lines become the column `text`. Empty lines, which separate paragraphs, are left out."""

    kind = "text"
    features = _STRINGS

    def stored(self, choice: Choice) -> Features:
        return Features({name: Value("string") for name in choice})

    def columns_in(self, path: Path) -> Collection[str]:
        return list(_STRINGS)

    def pieces_of(self, path: Path, count: int) -> list[Piece]:
        return pieces_of_lines(path, count)

    def rows_of(self, piece: Piece, choice: Choice, skip_rows: int) -> Iterator[pyarrow.Table]:
        for texts in grouped(islice(self.texts_of(piece), skip_rows, None), len):
            yield pyarrow.table({name: pyarrow.array(texts, pyarrow.string()) for name in choice})

    def why_no_rows(self) -> str:
        lines = 0
        for path in self.paths:
            with opened(path) as file:
                lines += sum(1 for _ in file)
        return f"holds no text: all of its {lines} lines are empty."

    def texts_of(self, piece: Piece) -> Iterator[str]:
        """The rows of a piece."""
        with opened(piece.path) as file:
            text = io.TextIOWrapper(io.BufferedReader(PartOfFile(file, piece)), encoding="utf-8")
            for line in text:
                if line.strip():
                    yield line.rstrip("\n")
