"""The records of csv and JSON files, which do not state the types of their columns.

Values are returned as they are in the file, in batches. A record that cannot be read has a message in place of values.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..table import Piece

ROWS, _CHARACTERS = 1000, 8_000_000  # of a batch, at most


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

    @property
    def first_names(self) -> list[str]:
        """The names of the columns in the first few records, which are found faster than `names`."""
        return self.names

    @abstractmethod
    def batches(self, names: Sequence[str], piece: Piece | None = None, skip_rows: int = 0) -> Iterator[Batch]:
        """The values of the columns `names`. A missing value is None.

        Args:
            names: the columns.
            piece: a piece of the file; None for all of it.
            skip_rows: records at its beginning that are left out.
        """

    def head(self) -> dict[str, list[Any]]:
        """The first values of all columns, by name."""
        names = self.names
        batch = next(self.batches(names), Batch([[] for _ in names], []))
        return dict(zip(names, batch.columns, strict=True))


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
        if len(group) == ROWS or size > _CHARACTERS:
            yield group
            group, size = [], 0
    if group:
        yield group
