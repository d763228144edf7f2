import math
import multiprocessing
import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Image, List, Value
from torch import nn

from modeling_data2vec_generic.data.quality.reading import Unreadable
from modeling_data2vec_generic.evaluation.probe import (
    Probe,
    after_prefix,
    effective_rank,
    evaluation_mode,
    extract_features,
    knn_accuracy,
    linear_accuracy,
    real_frames,
    real_tokens,
    subset,
)

pytestmark = pytest.mark.fast


class TinyEncoder(nn.Module):
    """Embeds tokens. Its dropout would change the result if it did not run in evaluation mode."""

    def __init__(self, vocab_size: int = 16, channels: int = 4):
        super().__init__()
        self.config = SimpleNamespace(model_type="tiny")
        self.embedding = nn.Embedding(vocab_size, channels)
        self.dropout = nn.Dropout(0.5)
        self.frozen = nn.Dropout(0.5).eval()

    def forward(self, input_ids, attention_mask=None):
        return SimpleNamespace(last_hidden_state=self.dropout(self.embedding(input_ids)))


def collate(examples):
    longest = max(len(example["input_ids"]) for example in examples)
    pad = [[0] * (longest - len(example["input_ids"])) for example in examples]
    return {
        "input_ids": torch.tensor([e["input_ids"] + p for e, p in zip(examples, pad, strict=True)]),
        "attention_mask": torch.tensor([[1] * len(e["input_ids"]) + p for e, p in zip(examples, pad, strict=True)]),
    }


def dataset_of(labels, input_ids=None):
    features = Features({"input_ids": List(Value("int64")), "label": ClassLabel(num_classes=3)})
    input_ids = input_ids or [[1 + label] * (1 + row % 3) for row, label in enumerate(labels)]
    return Dataset.from_dict({"input_ids": input_ids, "label": labels}, features=features)


def clusters(seed, rows=60, scale=1.0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, size=rows)
    return (np.eye(3)[labels] * scale + rng.normal(size=(rows, 3)) * 0.1).astype(np.float32), labels


def test_after_prefix__leaves_out_the_first_positions():
    content = after_prefix(2)({"pixel_values": torch.zeros(3, 3, 8, 8)}, 5)
    assert content.tolist() == [[False, False, True, True, True]] * 3


def test_real_tokens__keeps_special_tokens_and_drops_padding():
    inputs = {
        "input_ids": torch.tensor([[2, 9, 3, 0], [2, 9, 9, 3]]),
        "attention_mask": torch.tensor([[1] * 3 + [0], [1] * 4]),
    }
    assert real_tokens(inputs, 4).tolist() == [[True, True, True, False], [True] * 4]


