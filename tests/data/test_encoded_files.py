"""Any path may be in a row, but only files with content are opened."""

import gzip
import io
import os
import signal
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import soundfile
from datasets import Dataset
from torch.utils.data import DataLoader
from transformers import Wav2Vec2FeatureExtractor

from modeling_data2vec_generic.data.arguments import DataArguments
from modeling_data2vec_generic.data.encoded_files import encoded_file
from modeling_data2vec_generic.data.sources.raw_datasets import infer_modality, load_raw_datasets, read_splits
from modeling_data2vec_generic.data.sources.streamed_source import open_stream
from modeling_data2vec_generic.modalities.speech.waveforms import prepare_speech
from modeling_data2vec_generic.modalities.vision.images import prepare_images

pytestmark = pytest.mark.fast


@pytest.fixture(autouse=True)
def _ends() -> Iterator[None]:
    """A short limit: a pipe that is opened by mistake would block the whole suite."""
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
        "table": f"{tmp_path}/zip://a.png::a.zip",
        "archive over http": "zip://a.png::http://localhost:9/a.zip",
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
    "table": "'zip://a.png::a.zip' is a URL, which is not fetched",
    "archive over http": "is a URL, which is not fetched",
}


@pytest.mark.parametrize("kind", [*WHY, "nothing", "standard input", "NUL", "surrogate", "no name"])
def test_encoded_file__refuses_what_is_no_file(kind, strange):
    with pytest.raises(ValueError, match=WHY.get(kind, "no such file")):
        encoded_file({"bytes": None, "path": strange[kind]})


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def image(level: int) -> bytes:
    stream = io.BytesIO()
    PIL.Image.new("L", (4, 4), level).save(stream, "PNG")
    return stream.getvalue()


def test_encoded_file__opens_what_datasets_made_of_an_archive(tmp_path):
    path = zipped(tmp_path / "a.zip", {"folder/a.png": b"content"})

    def content(address: str) -> bytes:
        opened = encoded_file({"bytes": None, "path": address})
        assert isinstance(opened, io.BytesIO)
        return opened.read()

    assert content(f"zip://folder/a.png::{path}") == b"content"
    with pytest.raises(ValueError, match="no such file in the archive"):
        content(f"zip://b.png::{path}")
    with pytest.raises(ValueError, match="there is no such file"):
        content(f"zip://a.png::{tmp_path / 'b.zip'}")
    with pytest.raises(ValueError, match="a folder, device or pipe"):
        content("zip://a.png::/dev/zero")
    os.utime(zipped(path, {"folder/a.png": b"another"}), ns=(1, 1))
    assert content(f"zip://folder/a.png::{path}") == b"another"
    with gzip.open(tmp_path / "b.gz", "wb") as file:
        file.write(b"compressed")
    assert content(f"gzip://b::{tmp_path / 'b.gz'}") == b"compressed"


def test_encoded_file__of_a_hub_repository_is_opened_as_datasets_does(monkeypatch):
    monkeypatch.setattr(
        "modeling_data2vec_generic.data.encoded_files.xopen", lambda address, mode: io.BytesIO(address.encode())
    )
    address = "hf://datasets/somebody/something@main/image.png"
    for path in (address, f"zip://image.png::{address}"):
        opened = encoded_file({"bytes": None, "path": path})
        assert isinstance(opened, io.BytesIO)
        assert opened.read().decode() == path


def test_encoded_file__in_an_archive_that_claims_too_much_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr("modeling_data2vec_generic.data.encoded_files._LARGEST", 6)
    path = zipped(tmp_path / "a.zip", {"a.png": b"content"})
    with pytest.raises(ValueError, match="7 bytes in an archive are more than 6"):
        encoded_file({"bytes": None, "path": f"zip://a.png::{path}"})


