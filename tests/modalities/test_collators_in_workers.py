"""Masks belong to the sample and the epoch, however a data loader puts batches together."""

import pytest
from torch.utils.data import DataLoader

from .test_collators import CASES, WithIndices, assert_same_rows, by_sample


@pytest.mark.parametrize("modality", CASES)
def test_batches__same_sample_same_row_with_any_workers_order_and_batch(modality):
    collator, examples = CASES[modality]
    expected = {}
    for epoch in (0, 1):
        collator.set_epoch(epoch)
        expected[epoch] = by_sample([WithIndices(collator)([example]) for example in examples], examples)
    assert any((expected[0][i]["mask"] != expected[1][i]["mask"]).any() for i in expected[0])

    loaders = {
        "no workers": {"batch_size": 5},
        "two workers, shuffled": {"batch_size": 4, "num_workers": 2, "shuffle": True},
        "persistent workers": {"batch_size": 3, "num_workers": 2, "persistent_workers": True, "shuffle": True},
        "another start method": {"batch_size": 6, "num_workers": 1, "multiprocessing_context": "spawn"},
    }
    if modality != "vision":
        del loaders["another start method"]  # slow, and the code is the same
    for settings in loaders.values():
        loader = DataLoader(examples, collate_fn=WithIndices(collator), **settings)
        for epoch in (0, 1, 0):
            collator.set_epoch(epoch)
            assert_same_rows(by_sample(loader, examples), expected[epoch])
            if "spawn" in settings.values():
                break
    collator.set_epoch(0)
