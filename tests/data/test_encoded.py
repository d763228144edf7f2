"""Paths in rows may lead anywhere; only files with content are opened."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import PIL.Image
import pytest
from datasets import Dataset

from modeling_data2vec_generic.data.arguments import DataArguments
from modeling_data2vec_generic.data.encoded import encoded_file
from modeling_data2vec_generic.data.images import prepare_images
from modeling_data2vec_generic.data.sources import load_raw_datasets


@pytest.fixture(autouse=True)
def _ends() -> Iterator[None]:
    """A pipe that is opened after all would be waited for until the end of the suite."""
    signal.alarm(60)
    yield
    signal.alarm(0)


@pytest.fixture
def strange(tmp_path: Path) -> dict[str, str]:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    (tmp_path / "nowhere.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "empty.png").touch()
    (tmp_path / "folder.png").mkdir()
    return {
        "pipe": str(tmp_path / "pipe.png"),
        "device": "/dev/zero",
        "link to a device": str(tmp_path / "zero.png"),
        "link to nothing": str(tmp_path / "nowhere.png"),
        "empty": str(tmp_path / "empty.png"),
        "folder": str(tmp_path / "folder.png"),
        "nothing": str(tmp_path / "absent.png"),
        "standard input": "-",
        "http": "http://localhost:9/image.png",
        "file URL": "file:///etc/passwd",
        "hub": "hf://datasets/somebody/something/image.png",
        "NUL": "image\0.png",
        "surrogate": "\udcff.png",
        "no name": "",
    }


WHY = {
    "pipe": "device or pipe",
    "device": "device or pipe",
    "link to a device": "device or pipe",
    "link to nothing": "device or pipe",
    "empty": "empty file",
    "folder": "a folder",
    "http": "is a URL, which is not fetched",
    "file URL": "is a URL, which is not fetched",
    "hub": "is a URL, which is not fetched",
}


@pytest.mark.parametrize("kind", [*WHY, "nothing", "standard input", "NUL", "surrogate", "no name"])
def test_encoded_file__refuses_what_is_no_file(kind, strange):
    with pytest.raises(ValueError, match=WHY.get(kind, "no such file")):
        encoded_file({"bytes": None, "path": strange[kind]})


def test_encoded_file__content_is_not_looked_for_on_the_disk():
    opened = encoded_file({"bytes": b"content", "path": "/dev/zero"})
    assert opened.read() == b"content"


def test_column__of_paths_absolute_or_out_of_the_folder_is_read(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    PIL.Image.new("L", (4, 4), 7).save(tmp_path / "a.png")
    (tmp_path / "link.png").symlink_to(tmp_path / "a.png")
    paths = [str(tmp_path / "a.png"), "../a.png", str(tmp_path / "link.png")]
    Path("rows.csv").write_text("\n".join(["image", *paths]))
    args = DataArguments(train_file="rows.csv", modality="vision", validation_split_percentage=0)
    dataset = prepare_images(load_raw_datasets(args, "vision")["train"], args, "train")
    assert [dataset[row]["image"].getpixel((0, 0)) for row in range(3)] == [(7, 7, 7)] * 3


def test_column__of_strange_paths_is_skipped_and_named(tmp_path, strange, transformers_log):
    PIL.Image.new("L", (4, 4)).save(tmp_path / "a.png")
    paths = [str(tmp_path / "a.png"), *(path for name, path in strange.items() if name not in ("NUL", "surrogate"))]
    raw = Dataset.from_dict({"image": [{"bytes": None, "path": path} for path in paths]})
    raw = raw.add_column("sample_index", list(range(len(raw))))
    args = DataArguments(train_file="rows.csv", max_bad_fraction=1.0)
    assert len(prepare_images(raw, args, "train")) == 1
    assert "12 of 13 train images are bad" in transformers_log.text
    assert f"{strange['pipe']}: ValueError: a folder, device or pipe" in transformers_log.text
