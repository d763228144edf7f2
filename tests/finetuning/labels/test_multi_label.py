"""Several labels per row: how they are encoded, and which labels raise an error."""

from typing import Any

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, List, Value

from modeling_data2vec_generic.data.arguments import DataArguments
from modeling_data2vec_generic.finetuning.labels.multi_label import MultiLabel

pytestmark = pytest.mark.fast

ARGUMENTS = DataArguments(train_file="-")


def splits(labels: list[Any], feature: Any) -> dict[str, Dataset]:
    features = Features({"label": List(feature), "sample_index": Value("int64")})
    return {"train": Dataset.from_dict({"label": labels, "sample_index": range(len(labels))}, features)}


@pytest.mark.parametrize(
    ("labels", "feature", "names", "encoded"),
    [
        ([[10, 9], [2], []], Value("int64"), ["2", "9", "10"], [[1, 2], [0], []]),
        ([["b"], ["c", "a"], []], Value("string"), ["a", "b", "c"], [[1], [0, 2], []]),
        ([[0], [2, 1], []], ClassLabel(names=["z", "y", "x"]), ["z", "y", "x"], [[0], [1, 2], []]),
    ],
)
def test_several_labels__are_numbered_as_one_is(labels, feature, names, encoded):
    target = MultiLabel()
    assert target.encode(splits(labels, feature), ARGUMENTS)["train"]["label"][:] == encoded
    assert target.names == names
    hot = [[float(number in row) for number in range(3)] for row in encoded]
    assert target.collate(encoded).tolist() == hot


@pytest.mark.parametrize(
    ("labels", "feature", "message"),
    [
        ([[0, 1, 0], [1, 0, 0]], Value("int64"), r"2 of 2 .*\[0, 1, 0\].*expected once.*--task token-classification"),
        ([[0.0, 1.0], [1.0, 0.0]], Value("float64"), "expected as a list of strings or whole numbers"),
        ([[True, False], [False, False]], Value("bool"), "expected as a list of strings or whole numbers"),
        ([["a"], [None, "b"]], Value("string"), "1 of 2 train rows"),
        ([["a", "b"], ["b", "a"]], Value("string"), r"the same labels \(a, b\)"),
        ([[], []], Value("string"), "No training row has a label"),
    ],
)
def test_several_labels__that_cannot_be_used(labels, feature, message):
    with pytest.raises(ValueError, match=message):
        MultiLabel().encode(splits(labels, feature), ARGUMENTS)


@pytest.mark.parametrize("count", [1, 3])
def test_several_labels__of_neighbours_are_shares_of_their_votes(count):
    rng = np.random.default_rng(0)
    target = MultiLabel()
    target.names = list("abc")[:count]
    train_x, test_x = rng.normal(size=(30, 4)), rng.normal(size=(5, 4))
    train_y = (rng.random((30, count)) < 0.5).astype(np.float32)
    found = target.predictions(target.on_features("knn", train_x, train_y, test_x), [[]] * 5)
    for row, x in zip(found, test_x, strict=True):
        cosine = train_x @ x / np.linalg.norm(train_x, axis=1)
        votes = train_y[np.argsort(-cosine)[:20]].mean(0)
        assert list(row["probability"].values()) == pytest.approx(votes.tolist(), abs=1e-5)
        assert row["prediction"] == [name for name, vote in zip(target.names, votes, strict=True) if vote > 0.5]
    linear = target.on_features("linear_probe", train_x, train_y, test_x)
    assert linear.shape == (5, count)
