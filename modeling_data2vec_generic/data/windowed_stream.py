"""An endless stream of prepared samples that can be taken up again at any sample.

`datasets` shuffles a stream through a buffer whose content is lost with the process. Here rows are read in windows: a
window is a small data set in memory, is screened and prepared like any other, and its samples are given out in an
order that follows from (seed, pass, window). A position in the stream is then where the window began in the source,
which `IterableDataset.state_dict` knows, and how many samples came before. Going on from it reads that one window
again.

Batches carry the position behind them, so that a checkpoint holds that of the batches trained on, whatever a loader
has read ahead.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import datasets
import numpy as np
import torch
from datasets import Dataset, Features, IterableDataset

from .bad_rows import BadRows
from .screening import NothingLeft, Tally, tallied
from .summary import unlogged

POSITION = "stream_position"  # key of samples and batches


@dataclass(frozen=True)
class Position:
    """Where a stream stands: a window that begins at `source`, and the number of samples given out.

    `first_sample` samples, `read` rows and `bad` ones among them came before the window; `passes` over the source and
    `windows` of the pass too. `samples` is the number that all processes together have given out.
    """

    source: dict[str, Any] | None = None  # None: the beginning
    passes: int = 0
    windows: int = 0
    first_sample: int = 0
    read: int = 0
    bad: int = 0
    samples: int = 0

    def to_json(self) -> str:
        return json.dumps(asdict(self))


@dataclass
class WindowedStream(torch.utils.data.IterableDataset):
    """Samples without end, pass after pass, from the rows of `source`.

    Every sample has its number in the stream as `sample_index`, which goes on counting from pass to pass: each pass is
    masked and cropped anew. The last sample of each batch has the position behind the batch under `stream_position`.
    Loader workers and processes all read all rows and share the batches out in turn, so that their number changes
    nothing about the order; a sample is decoded only where it is given out.

    Args:
        source: rows, files not decoded.
        features: their types.
        prepare: makes samples of the rows of a window; what its `good_rows` leaves out is tallied.
        window_size: rows per window, the last window of a pass may have fewer.
        seed: of the order within the windows; `None` keeps the order of the source.
        listed_in: where bad rows are written down; `None` in processes that leave it to another.
        max_bad_fraction: share of bad rows among all those read so far above which the stream ends with an error.
        batch_size: samples per batch and process.
        rank, num_processes: which batches are this process's.
        start: the position to begin at.

    Raises:
        ValueError: while iterating: too many bad rows, or a pass without any sample.
    """

    source: IterableDataset
    features: Features
    prepare: Callable[[Dataset], Dataset]
    window_size: int
    seed: int | None = 0
    max_bad_fraction: float = 1.0
    listed_in: BadRows | None = None
    batch_size: int = 1
    rank: int = 0
    num_processes: int = 1
    start: Position = field(default_factory=Position)

    def __post_init__(self) -> None:
        super().__init__()

    def from_beginning(self) -> "WindowedStream":
        """The same stream as one process would read it from its first sample on."""
        return replace(self, start=Position(), rank=0, num_processes=1)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        worker = torch.utils.data.get_worker_info()
        workers, turn = (1, 0) if worker is None else (worker.num_workers, worker.id)
        ours = turn * self.num_processes + self.rank
        everyone = workers * self.num_processes
        for window, samples, order in self._windows(quiet=ours > 0):
            for place, number in enumerate(order, start=window.first_sample):
                if place < self.start.samples:
                    continue
                batch, place_in_batch = divmod(place - self.start.samples, self.batch_size)
                if batch % everyone != ours:
                    continue
                sample = {**samples[int(number)], "sample_index": window.first_sample + int(number)}
                if place_in_batch == self.batch_size - 1:
                    steps = batch // self.num_processes + 1
                    behind = self.start.samples + steps * self.batch_size * self.num_processes
                    sample[POSITION] = replace(window, samples=behind).to_json()
                yield sample

    def _windows(self, quiet: bool) -> Iterator[tuple[Position, Dataset, np.ndarray]]:
        """Each window's position, its samples, and the order to give them out."""
        at = self.start
        tally = Tally(self.max_bad_fraction, at.read, at.bad, quiet, self.listed_in)
        while True:
            samples_before = at.first_sample
            source = deepcopy(self.source)  # which keeps its place in itself, and is read by others too
            if at.source is not None:
                source.load_state_dict(at.source)
            whole_pass = at.windows == 0
            tally.quiet = quiet or at.passes > 0  # the same rows are bad in every pass
            for rows in source.iter(batch_size=self.window_size):
                behind = source.state_dict()
                samples = self._prepared(rows, tally)
                if len(samples):
                    order = np.arange(len(samples))
                    if self.seed is not None:
                        order = np.random.default_rng((self.seed, at.passes, at.windows)).permutation(len(samples))
                    yield at, samples, order
                at = replace(
                    at,
                    source=behind,
                    windows=at.windows + 1,
                    first_sample=at.first_sample + len(samples),
                    read=tally.read,
                    bad=tally.bad,
                )
            tally.judge()
            if whole_pass and at.first_sample == samples_before:
                raise ValueError(f"A whole pass over the stream, {tally.read} rows, gave no sample. Check the data.")
            at = replace(at, source=None, passes=at.passes + 1, windows=0)

    def _prepared(self, rows: Mapping[str, list[Any]], tally: Tally) -> Dataset:
        with no_progress_bars(), unlogged(), tallied(tally):  # the notes on the first window are enough
            window = Dataset.from_dict(rows, features=self.features)
            try:
                samples = self.prepare(window)
            except NothingLeft:
                samples = Dataset.from_dict({})
            tally.add_window(len(window))
            return samples


@dataclass
class StreamCollator:
    """Any collator, whose batches then carry the `stream_position` of their last sample."""

    collator: Callable[[list[dict[str, Any]]], dict[str, Any]]

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        return {**self.collator(examples), POSITION: examples[-1][POSITION]}


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """A bar for every window would flood the terminal."""
    shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()
