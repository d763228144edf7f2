"""Batches of samples of similar length: which samples they hold, in which order, and how much of them is padding."""

from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from accelerate.data_loader import BatchSamplerShard, SkipBatchSampler
from datasets import Dataset
from torch.utils.data import BatchSampler

from modeling_data2vec_generic.training.grouping import GroupedByLength, TokenBatches, lengths_of
from modeling_data2vec_generic.training.loaders import EpochCallback

pytestmark = pytest.mark.fast

LENGTHS = np.random.default_rng(0).integers(3, 200, 1000)


def never_decoded(columns: dict[str, Any]) -> Dataset:
    def fail(batch: Any) -> Any:
        raise AssertionError("a sample was decoded")

    return Dataset.from_dict(columns).with_transform(fail)


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"row": [0, 1], "length": [5, 3]}, [5, 3]),
        ({"input_ids": [[7], [8, 9]]}, [1, 2]),
        ({"input_ids": [[7], [8, 9]], "length": [4, 4]}, [4, 4]),
        ({"image": [7, 8, 9]}, None),
        ({"series": [[7], [8]]}, None),
    ],
)
def test_lengths__are_read_without_decoding(columns, expected):
    found = lengths_of(never_decoded(columns), "length")
    assert (None if found is None else found.tolist()) == expected


def test_lengths__of_chosen_rows():
    rows = never_decoded({"input_ids": [[1] * (row % 7) for row in range(30_000)]})
    chosen = rows.select(range(29_999, -1, -2))
    assert lengths_of(chosen, "length").tolist() == [row % 7 for row in range(29_999, -1, -2)]


def test_lengths__of_what_has_no_columns_are_counted():
    samples = [{"audio": np.zeros(count)} for count in (4, 2)]
    assert lengths_of(samples, "length").tolist() == [4, 2]
    assert lengths_of(Dataset.from_list(samples), "length").tolist() == [4, 2]
    assert lengths_of([{"pixel_values": torch.zeros(3)}], "length") is None


def padded(batch: list[int]) -> int:
    return len(batch) * int(LENGTHS[batch].max())


def test_token_batches__hold_each_sample_once_and_little_padding():
    batches = TokenBatches(LENGTHS, 600, seed=0)
    epochs = []
    for epoch in range(3):
        batches.set_epoch(epoch)
        epochs.append(list(batches))
        assert len(epochs[-1]) == len(batches)
        assert sorted(sample for batch in epochs[-1] for sample in batch) == list(range(1000))
        assert max(map(padded, epochs[-1])) <= 600
        assert sum(map(padded, epochs[-1])) < LENGTHS.sum() * 1.05
    sizes = [sorted(map(len, epoch)) for epoch in epochs]
    assert sizes[0] == sizes[1] == sizes[2]  # so that steps can be counted before they are taken
    first, second = ({tuple(sorted(batch)) for batch in epoch} for epoch in epochs[:2])
    assert len(first & second) < len(first) // 4  # other samples come together
    means = [np.mean(LENGTHS[batch]) for batch in epochs[0]]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.2  # in random order
    assert len(LENGTHS) / len(batches) == pytest.approx(batches.mean_samples)


def test_token_batches__of_samples_of_one_length_are_full():
    assert [len(batch) for batch in TokenBatches(np.full(7, 999), 2 * 999, seed=0)].count(2) == 3


def test_token_batches__depend_on_seed_and_epoch_alone():
    def drawn(seed: int, epoch: int) -> list[list[int]]:
        torch.rand(seed)  # moves the state of the process
        batches = TokenBatches(LENGTHS, 600, seed)
        batches.set_epoch(epoch)
        return list(batches)

    assert drawn(3, 2) == drawn(3, 2)
    assert drawn(3, 2) != drawn(3, 1)
    assert drawn(3, 2) != drawn(2, 2)


@pytest.mark.parametrize("processes", [2, 3, 7])
def test_token_batches__several_processes_have_equally_many(processes):
    batches = TokenBatches(LENGTHS, 600, 0, processes)
    shares = [list(BatchSamplerShard(batches, processes, rank, even_batches=False)) for rank in range(processes)]
    assert {len(share) for share in shares} == {len(batches) // processes}
    together = [batch for step in zip(*shares, strict=True) for batch in step]
    assert together == list(TokenBatches(LENGTHS, 600, 0))[: len(together)]
    assert batches.left_out == len(TokenBatches(LENGTHS, 600, 0)) - len(together) < processes


def test_token_batches__errors_say_what_to_change():
    with pytest.raises(ValueError, match=r"199 positions, more than the 150 of max_tokens_per_batch\. Raise it"):
        TokenBatches(LENGTHS, 150, seed=0)
    with pytest.raises(ValueError, match=r"makes 1 batches of all 3 samples, fewer than there are processes \(2\)"):
        TokenBatches(LENGTHS[:3], 10_000, seed=0, processes=2)


def test_grouped_by_length__draws_from_seed_and_epoch_alone():
    def drawn(seed: int, epoch: int) -> list[int]:
        torch.rand(1)
        sampler = GroupedByLength(8, LENGTHS, seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert drawn(3, 2) == drawn(3, 2)
    assert sorted(drawn(3, 2)) == list(range(1000))
    assert drawn(3, 2) != drawn(3, 1)
    assert drawn(3, 2) != drawn(2, 2)
    batches = np.array(drawn(0, 0)).reshape(-1, 8)
    assert LENGTHS.sum() / (8 * LENGTHS[batches].max(1).sum()) > 0.95


@pytest.mark.parametrize("count", [1, 7, 8, 9, 600])
def test_grouped_by_length__has_little_padding_where_samples_are_few(count):
    """Of lengths as those of prompts of a telephone exchange; transformers' own order leaves more than a third."""
    lengths = np.exp(np.random.default_rng(1).normal(10.5, 0.9, count)).astype(np.int64)
    order = list(GroupedByLength(8, lengths, 0))
    assert sorted(order) == list(range(count))
    batches = [order[first : first + 8] for first in range(0, count, 8)]
    assert lengths.argmax() in batches[0]  # so that what is too long for the memory is so at once
    if count == 600:
        assert (
            lengths.sum() / sum(len(batch) * lengths[batch].max() for batch in batches) > 0.9
        )  # at most a tenth is padding
        means = [lengths[batch].mean() for batch in batches[1:]]
        assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.3


@pytest.mark.parametrize("skipped", [0, 3])
@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("kind", ["tokens", "grouped"])
def test_epoch__reaches_samplers_that_accelerate_has_wrapped(kind, processes, skipped):
    sampler = TokenBatches(LENGTHS, 600, 0) if kind == "tokens" else GroupedByLength(8, LENGTHS, 0)
    batches = sampler if kind == "tokens" else BatchSampler(sampler, 8, drop_last=False)
    if processes > 1:
        batches = BatchSamplerShard(batches, processes, 1, even_batches=kind == "grouped")
    if skipped:
        batches = SkipBatchSampler(batches, skipped)
    trainer = Mock(data_collator=None)
    loader = SimpleNamespace(batch_sampler=batches)
    EpochCallback(trainer).on_epoch_begin(None, SimpleNamespace(epoch=4.25), None, train_dataloader=loader)
    assert sampler.epoch == 4
