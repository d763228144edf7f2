"""An endless stream of prepared samples that can be resumed at any batch, with any number of readers.

The shards of the data form a ring, and the stream has several lanes (`lanes.py`). Each lane begins at a shard of its
own, reads around the ring, and goes on in front of where the next lane has begun. Shards that are empty, or cannot be
read, are passed over, so that the others make up for them; no lane waits for another. The stream's samples are those
of its lanes in turn, some at a time (`layout.py`).

A reader, which is a loader worker of a process, reads the lanes of its batches, usually alone, and decodes the samples
of its batches, always alone. Which sample has which number (`sample_index`) does not depend on the readers.

A position in the stream is the number of samples that were given out, and where the current window of each lane
begins. Each batch carries the positions of the lanes that it comes from. A checkpoint can therefore save the position
behind the last batches that were trained on, even if the loaders have read further.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import torch
from datasets import Dataset

from ..quality.reading import ROWS_READ, BadRow, ReportingCollator, RowsRead, Unreadable
from .lanes import Lane, Sample, Taken
from .layout import Layout, rows_for
from .ring import BrokenShards, Place
from .sharded_rows import ShardedRows
from .windows import LanePosition, WindowSettings

PROGRESS = "stream_progress"  # key of batches


@dataclass(frozen=True)
class StreamPosition:
    """A position in a stream.

    Args:
        layout: how its samples are divided among its lanes.
        samples: samples that all processes together have given out.
        lanes: by the number of a lane, where its current window begins. The others are at their beginning.
    """

    layout: Layout
    samples: int = 0
    lanes: dict[int, LanePosition] = field(default_factory=dict)


@dataclass(frozen=True)
class Progress:
    """What a batch says of the stream.

    Args:
        samples: samples that all processes have given out once each has taken as many batches.
        lanes: the positions of the lanes that it comes from, by their numbers.
        broken: shards that could not be read on, by name, with the reason.
    """

    samples: int
    lanes: dict[int, LanePosition]
    broken: dict[str, str]


@dataclass
class StreamBatch:
    """A batch of a stream.

    Args:
        taken: its samples, as the lanes have given them out.
        first: the number of the first sample in the stream.
        left_out: bad rows before or between them that have no samples.
        progress: what it says of the stream.
    """

    taken: list[Taken]
    first: int
    left_out: list[BadRow]
    progress: Progress

    @property
    def samples(self) -> list[Sample]:
        """The samples, with their numbers in the stream and what was read for them."""
        return [self._sample(place) for place in range(len(self.taken))]

    def instead_of(self, sample: Mapping[str, Any], unreadable: Unreadable) -> Sample:
        """The next good sample of the lane, in place of one whose value turned out to be bad when it was used."""
        read: RowsRead = sample[ROWS_READ]
        assert read.place is not None
        self.taken[read.place].replace(unreadable)
        return self._sample(read.place)

    def _sample(self, place: int) -> Sample:
        taken = self.taken[place]
        left_out = [] if place else self.left_out
        own = [] if taken.bad is None else [taken.bad]
        read = RowsRead(1 + len(left_out), (*left_out, *own), place)
        return {**taken.sample, "sample_index": self.first + place, ROWS_READ: read}


@dataclass
class SampleStream(torch.utils.data.IterableDataset):
    """An endless iterable dataset of batches of samples (`StreamBatch`), for a `DataLoader` with `batch_size=None`.

    The `sample_index` of a sample is its number in the stream, so that each pass over the data has other masks and
    crops.

    Args:
        rows: the data.
        prepare: makes samples from the rows of a window.
        rows_in_memory: rows that a process may hold in memory.
        seed: of the order within the windows.
        max_bad_fraction: the largest share of broken shards.
        by_length: whether batches have samples of similar lengths.
        batch_size: samples per batch and process.
        rank: the number of this process.
        num_processes: the number of processes that share the batches.
        start: the position to begin at.

    Raises:
        ValueError: while iterating, if too many shards are broken or all of them together give no sample.
    """

    rows: ShardedRows
    prepare: Callable[[Dataset], Dataset]
    rows_in_memory: int
    seed: int = 0
    max_bad_fraction: float = 1.0
    by_length: bool = False
    batch_size: int = 1
    rank: int = 0
    num_processes: int = 1
    start: StreamPosition = StreamPosition(Layout(1, 1, 1))

    def __post_init__(self) -> None:
        super().__init__()

    def opening(self, batch_size: int, rank: int, num_processes: int) -> list[Sample]:
        """A process's share of the first samples of the stream: its batch of `batch_size` samples."""
        start = StreamPosition(self.start.layout)  # also where the run has been resumed since
        stream = replace(self, start=start, batch_size=batch_size, rank=rank, num_processes=num_processes)
        return next(iter(stream)).samples

    def __iter__(self) -> Iterator[StreamBatch]:
        worker = torch.utils.data.get_worker_info()
        workers, turn = (1, 0) if worker is None else (worker.num_workers, worker.id)
        settings = self._settings()
        broken = BrokenShards(settings.rows, self.max_bad_fraction)
        lanes: dict[int, Lane] = {}
        for batch in count(turn, workers):
            first = self.start.samples + (batch * self.num_processes + self.rank) * self.batch_size
            behind = self.start.samples + (batch + 1) * self.num_processes * self.batch_size
            samples, bad, positions = [], [], {}
            for part in self.start.layout.parts(first, first + self.batch_size):
                if part.lane not in lanes:
                    lanes[part.lane] = Lane(part.lane, settings, self._begins_at(part.lane, settings), broken)
                taken, left_out = lanes[part.lane].take(part.start, part.stop)
                samples += taken
                bad += left_out
                positions[part.lane] = lanes[part.lane].position
            yield StreamBatch(samples, first, bad, Progress(behind, positions, dict(broken.reasons)))

    def _settings(self) -> WindowSettings:
        layout = self.start.layout
        rows = rows_for(self.rows, layout)
        return WindowSettings(
            rows,
            self.prepare,
            layout.window,
            frozenset(layout.arc_starts(rows.num_shards)),
            self.seed,
            layout.block,
            self.by_length,
        )

    def _begins_at(self, lane: int, settings: WindowSettings) -> LanePosition:
        arcs = self.start.layout.arc_starts(settings.rows.num_shards)
        return self.start.lanes.get(lane, LanePosition(Place(arcs[lane], 0)))


@dataclass
class StreamCollator:
    """Makes batches of what a stream gives, with its PROGRESS and ROWS_READ.

    Args:
        collator: makes a batch of samples.
    """

    collator: Callable[[list[Sample]], dict[str, Any]]

    def __call__(self, batch: StreamBatch) -> dict[str, Any]:
        return {**ReportingCollator(self.collator, batch)(batch.samples), PROGRESS: batch.progress}
