"""The tables of series and of proteins."""

import json

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import AutoModel, PatchTSTConfig, PatchTSTModel

from benchmarks.compare import report
from benchmarks.compare.peers.series import train_patchtst
from benchmarks.compare.table import Run
from benchmarks.compare.tables import proteins, series

ENCODER = {**series.ENCODER, "d_model": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "ffn_dim": 8}
PATCHES = {"patch_length": 4, "patch_stride": 4}


@pytest.fixture
def sets(tmp_path, monkeypatch):
    """Two classes of series, (12, 20, 2) each of the parts, that differ by their frequency."""
    rng = np.random.default_rng(0)
    monkeypatch.setattr(series, "DATA", tmp_path)
    for part in ("train", "test"):
        labels = np.arange(12) % 2
        found = np.sin(np.arange(20)[:, None] * (1 + labels[:, None, None])) + rng.normal(0, 0.1, (12, 20, 2))
        (tmp_path / "waves").mkdir(exist_ok=True)
        rows = {"series": found.tolist(), "label": labels.tolist()}
        Dataset.from_dict(rows).to_parquet(tmp_path / "waves" / f"{part}.parquet")
    yield tmp_path
    series.read.cache_clear()


def test_patchtst__leaves_a_plain_encoder_that_has_been_trained(tmp_path):
    config = {**ENCODER, **PATCHES, "context_length": 20, "num_input_channels": 2}
    values = np.random.default_rng(0).normal(size=(8, 20, 2)).astype(np.float32)

    def train(rate):
        torch.manual_seed(0)
        trained = train_patchtst(config, values, 0.4, tmp_path, max_steps=2, learning_rate=rate, use_cpu=True, seed=0)
        return AutoModel.from_pretrained(trained.encoder_dir)

    untrained, trained = train(0.0), train(0.1)
    assert isinstance(trained, PatchTSTModel)
    assert not trained.config.do_mask_input
    before, after = untrained.state_dict(), trained.state_dict()
    assert not any(torch.equal(before[name], after[name]) for name in after if name.endswith("weight"))


@pytest.mark.fast
def test_series__are_scored_channel_beside_channel(sets):
    values, labels = series.read("waves", "train")
    assert values.shape == (12, 20, 2)
    assert labels.tolist() == [0, 1] * 6
    encoder = PatchTSTModel(PatchTSTConfig(**ENCODER, **PATCHES, context_length=20, num_input_channels=2))
    features = series.features_of(encoder, values)
    assert features.shape == (12, 16)
    swapped = series.features_of(encoder, values[..., ::-1].copy())
    np.testing.assert_allclose(swapped, np.roll(features, 8, axis=1), rtol=1e-4, atol=1e-5)


@pytest.mark.fast
def test_series__without_an_encoder_use_all_labels_and_few(sets, monkeypatch):
    class Nearest:
        def __init__(self, seed):
            self.rows = []

        def fit(self, values, labels):
            assert values.shape[1:] == (2, 20)
            rows.append(len(labels))
            return self

        def score(self, values, labels):
            return len(labels)

    rows: list[int] = []
    monkeypatch.setattr(series, "minirocket", Nearest)
    run = Run("series", "waves", series.MINIROCKET, 0, None, {})
    assert series.scores_without_encoder(run) == {"linear": 12.0, "few_linear": 12.0}
    assert rows == [12, 10]


@pytest.mark.fast
def test_counts__are_shares_of_amino_acids_and_of_pairs():
    single = proteins.counts("AACX", 1)
    np.testing.assert_allclose(single[:2], [2 / 3, 1 / 3])
    assert single.shape == (20,)
    pairs = proteins.counts("AAC", 2)
    assert pairs.shape == (420,)
    np.testing.assert_allclose(pairs[20 + np.array([0, 1])], [0.5, 0.5])


@pytest.mark.fast
def test_proteins__of_a_search_are_scored_on_others_than_those_with_labels():
    labels = np.repeat(np.arange(5), proteins.SEARCHED)
    features = np.eye(5)[labels] + np.random.default_rng(0).normal(0, 0.01, (len(labels), 5))
    assert proteins.scores_of_features((features, labels))["linear"] == 1.0
    wrong = features, (labels + 1) % 5
    few = np.arange(0, len(labels), 11)
    assert proteins.scores_of_features((features[few], labels[few]), wrong)["linear"] == 0.0


@pytest.mark.fast
@pytest.mark.parametrize("table", [series.SeriesTable, proteins.ProteinTable])
def test_contenders__differ_in_the_method_alone(table):
    for data in table.all_data:
        trained = [run for run in table().runs() if run.data == data and run.budget_s is not None]
        assert {run.contender for run in trained} > {"data2vec", "data2vec 2.0"}
        for shared in ("encoder", "per_device_train_batch_size", "lr_scheduler_type", "warmup_steps", "scored_on"):
            assert len({json.dumps(run.settings[shared]) for run in trained}) == 1, shared


@pytest.mark.fast
@pytest.mark.parametrize("table", [series.SeriesTable, proteins.ProteinTable])
def test_search__never_sees_what_is_tested(table):
    tested = {run.settings["scored_on"] for run in table().runs()}
    searched = {run.settings["scored_on"] for run in table().variants()}
    assert searched
    assert not tested & searched


@pytest.mark.fast
def test_leads__are_within_a_seed_and_a_budget():
    scores = [
        ("ours", 0, 15, 0.5),
        ("ours", 1, 15, 0.9),
        ("ours", 0, 60, 0.8),
        ("theirs", 0, 15, 0.4),
        ("theirs", 2, 15, 0.1),
        ("theirs", 0, 60, 0.6),
        ("new", 0, None, 0.3),
    ]
    rows = [
        {"data": "some_data", "contender": name, "seed": seed, "budget_s": budget, "scores": {"linear": value}}
        for name, seed, budget, value in scores
    ]
    found = report.leads(rows, {"linear": "linear"}, over="theirs", of=("ours", "missing"))
    assert found.splitlines()[2:] == ["| some data, ours, 15 s | 10.0 |", "| some data, ours, 60 s | 20.0 |"]
    found = report.leads(rows, {"linear": "linear"}, over="new", of=("ours",))
    assert found.splitlines()[2:] == ["| some data, ours, 15 s | 20.0 |", "| some data, ours, 60 s | 50.0 |"]
    assert report.leads(rows, {"linear": "linear"}, over="missing", of=("ours",)) == ""
