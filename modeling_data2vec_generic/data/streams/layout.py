"""How the samples of a stream are divided among its lanes."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from transformers.utils import logging

from .sharded_rows import InterleavedRows, ShardedRows

logger = logging.get_logger(__name__)

_ROOM = 4  # a process with 1, 2 or 4 workers reads the same samples in the same order


class Part(NamedTuple):
    """Consecutive samples of one lane: from its own sample `start` up to `stop`, which is not included."""

    lane: int
    start: int
    stop: int


@dataclass(frozen=True)
class Layout:
    """The lanes of a stream, which give out its samples in turn, `block` samples at a time.

    It is settled when a run starts and saved with the position, so that the order of the samples stays the same with
    any number of processes and workers.

    Args:
        lanes: the number of lanes.
        block: samples that a lane gives out before it is the next one's turn.
        window: rows that a lane reads at a time.
    """

    lanes: int
    block: int
    window: int

    def parts(self, start: int, stop: int) -> Iterator[Part]:
        """Where the samples of the stream from `start` up to `stop` come from, in their order."""
        while start < stop:
            block, begun = divmod(start, self.block)
            count = min(self.block - begun, stop - start)
            turn, lane = divmod(block, self.lanes)
            first = turn * self.block + begun
            yield Part(lane, first, first + count)
            start += count

    def given_out(self, lane: int, samples: int) -> int:
        """How many of the first `samples` samples of the stream come from a lane."""
        turns, rest = divmod(samples, self.lanes * self.block)
        return turns * self.block + min(max(rest - lane * self.block, 0), self.block)

    def has_own_lanes(self, readers: int, batch_size: int, start: int) -> bool:
        """Whether each lane is read by one reader alone, if readers take batches from sample `start` on in turn."""
        whole = batch_size % self.block == 0 and start % self.block == 0
        return readers == 1 or (whole and self.lanes % (readers * batch_size // self.block) == 0)

    def arc_starts(self, num_shards: int) -> list[int]:
        """The shard that each lane begins with. The shards up to where the next lane begins are an arc."""
        return [lane * num_shards // self.lanes for lane in range(self.lanes)]


def settled_layout(rows: ShardedRows, processes: int, workers: int, batch_size: int, rows_in_memory: int) -> Layout:
    """The layout for a run that starts.

    Each worker has lanes of its own, and there are enough lanes for other numbers of workers. Data that cannot be cut
    into as many shards have only one lane for each worker.

    Args:
        rows: the data.
        processes: the number of processes.
        workers: loader workers per process; 0 counts as one.
        batch_size: samples per batch of a process.
        rows_in_memory: rows that each process may hold in memory.
    """
    workers = max(workers, 1)
    per_process = math.lcm(workers, _ROOM)
    if rows.cut(processes * per_process).num_shards < processes * per_process:
        per_process = workers
    return Layout(processes * per_process, batch_size, max(rows_in_memory // per_process, 1))


def rows_for(rows: ShardedRows, layout: Layout) -> ShardedRows:
    """The rows in at least as many shards as there are lanes."""
    cut = rows.cut(layout.lanes)
    if cut.num_shards >= layout.lanes:
        return cut
    return InterleavedRows(cut, math.ceil(layout.lanes / cut.num_shards))
