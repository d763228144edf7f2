"""Batches that accelerate shares out are tensors only."""

from types import SimpleNamespace

import numpy as np
import PIL.Image
import pytest
import torch
from accelerate.utils import concatenate
from transformers import ViTImageProcessorPil

from modeling_data2vec_generic import DataCollatorForData2VecVision, MaskSampler
from modeling_data2vec_generic.modalities.base_collator import UnfinishedBatch
from modeling_data2vec_generic.training.loaders import loader_collator

pytestmark = pytest.mark.fast


class Iterable(torch.utils.data.IterableDataset):
    def __iter__(self):
        return iter(())


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
