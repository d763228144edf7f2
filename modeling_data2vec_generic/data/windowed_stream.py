"""An endless stream of prepared samples that can be resumed at any batch.

`datasets` shuffles a stream with a buffer, whose content is lost when the process ends. Here rows are read in windows.
A window is a small dataset in memory. It is screened and prepared like any dataset, and its samples are given out in a
random order that depends on (seed, pass, window) alone. A position in the stream consists of the place in the source
where the window begins (`IterableDataset.state_dict`) and the number of samples given out before. To resume from a
position, only that window has to be read again.

Each batch carries the position after it. A checkpoint can therefore save the position after the last batch that was
trained on, even if the data loader has read further.
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

from .quality.bad_rows import BadRows
from .quality.screening import NothingLeft, Tally, tallied
from .summary import unlogged

POSITION = "stream_position"  # key of samples and batches


@dataclass(frozen=True)
class Position:
    """A position in a stream: a window, and the number of samples given out.

    Args:
        source: state of the source at the beginning of the window; None at the beginning of a pass.
        passes: passes over the source before this one.
        windows: windows of this pass before this one.
        first_sample: samples before the window.
        read: rows before the window.
        bad: bad rows among these.
        samples: samples that all processes together have given out.
    """

    source: dict[str, Any] | None = None
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
    """An endless iterable dataset of the samples of `source`, pass after pass.

    The `sample_index` of a sample is its number in the stream. It is not reset between passes, so that each pass has
    other masks and crops. The last sample of each batch also holds the position after the batch (`stream_position`).

    All loader workers of all processes read all rows, and give out batches in turn. Their number therefore does not
    change the order of the samples. A sample is decoded only by the worker that gives it out.

    Args:
        source: the rows, with files not decoded.
        features: the types of their columns.
        prepare: makes samples from the rows of a window. Rows that its `good_rows` leaves out are counted.
        window_size: rows per window. The last window of a pass may have fewer.
        seed: of the order within the windows; None keeps the order of the source.
        max_bad_fraction: largest share of bad rows among all rows read so far.
        listed_in: the list of bad rows; None if another process keeps it.
        batch_size: samples per batch and process.
        rank: the number of this process.
        num_processes: the number of processes that share the batches.
        start: the position to begin at.

    Raises:
        ValueError: while iterating, if there are too many bad rows or a whole pass has no sample.
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
        """The same stream from its first sample on, as a single process would read it."""
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
        """For each window its position, its samples, and the order in which they are given out."""
        at = self.start
        tally = Tally(self.max_bad_fraction, at.read, at.bad, quiet, self.listed_in)
        while True:
            samples_before = at.first_sample
            source = deepcopy(self.source)  # iterating changes its state, and others read it too
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
            tally.check()
            if whole_pass and at.first_sample == samples_before:
                raise ValueError(f"A whole pass over the stream, {tally.read} rows, gave no sample. Check the data.")
            at = replace(at, source=None, passes=at.passes + 1, windows=0)

    def _prepared(self, rows: Mapping[str, list[Any]], tally: Tally) -> Dataset:
        with no_progress_bars(), unlogged(), tallied(tally):  # the first window was summarised before training
            window = Dataset.from_dict(rows, features=self.features)
            try:
                samples = self.prepare(window)
            except NothingLeft:
                samples = Dataset.from_dict({})
            tally.add_window(len(window))
            return samples


@dataclass
class StreamCollator:
    """Wraps a collator, and adds the `stream_position` of the last sample to each batch."""

    collator: Callable[[list[dict[str, Any]]], dict[str, Any]]

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch = self.collator(examples)
        batch[POSITION] = examples[-1][POSITION]
        return batch


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Hides the progress bars of datasets: one for every window would flood the terminal."""
    shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()
