"""Samples of similar length in one batch, so that little of it is padding: `group_by_length`, `max_tokens_per_batch`.

What is drawn depends on the seed and the epoch alone: all processes draw the same, and so does a run that is resumed.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow.compute
import torch
from datasets import Dataset
from numpy.typing import NDArray
from torch.utils.data import Sampler
from transformers.trainer_pt_utils import LengthGroupedSampler, get_length_grouped_indices

_SEQUENCES = ("input_ids", "audio")
_AT_ONCE = 10_000  # rows whose lengths are read at a time
_BATCHES_TOGETHER = 100  # that are sorted by length
_STEPS_PER_OCTAVE = 64  # lengths that are told apart between a number and twice as many


def lengths_of(dataset: Any, column: str) -> NDArray[np.int64] | None:
    """The lengths of all samples, without decoding one where that is possible.

    Args:
        dataset: a map-style data set. It is read through only if it has neither lengths nor tokens in columns.
        column: the name of a column of lengths.

    Returns:
        Tokens, or samples of sound, (N,); None if all samples are alike, as images, clips and windows of series are.
    """
    if not isinstance(dataset, Dataset):
        names = dataset[0] if len(dataset) else {}
    elif column in (names := dataset.column_names):
        return _read(dataset, column).to_numpy()
    elif "input_ids" in names:
        return pyarrow.compute.list_value_length(_read(dataset, "input_ids")).to_numpy().astype(np.int64)
    name = next((name for name in _SEQUENCES if name in names), None)
    return None if name is None else np.array([len(dataset[row][name]) for row in range(len(dataset))])


def _read(dataset: Dataset, column: str) -> pyarrow.ChunkedArray:
    """A column as it is stored; that of lists is not copied, unless rows were chosen."""
    tables = dataset.with_format("arrow").select_columns(column).iter(_AT_ONCE)
    return pyarrow.chunked_array([chunk for table in tables for chunk in table.column(0).chunks])


class GroupedByLength(LengthGroupedSampler):
    """Samples drawn at random, so that those of a batch have similar lengths.

    Three things differ from transformers' order by length, by which a third of the sound in batches of some hundred
    recordings is padding: up to 100 batches are sorted together, however few samples there are; batches come in random
    order after the one with the longest sample; lengths are rounded up, by at most 1/64, so that other samples come
    together in each epoch where many have similar lengths.

    Args:
        batch_size: samples per optimizer step.
        lengths: of all samples.
        seed: of the order.
    """

    def __init__(self, batch_size: int, lengths: NDArray[np.int64], seed: int):
        super().__init__(batch_size, lengths=_rounded_up(lengths).tolist())
        self.seed, self.epoch = seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        drawn = np.random.default_rng([self.seed, self.epoch]).integers(2**63)
        generator = torch.Generator().manual_seed(int(drawn))
        grouped = get_length_grouped_indices(self.lengths, self.batch_size, _BATCHES_TOGETHER, generator)
        whole = len(grouped) // self.batch_size
        later = torch.randperm(max(whole - 1, 0), generator=generator) + 1
        for batch in [0, *later.tolist(), max(whole, 1)]:  # the last one is smaller than the others, or empty
            yield from grouped[batch * self.batch_size : (batch + 1) * self.batch_size]


class TokenBatches(Sampler[list[int]]):
    """Batches of as many samples as a number of positions can hold, padding included.

    Samples are sorted by length, those of the same length in random order, and cut into batches, which come in random
    order. Lengths are rounded up for that, by at most 1/64, so that most batches hold other samples in each epoch. How
    many batches there are, and of how many samples, is the same in all epochs.

    Several processes take turns in this order. Those batches of an epoch that are too few for one each are left out.

    Args:
        lengths: positions that each sample takes up, (N,).
        positions: the most that a batch may take up, padding included.
        seed: of the order.
        processes: that take turns.

    Raises:
        ValueError: a sample is longer than `positions`, or there are fewer batches than processes.
    """

    def __init__(self, lengths: NDArray[np.int64], positions: int, seed: int, processes: int = 1):
        longest = int(lengths.max())
        if longest > positions:
            raise ValueError(
                f"A sample has {longest} positions, more than the {positions} of max_tokens_per_batch. Raise it, or "
                "cut samples by --max_seq_length (text) or --max_duration_in_seconds (speech)."
            )
        self.seed, self.epoch, self.processes = seed, 0, processes
        self._lengths = np.minimum(_rounded_up(lengths), longest)
        self._starts = _starts(np.sort(self._lengths)[::-1], positions)
        if len(self._starts) < processes:
            raise ValueError(
                f"max_tokens_per_batch={positions} makes {len(self._starts)} batches of all {len(lengths)} samples, "
                f"fewer than there are processes ({processes}). Lower it, use fewer processes, or give more data."
            )

    @property
    def left_out(self) -> int:
        """Batches that are left out of each epoch."""
        return len(self._starts) % self.processes

    @property
    def mean_samples(self) -> float:
        """Samples per batch."""
        return len(self._lengths) / len(self._starts)

    def __len__(self) -> int:
        return len(self._starts) - self.left_out

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[int]]:
        rng = np.random.default_rng([self.seed, self.epoch])
        shuffled = rng.permutation(len(self._lengths))
        order = shuffled[np.argsort(-self._lengths[shuffled], kind="stable")]
        ends = [*self._starts[1:], len(order)]
        for batch in rng.permutation(len(ends))[: len(self)]:
            yield order[self._starts[batch] : ends[batch]].tolist()


def _rounded_up(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    octaves = 2 ** np.log2(np.maximum(lengths, 1)).astype(np.int64)
    steps = np.maximum(octaves // _STEPS_PER_OCTAVE, 1)
    return -(-lengths // steps) * steps


def _starts(descending: NDArray[np.int64], positions: int) -> list[int]:
    """Where batches begin among samples that are sorted by length, the longest first."""
    starts = [0]
    while (following := starts[-1] + positions // int(descending[starts[-1]])) < len(descending):
        starts.append(following)
    return starts
