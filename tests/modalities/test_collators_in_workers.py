"""Masks belong to the sample and the epoch, however a data loader puts batches together; pixels leave it as bytes."""

import pytest
import torch
from torch.utils.data import DataLoader

from modeling_data2vec_generic import DataCollatorForData2VecVision
from modeling_data2vec_generic.training.checkpointing.same_run import describe_collator

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


@pytest.mark.parametrize("modality", ["vision", "video"])
def test_finished_on_device__bytes_leave_the_worker_and_become_the_same_pixels(modality):
    collator, examples = CASES[modality]
    left = collator.finished_on_device()
    collator.set_epoch(1)  # reaches the other collator too
    (batch,) = DataLoader(examples, batch_size=len(examples), collate_fn=left, num_workers=1)
    expected = collator(examples)
    collator.set_epoch(0)
    finished = batch.to("cpu")
    assert batch["pixel_values"].dtype == torch.uint8
    assert 4 * batch["pixel_values"].nbytes == expected["pixel_values"].nbytes
    assert type(finished) is dict
    assert finished.keys() == expected.keys()
    assert finished["pixel_values"].is_contiguous()
    assert torch.equal(finished.pop("mask_positions").masked, expected.pop("mask_positions").masked)
    assert all(torch.equal(finished[name], values) for name, values in expected.items())
    assert describe_collator(left) == describe_collator(collator)


@pytest.mark.parametrize("modality", ["vision", "video"])
def test_finished_on_device__pixels_of_the_processor_stay_floats(modality):
    collator, examples = CASES[modality]  # no image has the size of the encoder
    collator = collator.for_evaluation()
    left = collator.finished_on_device()
    assert left(examples)["pixel_values"].dtype == torch.float32
    for ours, expected in ((left(examples), collator(examples)), (left.plain(examples), collator.plain(examples))):
        assert torch.equal(ours.to("cpu")["pixel_values"], expected["pixel_values"])


class Brighter(DataCollatorForData2VecVision):
    def __call__(self, examples):
        batch = super().__call__(examples)
        return batch | {"pixel_values": batch["pixel_values"] + 1}


def test_finished_on_device__who_changes_pixels_gets_finished_ones():
    collator, examples = CASES["vision"]
    brighter = Brighter(collator.image_processor, collator.grid, collator.mask, augment=collator.augment)
    batch = brighter.finished_on_device()(examples)
    assert torch.equal(batch["pixel_values"], collator(examples)["pixel_values"] + 1)
