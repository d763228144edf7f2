"""The pictures of whole runs: which are drawn when, and that they change nothing else."""

from importlib.util import find_spec

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Value
from matplotlib.image import imread

from modeling_data2vec_generic.reporting import pictures
from modeling_data2vec_generic.reporting.pictures import CAPTIONS, FEATURES_BEFORE, _spread_first

from ..tiny import from_scratch, image_folder, run

FEATURES = ["features_pca", "neighbours", "feature_map"]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = image_folder(tmp_path_factory.mktemp("images"), count=36)
    return ["--train_dir", str(folder), "--validation_split_percentage", "40"]


@pytest.fixture
def tracked(monkeypatch):
    """Names and steps of the pictures that trackers would have got."""
    given = []
    monkeypatch.setattr(pictures, "is_tracked", lambda arguments: True)
    monkeypatch.setattr(
        pictures, "log_pictures", lambda callbacks, paths, step: given.extend((name, step) for name in paths)
    )
    return given


def drawn(folder):
    return {path.stem for path in (folder / "figures").iterdir()}


def test_pictures__change_nothing_of_the_run(images, tmp_path, tracked):
    flags = [*from_scratch("vit", hidden_dropout_prob=0.1), *images, "--eval_strategy", "steps", "--eval_steps", "2"]
    without = run(*flags, output_dir=tmp_path / "without")
    seen = run(*flags, output_dir=tmp_path / "seen", figures=True)
    weights = without.model.state_dict()
    assert all(torch.equal(weight, weights[name]) for name, weight in seen.model.state_dict().items())
    assert drawn(tmp_path / "seen") == set(CAPTIONS)
    assert tracked == [*((name, 0) for name in ("masks", *FEATURES)), *((name, 2) for name in ("curves", *FEATURES))]
    card = (tmp_path / "seen" / "README.md").read_text(encoding="utf-8")
    for name, caption in CAPTIONS.items():
        assert f"![{caption}](figures/{name}.png)" in card
        assert imread(tmp_path / "seen" / "figures" / f"{name}.png").shape[1] == 840
        assert (tmp_path / "seen" / "figures" / f"{name}.png").stat().st_size < 200_000


def test_pictures__of_a_resumed_run_show_what_was_before_it(tmp_path, monkeypatch, tracked):
    """Without validation data and labels, too."""
    data = ["--train_dir", str(image_folder(tmp_path / "train", labelled=False)), "--save_strategy", "steps"]
    data += ["--save_steps", "2", "--validation_split_percentage", "0"]
    run(*from_scratch("vit"), *data, output_dir=tmp_path / "out", steps=2, figures=True)
    assert [step for name, step in tracked if name == "curves"] == [2]
    before = (tmp_path / "out" / FEATURES_BEFORE).read_bytes()
    shown = []
    monkeypatch.setattr("modeling_data2vec_generic.figures.features.plot_map", lambda *args: shown.append(args))
    flags = [*from_scratch("vit"), *data, "--resume_from_checkpoint", "true"]
    run(*flags, output_dir=tmp_path / "out", steps=4, figures=True)
    assert (tmp_path / "out" / FEATURES_BEFORE).read_bytes() == before
    places, labels, names, _ = shown[-1]
    assert list(places) == ["before training", "after 4 steps"]
    assert labels is None
    assert names == []
    assert not np.allclose(*places.values())


def test_pictures__without_scikit_learn_or_matplotlib(images, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(pictures, "find_spec", lambda name: None if name == "sklearn" else find_spec(name))
    run(*from_scratch("vit"), *images, output_dir=tmp_path / "out", figures=True)
    assert "scikit-learn is not installed" in caplog.text
    assert drawn(tmp_path / "out") == {"curves", "masks"}
    monkeypatch.setattr(pictures, "find_spec", lambda name: None)
    assert pictures.pictures_of(None, None, {}, {}, None) is None
    assert "matplotlib is not installed" in caplog.text


@pytest.mark.fast
def test_spread_first__begins_with_one_of_each_class():
    labels = [0] * 50 + [1] * 5 + [2] * 3
    features = Features({"label": ClassLabel(names=["a", "b", "c"]), "row": Value("int64")})
    rows = Dataset.from_dict({"label": labels, "row": range(58)}, features=features)
    chosen = _spread_first(rows, seed=0)
    assert [set(chosen[start : start + 3]["label"]) for start in (0, 3, 6)] == [{0, 1, 2}] * 3
    assert sorted(chosen["row"]) == list(range(58))
    assert _spread_first(rows, seed=0)["row"] == chosen["row"]
    assert _spread_first(rows, seed=1)["row"] != chosen["row"]
