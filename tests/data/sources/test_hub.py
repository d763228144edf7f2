"""Datasets by name: which folder is read, and the error if the cache cannot be written."""

from pathlib import Path

import pytest

from modeling_data2vec_generic.data.arguments import DataArguments
from modeling_data2vec_generic.data.sources.raw_datasets import load_raw_datasets
from modeling_data2vec_generic.data.sources.streamed_source import open_stream

pytestmark = pytest.mark.fast


def texts(folder: Path, *rows: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "rows.txt").write_text("\n".join(rows))
    return folder


@pytest.mark.parametrize(("name", "relative"), [("run?", False), ("data [v2]", True), ("a*[b", False)])
def test_folder__is_read_alone_with_any_name(name, relative, tmp_path, monkeypatch):
    folder = texts(tmp_path / name, "mine")
    for other in ("run1", "run2", "data v"):
        texts(tmp_path / other, "theirs")
    monkeypatch.chdir(tmp_path)
    args = DataArguments(dataset_name=name if relative else str(folder), validation_split_percentage=0)
    assert load_raw_datasets(args, "text")["train"]["text"][:] == ["mine"]
    assert open_stream(args, "text", 0).head["train"]["text"][:] == ["mine"]


def test_folder__of_splits_below_a_pattern(tmp_path):
    for split in ("train", "test"):
        texts(tmp_path / "of [all]" / split, split)
    loaded = load_raw_datasets(DataArguments(dataset_name=str(tmp_path / "of [all]")), "text")
    assert {split: rows["text"][:] for split, rows in loaded.items()} == {"train": ["train"], "validation": ["test"]}


def test_folder__of_configurations_below_a_pattern_is_refused(tmp_path):
    folder = texts(tmp_path / "run?", "mine")
    (folder / "README.md").write_text("---\nconfigs:\n- config_name: one\n  data_files: rows.txt\n---\n")
    with pytest.raises(ValueError, match=r"has configurations, which need a path without any of .* rename the folder"):
        load_raw_datasets(DataArguments(dataset_name=str(folder)), "text")


def test_cache__that_cannot_be_written(tmp_path, monkeypatch):
    folder = texts(tmp_path / "rows", "mine")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", folder / "rows.txt" / "cache")
    with pytest.raises(
        ValueError, match=r"cache of datasets '.*cache' cannot be written .*HF_DATASETS_CACHE.*HF_HOME"
    ):
        load_raw_datasets(DataArguments(train_file=str(folder / "rows.txt")), "text")