def test_real_frames__counts_the_frames_of_each_clip():
    attention_mask = torch.tensor([[1] * 40, [1] * 25 + [0] * 15])
    content = real_frames(lambda samples: samples // 10)({"attention_mask": attention_mask}, 4)
    assert content.tolist() == [[True] * 4, [True, True, False, False]]


def test_extract_features__averages_the_content_alone():
    encoder, dataset = TinyEncoder(), dataset_of([0, 1], [[3], [4, 5, 6]])
    features = extract_features(encoder, dataset, collate, real_tokens, batch_size=2)
    table = encoder.embedding.weight.detach()
    np.testing.assert_allclose(features, torch.stack([table[3], table[4:7].mean(0)]), rtol=1e-6)
    assert features.dtype == np.float32


def test_extract_features__ignores_nan_at_padding():
    encoder = TinyEncoder()
    with torch.no_grad():
        encoder.embedding.weight[0] = torch.nan
    features = extract_features(encoder, dataset_of([0, 1], [[3], [4, 5]]), collate, real_tokens, batch_size=2)
    assert np.isfinite(features).all()


def test_extract_features__does_not_depend_on_the_batch_size():
    encoder, dataset = TinyEncoder(), dataset_of([0, 1, 2, 0, 1])
    one = extract_features(encoder, dataset, collate, real_tokens, batch_size=1)
    four = extract_features(encoder, dataset, collate, real_tokens, batch_size=4)
    np.testing.assert_allclose(one, four, rtol=1e-6)


def test_extract_features__reads_with_the_workers_of_the_loader():
    encoder, dataset = TinyEncoder(), dataset_of([0, 1, 2, 0, 1])
    collated_in = multiprocessing.get_context("fork").SimpleQueue()

    def noting_collate(examples):
        collated_in.put(os.getpid())
        return collate(examples)

    expected = extract_features(encoder, dataset, collate, real_tokens, batch_size=3)
    settings = {"num_workers": 5, "prefetch_factor": 1, "multiprocessing_context": "fork"}
    features = extract_features(encoder, dataset, noting_collate, real_tokens, 3, settings)
    np.testing.assert_array_equal(features, expected)
    processes = {collated_in.get() for _ in range(2)}
    assert len(processes) == 2  # no more workers than batches
    assert os.getpid() not in processes


def test_extract_features__restores_each_modules_own_mode():
    encoder = TinyEncoder().train()
    encoder.frozen.eval()
    extract_features(encoder, dataset_of([0, 1]), collate, real_tokens, batch_size=2)
    assert encoder.dropout.training
    assert not encoder.frozen.training


def test_evaluation_mode__restores_after_an_error():
    encoder = TinyEncoder().train()
    with pytest.raises(TypeError), evaluation_mode(encoder):
        encoder(None)
    assert encoder.dropout.training


@pytest.mark.parametrize("accuracy", [knn_accuracy, linear_accuracy])
def test_accuracy__separable_classes_are_found(accuracy):
    assert accuracy(*clusters(0), *clusters(1)) == 1.0


@pytest.mark.parametrize("accuracy", [knn_accuracy, linear_accuracy])
def test_accuracy__permuted_labels_are_not(accuracy):
    train_x, train_y = clusters(0)
    test_x, test_y = clusters(1)
    assert accuracy(train_x, train_y, test_x, (test_y + 1) % 3) == 0.0


def test_knn_accuracy__is_blind_to_length():
    train_x, train_y = clusters(0)
    assert knn_accuracy(train_x, train_y, *clusters(1, scale=100.0)) == 1.0


def test_knn_accuracy__fewer_rows_than_neighbours():
    train_x, train_y = np.eye(3, dtype=np.float32)[[0, 0, 1]], np.array([0, 0, 1])
    assert knn_accuracy(train_x, train_y, train_x, train_y, k=20) == pytest.approx(2 / 3)  # all three vote: class 0


def test_subset__small_data_are_left_as_they_are():
    assert subset(dataset_of([0, 1, 2]), max_samples=3, seed=0)["label"][:] == [0, 1, 2]


class ShapedEncoder(nn.Module):
    """Returns its input as the last hidden state, with the type of an encoder in its config."""

    def __init__(self, model_type):
        super().__init__()
        self.config = SimpleNamespace(model_type=model_type)
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, hidden):
        return SimpleNamespace(last_hidden_state=hidden)


@pytest.mark.parametrize(
    ("model_type", "shape", "axes"),
    [
        ("vit", (5, 7, 4), (1,)),
        ("patchtst", (5, 3, 7, 4), (2,)),  # channels, patches: each channel's mean by itself
        ("convnext", (5, 4, 2, 3), (2, 3)),  # channels first
    ],
)
def test_extract_features__averages_the_positions_of_any_shape(model_type, shape, axes):
    hidden = torch.randn(shape)
    dataset = Dataset.from_dict({"row": range(5)})
    features = extract_features(
        ShapedEncoder(model_type),
        dataset,
        lambda rows: {"hidden": hidden[[row["row"] for row in rows]]},
        after_prefix(0),
        batch_size=2,
    )
    np.testing.assert_allclose(features, hidden.mean(axes).reshape(5, -1).numpy(), rtol=1e-5, atol=1e-6)


