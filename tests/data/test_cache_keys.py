"""A second run sees what has changed since the first: files that rows name, and the code that prepares them."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import PIL.Image
import pytest
import soundfile
from datasets import Dataset

from modeling_data2vec_generic.data import cache_keys
from modeling_data2vec_generic.data.arguments import DataArguments
from modeling_data2vec_generic.data.sources.columns import undecoded
from modeling_data2vec_generic.data.sources.raw_datasets import load_raw_datasets
from modeling_data2vec_generic.modalities.speech.waveforms import prepare_clips, prepare_speech
from modeling_data2vec_generic.modalities.vision.images import prepare_images
from modeling_data2vec_generic.modalities.vision.segmentation_labels import screen_masks

pytestmark = pytest.mark.fast


def table(folder: Path, column: str, names: list[str]) -> DataArguments:
    (folder / "list.csv").write_text("\n".join([column, *names]))
    return DataArguments(
        train_file=str(folder / "list.csv"), max_bad_fraction=0.9, **{f"{column}_column_name": column}
    )


def write_wav(path: Path, seconds: float) -> None:
    soundfile.write(path, np.tile([0.1, -0.1], int(seconds * 8_000)), 16_000)


def test_images_of_a_table__added_and_replaced(tmp_path):
    args = table(tmp_path, "image", ["a.png", "b.png", "c.png"])

    def count() -> int:
        return len(prepare_images(load_raw_datasets(args, "vision", validation=False)["train"], args, "train"))

    PIL.Image.new("L", (4, 4)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"broken")
    assert count() == 1
    PIL.Image.new("L", (4, 4)).save(tmp_path / "b.png")
    PIL.Image.new("L", (4, 4)).save(tmp_path / "c.png")
    assert count() == 3
    (tmp_path / "c.png").unlink()
    assert count() == 2


@pytest.mark.parametrize("whole", [False, True])
def test_sound_of_a_table__shortened(tmp_path, whole):
    args = table(tmp_path, "audio", ["a.wav", "b.wav"])

    def lengths() -> list[int]:
        raw = load_raw_datasets(args, "speech", validation=False)["train"]
        extractor = SimpleNamespace(sampling_rate=16_000)
        if whole:
            raw = raw.add_column("label", ["x"] * len(raw))
            return prepare_clips(raw, extractor, args, "train", 400, lambda *_: "").with_format(None)["length"][:]
        return prepare_speech(raw, extractor, args, "train", 400).with_format(None)["length"][:]

    for name in ("a.wav", "b.wav"):
        write_wav(tmp_path / name, 5)
    assert lengths() == [80_000, 80_000]
    write_wav(tmp_path / "b.wav", 2)
    assert lengths() == [80_000, 32_000]


def test_masks_of_a_table__replaced(tmp_path):
    args = DataArguments(train_file=str(tmp_path / "list.parquet"), label_column_name="mask")
    Dataset.from_dict({"image": ["a.png"], "mask": ["m.png"]}).to_parquet(tmp_path / "list.parquet")

    def values() -> list[int]:
        raw = load_raw_datasets(DataArguments(train_file=args.train_file), "vision", validation=False)["train"]
        rows = Dataset.from_parquet(args.train_file, cache_dir=str(tmp_path / "cache")).rename_column("mask", "label")
        rows = rows.add_column("sample_index", raw["sample_index"][:])
        return screen_masks(undecoded(rows, "label", "vision", args, "train", "mask"), args, "train", 255)[0]["values"]

    PIL.Image.new("L", (4, 4), 3).save(tmp_path / "m.png")
    assert values() == [3]
    PIL.Image.new("L", (4, 4), 5).save(tmp_path / "m.png")
    assert values() == [5]


@pytest.mark.parametrize("path", ["zip://0.png::{}/a.zip", "{}/a.zip"])
def test_state__of_a_file_and_of_the_archive_that_holds_it(tmp_path, path):
    (tmp_path / "a.zip").write_bytes(b"12345")
    size, changed = cache_keys.file_state(path.format(tmp_path))
    assert size == 5
    assert changed == (tmp_path / "a.zip").stat().st_mtime_ns
    assert cache_keys.file_state("no\0file") is None


def test_code__changes_the_key(tmp_path, monkeypatch):
    args = table(tmp_path, "text", ["one", "two"])
    keys = []
    for version in ("old", "old", "new"):
        monkeypatch.setattr(cache_keys, "code_version", lambda version=version: version)
        keys.append(load_raw_datasets(args, "text", validation=False)["train"]._fingerprint)
    assert keys[0] == keys[1] != keys[2]


@pytest.mark.parametrize("folder", ["data/tables", "modalities/text", "finetuning/tasks"])
def test_code_version__follows_the_source_of_the_package(tmp_path, monkeypatch, folder):
    versions = []
    for text in ("a = 1", "a = 2"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / "x.py").write_text(text)
        monkeypatch.setattr(cache_keys, "__file__", str(tmp_path / "data" / "cache_keys.py"))
        versions.append(cache_keys.code_version.__wrapped__())
    assert versions[0] != versions[1]
