"""Rows of several sources, mixed by weights."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow
from datasets import Features
from datasets.table import cast_table_to_features

from .sharded_rows import InterleavedRows, ShardedRows

_DRAWN = 100  # rows that are drawn at a time


@dataclass(frozen=True)
class MixedSource:
    """A source of a mixture.

    Args:
        rows: its rows.
        chosen: the columns that are used, by the names that they get.
        weight: in proportion to which rows come from it.
    """

    rows: ShardedRows
    chosen: Mapping[str, str]
    weight: float


@dataclass
class MixedRows(ShardedRows):
    """Each row comes from a source with a probability in proportion to its weight.

    A shard mixes shards of all sources. Those of a source that are used up give their rows again, until those of all
    sources have given each row at least once. To begin at a later row of a shard, the rows before it are read too.

    Args:
        sources: what is mixed.
        features: the types of the columns, which all sources have.
        seed: of the draws.
        num_shards: the number of shards.
    """

    sources: list[MixedSource]
    features: Features
    seed: int
    num_shards: int = 1

    def __post_init__(self) -> None:
        self._cut = [_in_shards(source.rows, self.num_shards) for source in self.sources]

    def cut(self, count: int) -> "MixedRows":
        if count <= self.num_shards:
            return self
        return MixedRows(self.sources, self.features, self.seed, count)

    def read(self, shard: int, start: int = 0) -> Iterator[pyarrow.Table]:
        readers = [self._reader(number, shard) for number in range(len(self.sources))]
        weights = np.array([source.weight for source in self.sources]) * [reader.has_rows() for reader in readers]
        if not weights.any():
            return
        generator = np.random.default_rng((self.seed, shard))
        used = np.flatnonzero(weights)
        while not all(readers[number].used_up for number in used):
            drawn = generator.choice(len(weights), size=_DRAWN, p=weights / weights.sum())
            taken = [part for number in used for part in readers[number].take(int((drawn == number).sum()))]
            # Rows were taken source by source, and stand where their source was drawn.
            places = np.argsort(np.argsort(drawn, kind="stable"), kind="stable")
            rows = pyarrow.concat_tables(taken).take(pyarrow.array(places))
            if start < len(rows):
                yield rows[start:]
            start = max(0, start - len(rows))

    def name(self, shard: int) -> str:
        return f"shard {shard} of {self.num_shards} of the mixture"

    def _reader(self, number: int, shard: int) -> "_Reader":
        rows = self._cut[number]
        own = range(rows.num_shards * shard // self.num_shards, rows.num_shards * (shard + 1) // self.num_shards)
        return _Reader(rows, own, self.sources[number].chosen, self.features)


class _Reader:
    """Some shards of a source, read again and again."""

    def __init__(self, rows: ShardedRows, shards: range, chosen: Mapping[str, str], features: Features) -> None:
        self.rows, self.shards, self.chosen, self.features = rows, shards, chosen, features
        self.used_up = False
        self._batches = self._passes()
        self._waiting: pyarrow.Table | None = None

    def has_rows(self) -> bool:
        """Whether there is a row."""
        self._waiting = next(self._batches, None)
        return self._waiting is not None

    def take(self, count: int) -> list[pyarrow.Table]:
        """The next `count` rows."""
        found = []
        while count:
            batch = self._waiting if self._waiting is not None and len(self._waiting) else next(self._batches)
            found.append(batch[:count])
            self._waiting = batch[count:]
            count -= len(found[-1])
        return found

    def _passes(self) -> Iterator[pyarrow.Table]:
        any_rows = True
        while any_rows:
            any_rows = False
            for shard in self.shards:
                for batch in self.rows.read(shard):
                    any_rows = any_rows or len(batch) > 0
                    if len(batch):
                        yield self._typed(batch)
            self.used_up = True

    def _typed(self, batch: pyarrow.Table) -> pyarrow.Table:
        columns = {
            name: batch[self.chosen[name]] if name in self.chosen else pyarrow.nulls(len(batch), pyarrow.string())
            for name in self.features
        }
        return cast_table_to_features(pyarrow.table(columns), self.features)


def _in_shards(rows: ShardedRows, count: int) -> ShardedRows:
    cut = rows.cut(count)
    return cut if cut.num_shards >= count else InterleavedRows(cut, math.ceil(count / cut.num_shards))
