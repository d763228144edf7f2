"""What all file formats have in common: a `Table`, whose rows are loaded or streamed, whole or in pieces.

A table knows its columns and, from the first rows, their types. Only the columns that are used are read, each as the
type that it is used as. Other columns therefore cannot cause errors, and a value that cannot be read makes its row a
bad row (which `columns.canonical` leaves out) and does not end the run.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow
from datasets import Dataset, Features, IterableDataset

from ..arrow_cache import require_text
from .building import Rows, load_rows, stream_rows
from .compressed import READ_ERRORS

# The columns that are used, by canonical name. If a series has one column for each time, it is a tuple of columns.
Choice = Mapping[str, str | tuple[str, ...]]


def columns_of(choice: Choice) -> list[str]:
    """The columns that are used, each once, by the names that they have in the files."""
    names = (name for column in choice.values() for name in ([column] if isinstance(column, str) else column))
    return list(dict.fromkeys(names))


@dataclass(frozen=True)
class Piece:
    """Consecutive rows of one file, which can be read without the rows before them.

    Args:
        path: the file.
        start: where the piece begins: a byte of a text file, the first byte of a line; a row group of a parquet file.
        stop: where it ends, exclusive, in the same unit; None: at the end of the file.
    """

    path: Path
    start: int = 0
    stop: int | None = None


class Table(ABC):
    """The rows of one file, or of several files with the same columns.

    Args:
        paths: the files, absolute.
        name: what they are called in messages, such as `train_file='a.csv'`.
        folder: what paths in columns of files are relative to; None: each to the folder of its table.

    Attributes:
        kind: the name of the format.
        untyped: whether any column can be read as text, since the file does not state the types of its columns.

    Raises:
        ValueError: a file cannot be read.
    """

    kind: str
    untyped = False

    def __init__(self, paths: list[Path], name: str, folder: Path | None = None) -> None:
        self.paths, self.name, self.folder = paths, name, folder

    @cached_property
    @abstractmethod
    def features(self) -> Features:
        """The types of all columns: those that the file states, otherwise those of the first values."""

    @property
    def layout(self) -> str:
        """The format, and what was found out about it, for the summary of the data."""
        files = f"{len(self.paths)} files, " if len(self.paths) > 1 else ""
        return f"{files}{self.kind}"

    @abstractmethod
    def columns_in(self, path: Path) -> Collection[str]:
        """The names of the columns of one of the files."""

    def check(self, choice: Choice) -> None:
        """Checks that all files have the columns that are used.

        Raises:
            ValueError: a file lacks one, or cannot be opened. The message names the file.
        """
        for path in self.paths if len(self.paths) > 1 else ():
            try:
                found = self.columns_in(path)
            except READ_ERRORS as error:
                raise self.failed(path, error) from error
            if lacking := [name for name in columns_of(choice) if name not in found]:
                raise ValueError(
                    f"{self.name}: {str(path)!r} has no column {lacking[0]!r}, as the files before it have. It has: "
                    f"{', '.join(found)}. All files of a source need the columns that are used."
                )

    @abstractmethod
    def stored(self, choice: Choice) -> Features:
        """The columns that `load` and `stream` give for this choice, and their types."""

    @abstractmethod
    def rows_of(self, piece: Piece, choice: Choice, skip_rows: int) -> Iterator[pyarrow.Table]:
        """As `tables_of`, without a name for errors."""

    def pieces_of(self, path: Path, count: int) -> list[Piece]:
        """Cuts a file into `count` pieces, or into fewer if it cannot be cut so. By default it is one piece."""
        return [Piece(path)]

    def shards(self, count: int) -> list[Piece]:
        """Cuts all rows into about `count` pieces, in the order of the rows.

        There is at least one piece for each file. Files are cut in proportion to their sizes, where their format
        allows that: lines of text that is not compressed, and row groups of parquet files.
        """
        sizes = [path.stat().st_size for path in self.paths]
        shares = [max(1, round(count * size / max(sum(sizes), 1))) for size in sizes]
        return [
            piece
            for path, share in zip(self.paths, shares, strict=True)
            for piece in (self.pieces_of(path, share) if share > 1 else [Piece(path)])
        ]

    def tables_of(self, piece: Piece, choice: Choice, skip_rows: int = 0) -> Iterator[pyarrow.Table]:
        """The rows of one piece in batches, with the columns of `stored`.

        Args:
            piece: one of those that `shards` gives for any count.
            choice: the columns that are used.
            skip_rows: rows at the beginning of the piece that are left out.

        Raises:
            ValueError: the file cannot be read. The message names it.
        """
        try:
            for rows in self.rows_of(piece, choice, skip_rows):
                require_text(rows)
                yield rows
        except READ_ERRORS as error:
            raise self.failed(piece.path, error) from error

    def load(self, choice: Choice, most_processes: int = 1) -> Dataset:
        """The chosen columns under their canonical names.

        The result is cached under a key of the files' paths, sizes and times of modification.

        Args:
            choice: the columns that are used.
            most_processes: the rows are read by so many processes, or by fewer if there is little to read.

        Raises:
            ValueError: a file cannot be read, or there are no rows.
        """
        dataset = load_rows(self._rows(choice), most_processes)
        if dataset is None:
            raise ValueError(f"{self.name} {self.why_no_rows()}")
        return dataset

    def stream(self, choice: Choice) -> IterableDataset:
        """The same rows as `load`, read one after the other without a copy in the cache."""
        return stream_rows(self._rows(choice))

    def _rows(self, choice: Choice) -> Rows:
        return Rows(type(self), tuple(map(str, self.paths)), self.name, self.folder, dict(choice))

    def folder_of(self, path: Path) -> str:
        """The folder that paths in the rows of a file are relative to."""
        return str(self.folder or path.parent)

    def why_no_rows(self) -> str:
        """The end of the message if there are no rows."""
        return "has no rows. Give a file with data."

    def failed(self, path: Path, error: Exception) -> ValueError:
        """The exception for a file that cannot be read."""
        place = "" if len(self.paths) == 1 else f" ({path})"
        return ValueError(f"{self.name} cannot be read as {self.kind}{place}: {error}.")
