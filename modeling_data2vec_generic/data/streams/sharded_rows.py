"""Rows in shards that can be read on their own, each from any row on, so that readers divide them among themselves."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow
from datasets import Dataset, Features, IterableDataset

_AT_ONCE = 100  # rows per batch, which may hold images


class ShardedRows(ABC):
    """The rows of a source, with files not decoded, in shards.

    Attributes:
        features: the types of the columns.
        num_shards: the number of shards.
    """

    features: Features
    num_shards: int

    @abstractmethod
    def read(self, shard: int, start: int = 0) -> Iterator[pyarrow.Table]:
        """The rows of a shard in batches, from row `start` of the shard on; none if it has no more rows."""

    def name(self, shard: int) -> str:
        """What a shard is called in messages."""
        return f"shard {shard} of {self.num_shards}"

    def row_name(self, shard: int, row: int) -> tuple[int, str | None]:
        """What a row of a shard is called in the list of bad rows: its number, and the name of what it is counted in.

        The name is None if it is counted in the whole source.
        """
        return row, self.name(shard) if self.num_shards > 1 else None

    def cut(self, count: int) -> "ShardedRows":
        """The same rows in the same order in at least `count` shards if they can be cut, or else as they are."""
        return self


@dataclass
class DatasetRows(ShardedRows):
    """A `Dataset`, whose shards are ranges of its rows. All ranges are equally long, give or take one row.

    Args:
        rows: the data set.
        num_shards: the number of ranges.
    """

    rows: Dataset
    num_shards: int = 1

    def __post_init__(self) -> None:
        self.rows = self.rows.with_format("arrow")
        self.features = self.rows.features

    def read(self, shard: int, start: int = 0) -> Iterator[pyarrow.Table]:
        end = self._first_row(shard + 1)
        for first in range(self._first_row(shard) + start, end, _AT_ONCE):
            yield self.rows[first : min(first + _AT_ONCE, end)]

    def name(self, shard: int) -> str:
        return f"rows {self._first_row(shard)} to {self._first_row(shard + 1) - 1}"

    def row_name(self, shard: int, row: int) -> tuple[int, str | None]:
        return self._first_row(shard) + row, None

    def cut(self, count: int) -> "DatasetRows":
        return DatasetRows(self.rows, count) if count > self.num_shards else self

    def _first_row(self, shard: int) -> int:
        return len(self.rows) * shard // self.num_shards


@dataclass
class IterableRows(ShardedRows):
    """An `IterableDataset`, whose shards are its own: usually files, which cannot be cut.

    Args:
        rows: the data set, with files not decoded.
        features: the types of its columns.
    """

    rows: IterableDataset
    features: Features

    def __post_init__(self) -> None:
        self.num_shards = self.rows.num_shards

    def read(self, shard: int, start: int = 0) -> Iterator[pyarrow.Table]:
        rows = self.rows.shard(self.num_shards, shard)
        yield from (rows.skip(start) if start else rows).with_format("arrow").iter(_AT_ONCE)


def limited(rows: ShardedRows, count: int) -> ShardedRows:
    """At most `count` rows: the first ones of a `Dataset`, otherwise the first ones of each shard (`LimitedRows`)."""
    if isinstance(rows, DatasetRows):
        return DatasetRows(rows.rows.select(range(min(count, len(rows.rows)))), rows.num_shards)
    return LimitedRows(rows, count)


@dataclass
class LimitedRows(ShardedRows):
    """The first rows of each shard, at most `count` in all. All shards have the same share, give or take one row.

    They are not cut further, since which rows they are would then depend on the number of shards.
    """

    rows: ShardedRows
    count: int

    def __post_init__(self) -> None:
        self.features, self.num_shards = self.rows.features, self.rows.num_shards

    def read(self, shard: int, start: int = 0) -> Iterator[pyarrow.Table]:
        left = self.count * (shard + 1) // self.num_shards - self.count * shard // self.num_shards - start
        if left <= 0:
            return
        for batch in self.rows.read(shard, start):
            yield batch[:left]
            left -= len(batch)
            if left <= 0:
                return

    def name(self, shard: int) -> str:
        return self.rows.name(shard)

    def row_name(self, shard: int, row: int) -> tuple[int, str | None]:
        return self.rows.row_name(shard, row)


@dataclass
class InterleavedRows(ShardedRows):
    """Shards that cannot be cut, divided row by row: each becomes `parts` shards, with every `parts`-th of its rows.

    Each of these reads the whole shard.
    """

    rows: ShardedRows
    parts: int

    def __post_init__(self) -> None:
        self.features, self.num_shards = self.rows.features, self.rows.num_shards * self.parts

    def read(self, shard: int, start: int = 0) -> Iterator[pyarrow.Table]:
        whole, part = divmod(shard, self.parts)
        before = 0
        for batch in self.rows.read(whole, start * self.parts):
            first = (part - before) % self.parts
            if first < len(batch):
                yield batch.take(list(range(first, len(batch), self.parts)))
            before += len(batch)

    def row_name(self, shard: int, row: int) -> tuple[int, str | None]:
        whole, part = divmod(shard, self.parts)
        return self.rows.row_name(whole, row * self.parts + part)

    def name(self, shard: int) -> str:
        whole, part = divmod(shard, self.parts)
        return f"{self.rows.name(whole)} (row {part} of every {self.parts})"