def test_subset__is_spread_over_the_data_and_fixed_by_the_seed():
    dataset = dataset_of([row // 20 for row in range(60)], [[row % 16] * (1 + row // 16) for row in range(60)])
    first, again, other = (subset(dataset, 15, seed) for seed in (0, 0, 1))
    assert len(first) == 15
    assert set(first["label"]) == {0, 1, 2}
    assert first["input_ids"][:] == again["input_ids"][:]
    assert first["input_ids"][:] != other["input_ids"][:]


def test_probe__tells_a_good_encoder_from_a_blind_one():
    torch.manual_seed(0)
    probe = Probe(dataset_of([0, 1, 2] * 30), dataset_of([0, 1, 2] * 5), collate, real_tokens)
    blind = TinyEncoder()
    with torch.no_grad():
        blind.embedding.weight.fill_(1.0)
    good, bad = probe(TinyEncoder()), probe(blind)
    assert good["knn_accuracy"] == good["linear_accuracy"] == 1.0
    assert bad["linear_accuracy"] == pytest.approx(1 / 3)
    assert good["effective_rank"] > 2 > 1.01 > bad["effective_rank"]


def test_probe__without_labels_measures_the_rank_alone():
    dataset = dataset_of([0, 1, 2] * 5).remove_columns("label")
    assert set(Probe(None, dataset, collate, real_tokens)(TinyEncoder())) == {"effective_rank"}


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_probe__of_features_that_are_not_finite_says_so_and_gives_nan(value, caplog):
    encoder = TinyEncoder()
    with torch.no_grad():
        encoder.embedding.weight[3] = value  # the class of a third of the rows
    metrics = Probe(dataset_of([0, 1, 2] * 30), dataset_of([0, 1, 2] * 5), collate, real_tokens)(encoder)
    assert metrics.keys() == {"effective_rank", "knn_accuracy", "linear_accuracy"}
    assert all(map(math.isnan, metrics.values()))
    assert "features of 35 of 105 probe samples are NaN or infinite: effective_rank, knn_accuracy, lin" in caplog.text


def test_probe__leaves_out_bad_rows_with_their_labels():
    def broken(bad):
        def decode(batch):
            rows = zip(batch["input_ids"], batch.get("row", ()), strict=True)
            return {
                **batch,
                "input_ids": [Unreadable("broken", f"{row}.txt") if row in bad else ids for ids, row in rows],
            }

        return decode

    torch.manual_seed(0)
    encoder = TinyEncoder()
    labels = [0, 1, 2] * 10
    for bad in ({4, 5, 29}, set()):
        splits = [dataset_of(labels).add_column("row", list(range(30))) for _ in range(2)]
        # Without bad rows, the probe of the others.
        train, test = splits if bad else (rows.select(sorted(set(range(30)) - {4, 5, 29})) for rows in splits)
        probe = Probe(train.with_transform(broken(bad)), test.with_transform(broken(bad)), collate, real_tokens)
        metrics = probe(encoder)
        if bad:
            found = metrics
            rows = [row.path for row in probe.bad_rows if row.split == "train" and row.counted]
            assert rows == ["4.txt", "5.txt", "29.txt"]
        else:
            assert metrics == found
            assert probe.bad_rows == []


@pytest.mark.parametrize("dimensions", [1, 3, 8])
def test_effective_rank__of_equal_directions_is_their_number(dimensions):
    features = np.zeros((dimensions * 10, 8), dtype=np.float32)
    features[:, :dimensions] = np.tile(np.eye(dimensions), (10, 1))
    assert effective_rank(features) == pytest.approx(dimensions, rel=1e-3)


def test_probe__decodes_nothing_before_it_is_called():
    not_an_image = {"bytes": b"not an image", "path": None}
    features = Features({"image": Image(), "label": ClassLabel(num_classes=2)})
    dataset = Dataset.from_dict({"image": [not_an_image] * 2, "label": [0, 1]}, features=features)
    Probe(dataset, dataset, collate, after_prefix(1))


def test_probe__one_class_is_refused():
    with pytest.raises(ValueError, match=r"one and the same label.*label_column_name"):
        Probe(dataset_of([1, 1]), dataset_of([0, 1]), collate, real_tokens)


def test_probe__without_scikit_learn_says_so(monkeypatch):
    monkeypatch.setattr("modeling_data2vec_generic.evaluation.probe.find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install scikit-learn"):
        Probe(dataset_of([0, 1]), dataset_of([0, 1]), collate, real_tokens)