def test_folder__of_archives_gives_images_and_classes(tmp_path):
    for split, count in (("train", 6), ("test", 2)):
        files = {f"{'ab'[i % 2]}/{i}.png": image(i) for i in range(count)}
        zipped(tmp_path / "set" / f"{split}.zip", files)
    args = DataArguments(dataset_name=str(tmp_path / "set"))
    raw = load_raw_datasets(args, "vision")
    samples = prepare_images(raw["train"], args, "train")
    assert sorted(sample["image"].getpixel((0, 0))[0] for sample in samples) == list(range(6))
    loader = DataLoader(samples, num_workers=2, batch_size=None, multiprocessing_context="fork")
    assert sorted(sample["image"].getpixel((0, 0))[0] for sample in loader) == list(range(6))
    assert raw["train"].features["label"].names == ["a", "b"]
    source = open_stream(replace(args, streaming=True), "vision", seed=0)
    assert len(prepare_images(source.head["train"], args, "train")) == 6
    assert sorted(source.head["train"]["label"][:]) == sorted(raw["train"]["label"][:])


def test_folder__that_datasets_reads_says_what_it_passes_over(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr("modeling_data2vec_generic.data.folders.loading.note", lambda split, text: said.append(text))
    zipped(tmp_path / "set" / "train.zip", {f"{i}.png": image(i) for i in range(3)})
    for name in ("a.heic", "b.heic", "LICENSE"):
        (tmp_path / "set" / name).write_text("x")
    load_raw_datasets(DataArguments(dataset_name=str(tmp_path / "set")), "vision")
    (sentence,) = set(said)  # the summary shows it once
    assert sentence.startswith("3 other files are left out: 2 .heic, 1 without an extension.")


def test_folder__of_webdataset_archives_has_cls_as_its_label(tmp_path):
    (tmp_path / "set").mkdir()
    with tarfile.open(tmp_path / "set" / "train.tar", "w") as archive:
        for number in range(4):
            for ending, content in (("png", image(number)), ("cls", b"%d" % (number % 2)), ("json", b'{"a": 1}')):
                member = tarfile.TarInfo(f"{number}.{ending}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    args = DataArguments(dataset_name=str(tmp_path / "set"))
    assert infer_modality(args) == "vision"
    raw = load_raw_datasets(args, "vision", validation=False)["train"]
    assert raw["label"][:] == [0, 1, 0, 1]
    assert prepare_images(raw, args, "train")[3]["image"].getpixel((0, 0)) == (3, 3, 3)
    for name in ("label", "cls"):
        assert read_splits(replace(args, label_column_name=name), "vision")["train"]["label"][:] == [0, 1, 0, 1]
    streamed = open_stream(replace(args, streaming=True), "vision", seed=0)
    assert streamed.head["train"]["label"][:] == [0, 1, 0, 1]


def test_folder__of_an_archive_of_sound_is_read(tmp_path):
    stream = io.BytesIO()
    soundfile.write(stream, np.tile([0.5, -0.5], 800), 16_000, format="WAV")
    zipped(tmp_path / "set" / "train.zip", {f"{i}.wav": stream.getvalue() for i in range(3)})
    args = DataArguments(dataset_name=str(tmp_path / "set"))
    raw = load_raw_datasets(args, "speech", validation=False)["train"]
    samples = prepare_speech(raw, Wav2Vec2FeatureExtractor(), args, "train", 400)
    assert [len(sample["audio"]) for sample in samples] == [1600] * 3


@pytest.mark.parametrize("address", ["http://localhost:9/a.png", "zip://a.png::{}", "hf://datasets/a/b/a.png"])
def test_column__of_addresses_in_a_table_is_refused(address, tmp_path, transformers_log):
    archive = zipped(tmp_path / "a.zip", {"a.png": image(1)})
    (tmp_path / "set").mkdir()
    for name in ("set/train.csv", "rows.csv"):
        (tmp_path / name).write_text(f"image\n{address.format(archive)}\n")
    for flags in ({"train_file": str(tmp_path / "rows.csv")}, {"dataset_name": str(tmp_path / "set")}):
        args = DataArguments(**flags, modality="vision")
        raw = load_raw_datasets(args, "vision", validation=False)["train"]
        with pytest.raises(ValueError, match="is a URL, which is not fetched"):
            prepare_images(raw, args, "train")


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
    assert "13 of 14 train images are bad" in transformers_log.text
    assert f"{strange['pipe']}: ValueError: a folder, device or pipe" in transformers_log.text
