"""Windows: a few rows at a time, prepared as a small data set, whose samples have a random order."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import datasets
import numpy as np
import pyarrow
from datasets import Dataset, DatasetInfo, Features
from datasets.table import InMemoryTable, table_cast

from ..quality.reading import BadRow
from ..quality.screening import NothingLeft, collecting
from ..summary import unlogged
from .ring import BrokenShards, Piece, Place, Ring
from .sharded_rows import ShardedRows


class LanePosition(NamedTuple):
    """A position in a lane: the beginning of a window.

    Args:
        place: where in the ring of shards the window begins.
        windows: windows of the lane before it.
        samples: samples of the lane before it.
    """

    place: Place
    windows: int = 0
    samples: int = 0


@dataclass
class Window:
    """Rows that were read at a time, and the samples made from them.

    Args:
        position: where it begins.
        end: where the next one begins.
        samples: the samples, decoded on access. Their `sample_index` is the number of the row within the window.
        order: their positions, in the order in which they are given out.
        names: of its rows, for reports.
        left_out: bad rows that have no sample, since the last window before it that has samples.
        unreadable: positions of the samples that are known to be bad.
    """

    position: LanePosition
    end: LanePosition
    samples: Dataset
    order: np.ndarray
    names: "RowNames"
    left_out: tuple[BadRow, ...] = ()
    unreadable: set[int] = field(default_factory=set)


@dataclass(frozen=True)
class RowNames:
    """What the rows of a window are called in the list of bad rows.

    Args:
        rows: the shards.
        pieces: where the rows of the window come from.
    """

    rows: ShardedRows
    pieces: list[Piece]

    def bad_row(self, row: int, reason: str, path: str | None, blank: bool = False) -> BadRow:
        """The report on a row of the window."""
        for piece in self.pieces:
            if row < len(piece.rows):
                break
            row -= len(piece.rows)
        number, name = self.rows.row_name(piece.place.shard, piece.place.row + row)
        return BadRow("train", number, reason, path or name, blank=blank)


@dataclass(frozen=True)
class WindowSettings:
    """How windows are read and prepared.

    Args:
        rows: the shards.
        prepare: makes samples from rows. Rows that its `good_rows` leaves out are reported.
        size: rows per window.
        ends: shards before which a window ends.
        seed: of the order of the samples.
        block: samples of a lane that are given out at a time.
        by_length: whether the samples of a block have similar lengths.
    """

    rows: ShardedRows
    prepare: Callable[[Dataset], Dataset]
    size: int
    ends: frozenset[int]
    seed: int
    block: int
    by_length: bool = False

    def read(self, lane: int, position: LanePosition, broken: BrokenShards) -> Iterator[Window]:
        """The windows of a lane that have samples, from a position on, without end.

        Raises:
            ValueError: all shards together give no sample, or too many of them are broken.
        """
        ring = Ring(self.rows, self.ends, broken, position.place)
        left_out: list[BadRow] = []
        shards_left = 0  # before the last window that had samples
        while True:
            pieces = ring.read(self.size)
            names = RowNames(self.rows, pieces)
            samples, bad = self._prepared(pieces, f"lane-{lane}-window-{position.windows}")
            left_out += [names.bad_row(row["row"], row["reason"], row.get("path")) for row in bad]
            end = LanePosition(ring.place, position.windows + 1, position.samples + len(samples))
            if len(samples):
                order = self._order(samples, lane, position)
                yield Window(position, end, samples, order, names, tuple(left_out))
                left_out, shards_left = [], ring.shards_left
            elif ring.shards_left - shards_left > self.rows.num_shards:
                raise ValueError("A whole pass over the stream gave no sample. Check the data.")
            position = end

    def _prepared(self, pieces: list[Piece], name: str) -> tuple[Dataset, list[dict[str, Any]]]:
        """The samples of a window, and the bad rows that have none, as `good_rows` describes them."""
        rows = in_memory([piece.rows for piece in pieces], self.rows.features, name)
        # The first rows were summarised before training.
        with unattended() as bad:
            try:
                samples = self.prepare(rows)
            except NothingLeft:
                samples = Dataset.from_dict({})
        return samples, bad

    def _order(self, samples: Dataset, lane: int, position: LanePosition) -> np.ndarray:
        generator = np.random.default_rng((self.seed, lane, position.windows))
        order = generator.permutation(len(samples))
        if not self.by_length:
            return order
        return grouped(order, lengths_of(samples), generator, self.block, position.samples)


def grouped(
    order: np.ndarray, lengths: np.ndarray, generator: np.random.Generator, block: int, before: int
) -> np.ndarray:
    """Changes the order of the samples of a window so that samples of similar lengths are given out together.

    Args:
        order: (N,) the positions of the samples in random order.
        lengths: (N,) the lengths of the samples.
        generator: draws the order of the groups.
        block: samples of a group.
        before: samples that the lane gave out before, of which the last ones may have begun a group.

    Returns:
        (N,) the same positions.
    """
    order = order[np.argsort(lengths[order], kind="stable")]
    starts = np.arange(-before % block, len(order), block)
    groups = np.split(np.arange(len(order)), starts[starts > 0])  # places of each group in the new order
    turns = generator.permutation(len(groups))
    found = np.empty_like(order)
    found[np.concatenate([groups[turn] for turn in turns])] = order
    return found


def lengths_of(samples: Dataset) -> np.ndarray:
    """(N,) the lengths of the samples: those of a column `length`, or their numbers of tokens, or else all equal."""
    plain = samples.with_format(None)
    if "length" in plain.column_names:
        return np.asarray(plain["length"][:])
    if "input_ids" in plain.column_names:
        return np.array([len(ids) for ids in plain["input_ids"][:]])
    return np.ones(len(samples), dtype=np.int64)


def in_memory(tables: Sequence[pyarrow.Table], features: Features, name: str) -> Dataset:
    """Tables of rows as one data set. `name` is its fingerprint."""
    table = pyarrow.concat_tables([table_cast(part, features.arrow_schema) for part in tables])
    return Dataset(InMemoryTable(table), info=DatasetInfo(features=features), fingerprint=name)


@contextmanager
def unattended() -> Iterator[list[dict[str, Any]]]:
    """While this is active, rows are prepared without bars and notes, and bad ones are only added to the list."""
    with _no_progress_bars(), unlogged(), collecting() as bad:
        yield bad


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    """Hides the progress bars of datasets: one for every window would flood the terminal."""
    shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()
