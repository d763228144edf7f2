"""Reads around a ring of shards, from any row on, and passes over shards that are empty or cannot be read."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import pyarrow

from .sharded_rows import ShardedRows

_FEWEST = 100  # shards that are opened before their share of broken ones is checked, if there are so many


class Place(NamedTuple):
    """A place in a ring of shards: a shard, and the number of its rows that lie before the place."""

    shard: int
    row: int


class Piece(NamedTuple):
    """Consecutive rows of one shard, which begin at `place`."""

    place: Place
    rows: pyarrow.Table


@dataclass
class BrokenShards:
    """The shards that one reader of a stream could not read to their end.

    Args:
        rows: the shards.
        max_bad_fraction: the largest share of broken shards among those that were opened.
        reasons: what is wrong with each broken shard, by its name.
    """

    rows: ShardedRows
    max_bad_fraction: float
    reasons: dict[str, str] = field(default_factory=dict)
    opened: set[int] = field(default_factory=set)

    def add(self, place: Place, error: Exception) -> None:
        """Notes that a shard could not be read on from a place.

        Raises:
            ValueError: too many shards are broken.
        """
        name = self.rows.name(place.shard)
        after = f" after {place.row} rows" if place.row else ""
        self.reasons.setdefault(name, f"{type(error).__name__}{after}: {error}")
        enough = len(self.opened) >= min(_FEWEST, self.rows.num_shards)
        if enough and len(self.reasons) > self.max_bad_fraction * len(self.opened):
            raise ValueError(
                f"{len(self.reasons)} of {len(self.opened)} shards of the stream cannot be read, more than "
                f"max_bad_fraction={self.max_bad_fraction} allows. The last one is {name} "
                f"({self.reasons[name]}). Repair or remove them, or raise --max_bad_fraction to skip them."
            ) from error


class Ring:
    """The rows of a source, read in a circle.

    Args:
        rows: the shards.
        ends: shards at which a piece of reading ends, so that what is read at once does not go beyond them.
        broken: where shards that cannot be read are noted.
        place: where reading begins.
    """

    def __init__(self, rows: ShardedRows, ends: frozenset[int], broken: BrokenShards, place: Place) -> None:
        self.rows, self.ends, self.broken, self.place = rows, ends, broken, place
        self.shards_left = 0
        self._batches: Iterator[pyarrow.Table] | None = None
        self._waiting: pyarrow.Table | None = None  # rows at `place` that have been read already

    def read(self, count: int) -> list[Piece]:
        """At least one row and up to `count` rows, fewer if a shard of `ends` begins.

        Raises:
            ValueError: not one row is left in all shards, or too many shards are broken.
        """
        pieces: list[Piece] = []
        left_before = self.shards_left
        while count:
            batch = self._next_batch()
            if batch is None:
                self._leave_shard()
                if self.shards_left - left_before > self.rows.num_shards and not pieces:
                    raise ValueError(_nothing(self.broken))
                if pieces and self.place.shard in self.ends:
                    break
                continue
            rows = batch[:count]
            self._waiting = batch[count:]
            pieces.append(Piece(self.place, rows))
            self.place = self.place._replace(row=self.place.row + len(rows))
            count -= len(rows)
        return pieces

    def _next_batch(self) -> pyarrow.Table | None:
        """Rows at `place`; None if the shard has no more that can be read."""
        if self._waiting:
            return self._waiting
        try:
            if self._batches is None:
                self.broken.opened.add(self.place.shard)
                self._batches = self.rows.read(*self.place)
            return next(filter(len, self._batches), None)
        except Exception as error:  # readers of the many formats raise exceptions of many types
            self.broken.add(self.place, error)
            return None

    def _leave_shard(self) -> None:
        self._batches = self._waiting = None
        self.place = Place((self.place.shard + 1) % self.rows.num_shards, 0)
        self.shards_left += 1


def _nothing(broken: BrokenShards) -> str:
    if not broken.reasons:
        return "The stream has no rows. Give a source with data."
    name, reason = next(iter(broken.reasons.items()))
    return f"No shard of the stream can be read, {name} since {reason}."
