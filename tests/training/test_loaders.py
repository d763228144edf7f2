"""Grouping by length reads lengths, and decodes no sample."""

from types import SimpleNamespace

import pytest
from datasets import Dataset

from modeling_data2vec_generic.training.loaders import with_lengths

pytestmark = pytest.mark.fast


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
