"""Grouping by length reads lengths, and decodes no sample; batches that accelerate shares out are tensors only."""

from types import SimpleNamespace

import numpy as np
import PIL.Image
import pytest
import torch
from accelerate.utils import concatenate
from datasets import Dataset
from transformers import ViTImageProcessorPil

from modeling_data2vec_generic import DataCollatorForData2VecVision, MaskSampler
from modeling_data2vec_generic.modalities.base_collator import UnfinishedBatch
from modeling_data2vec_generic.training.loaders import loader_collator, with_lengths

pytestmark = pytest.mark.fast


class Iterable(torch.utils.data.IterableDataset):
    def __iter__(self):
        return iter(())


def lengths(columns, strategy="group_by_length"):
    def fail(batch):
        raise AssertionError("a sample was decoded")

    dataset = Dataset.from_dict(columns).with_transform(fail)
    arguments = SimpleNamespace(train_sampling_strategy=strategy, length_column_name="length")
    found = with_lengths(dataset, arguments)
    return dataset is found, None if dataset is found else found["length"][:]


def test_lengths__of_a_column():
    assert lengths({"row": [0, 1], "length": [5, 3]}) == (False, [5, 3])


@pytest.mark.parametrize("column", ["image", "row", "series"])
def test_lengths__alike_of_images_clips_and_series(column):
    assert lengths({column: [7, 8, 9]}) == (False, [1, 1, 1])


@pytest.mark.parametrize("column", ["input_ids", "audio"])
def test_lengths__left_to_trainer(column):
    assert lengths({column: [[7], [8, 9]]}) == (True, None)


def test_lengths__are_not_asked_for():
    assert lengths({"length": [5, 3]}, "random") == (True, None)


@pytest.mark.parametrize(
    ("dispatch_batches", "dataset", "shared_out"),
    [
        (True, [], True),
        (None, Iterable(), True),
        (False, Iterable(), False),
        (None, [], False),
    ],
)
def test_loader_collator__batches_can_be_joined_where_accelerate_shares_them_out(
    dispatch_batches, dataset, shared_out
):
    processor = ViTImageProcessorPil(size={"height": 8, "width": 8})
    collator = DataCollatorForData2VecVision(processor, (2, 2), MaskSampler("random", 0.5))
    examples = [{"image": PIL.Image.new("RGB", (8, 8)), "sample_index": index} for index in range(2)]
    found = loader_collator(collator, dataset, SimpleNamespace(dispatch_batches=dispatch_batches))

    batch = found(examples)

    assert isinstance(batch, UnfinishedBatch) != shared_out
    if shared_out:
        joined = concatenate([batch, batch])
        assert torch.equal(joined["mask"], torch.cat([batch["mask"]] * 2))
        assert np.array_equal(joined["pixel_values"][:2], collator(examples)["pixel_values"])
