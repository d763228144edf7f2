"""WebDataset shards: columns by extension, labels by `cls`, bad samples, and files that are damaged."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import soundfile
from datasets import load_dataset

from modeling_data2vec_generic.data.arguments import DataArguments
from modeling_data2vec_generic.data.sources.raw_datasets import infer_modality, load_raw_datasets
from modeling_data2vec_generic.data.sources.streamed_source import open_stream
from modeling_data2vec_generic.data.tables.opening import open_files

pytestmark = pytest.mark.fast


def png(level: int) -> bytes:
    file = io.BytesIO()
    PIL.Image.new("L", (4, 4), level).save(file, "PNG")
    return file.getvalue()


def wav() -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.zeros(800), 8000, format="WAV")
    return file.getvalue()


def write(path: Path, samples: list[dict[str, Any]], first: int = 0) -> str:
    """A shard. A value is the content of the member, or what its extension says that it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
        for number, sample in enumerate(samples, start=first):
            for name, value in sample.items():
                content = value if isinstance(value, bytes) else str(value).encode()
                if name == "json" and not isinstance(value, bytes):
                    content = json.dumps(value).encode()
                member = tarfile.TarInfo(f"some/{number:04}.{name}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return str(path)


def both(modality: str, **flags: Any) -> list[dict[str, Any]]:
    """The training rows, which are the same if they are streamed."""
    args = DataArguments(**flags, validation_split_percentage=0)
    assert infer_modality(args) == modality
    loaded = load_raw_datasets(args, modality)["train"]
    head = open_stream(DataArguments(**flags, streaming=True), modality, seed=0).head["train"]
    assert (head.features, head[:]) == (loaded.features, loaded[:])
    return list(loaded)


@pytest.mark.parametrize("ending", ["tar", "tar.gz"])
@pytest.mark.parametrize("flag", ["train_file", "train_dir", "dataset_name"])
def test_images_with_classes(tmp_path, flag, ending):
    shards = [
        write(
            tmp_path / "set" / f"{shard}.{ending}",
            [{"png": png(10 * shard + n), "cls": n % 2, "txt": "a caption", "json": {"a": 1}} for n in range(3)],
            first=3 * shard,
        )
        for shard in range(2)
    ]
    value: Any = [str(tmp_path / "set" / f"*.{ending}")] if flag == "train_file" else str(tmp_path / "set")
    rows = both("vision", **{flag: value})
    assert [row["label"] for row in rows] == [0, 1, 0, 0, 1, 0]
    assert [row["image"]["bytes"] for row in rows] == [png(n) for n in (0, 1, 2, 10, 11, 12)]
    assert rows[4]["image"]["path"] == "some/0004.png"
    table = open_files(shards, "train_file")
    assert list(table.features) == ["__key__", "png", "cls", "txt", "json.a"]
    if ending == "tar":
        theirs = load_dataset("webdataset", data_files=shards, split="train", cache_dir=str(tmp_path / "theirs"))
        assert {"png", "cls", "txt", "json", "__key__"} <= set(theirs.features)
        assert theirs["cls"][:] == [row["label"] for row in rows]
        assert theirs["__key__"][:] == table.load({"text": "__key__"})["text"][:]


@pytest.mark.parametrize(
    ("modality", "sample", "column", "expected"),
    [
        ("text", {"txt": "some words"}, "text", "some words"),
        ("text", {"json": {"body": "of JSON", "label": 3}}, "text", "of JSON"),
        ("speech", {"wav": wav(), "txt": "spoken"}, "audio", {"bytes": wav(), "path": "some/0000.wav"}),
        ("series", {"json": {"series": [1, 2.5]}}, "series", [1.0, 2.5]),
    ],
)
def test_other_kinds_of_data(tmp_path, modality, sample, column, expected):
    file = write(tmp_path / "a.tar", [sample] * 2)
    further = {"series": {"series_column_name": "json.series"}}.get(modality, {})
    assert both(modality, train_file=file, **further)[0][column] == expected


def test_series__as_arrays(tmp_path):
    file = io.BytesIO()
    np.save(file, np.arange(6.0).reshape(3, 2))
    rows = both("series", train_file=write(tmp_path / "a.tar", [{"npy": file.getvalue()}] * 2))
    assert rows[1]["series"] == [[0, 1], [2, 3], [4, 5]]


def test_sample__that_is_bad_is_one_bad_row(tmp_path, transformers_log):
    samples: list[dict[str, Any]] = [{"json": {"text": f"row {n}", "label": "ab"[n % 2]}} for n in range(30)]
    samples[5]["json"] = b'{"text": '
    samples[9] = {"txt": "another member"}
    samples[20]["json"]["label"] = None
    flags: dict[str, Any] = {"text_column_name": "json.text"}
    args = DataArguments(train_file=write(tmp_path / "a.tar", samples), **flags)
    rows = load_raw_datasets(args, "text", validation=False)["train"]
    assert len(rows) == 29
    assert "1 of 30 train rows are bad (row 5: some/0005.json cannot be read: " in transformers_log.text


def test_shard__from_any_sample_on(tmp_path):
    file = write(tmp_path / "a.tar", [{"txt": f"row {n}", "other": b"x" * n} for n in range(9)])
    table = open_files([file], "train_file")
    (piece,) = table.shards(4)
    for skip in (0, 1, 8, 9, 20):
        found = [text for part in table.tables_of(piece, {"text": "txt"}, skip) for text in part["text"].to_pylist()]
        assert found == [f"row {n}" for n in range(9)][skip:]


@pytest.mark.parametrize("ending", ["tar", "tar.gz"])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.77])
def test_shard__that_is_cut_off_gives_the_samples_before(tmp_path, ending, share):
    noise = np.random.default_rng(0)
    path = tmp_path / f"a.{ending}"
    write(path, [{"txt": f"row {n}", "bin": noise.bytes(2000)} for n in range(60)])
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    table = open_files([str(path)], "train_file")
    found: list[str] = []

    def read() -> None:
        for part in table.tables_of(table.shards(1)[0], {"text": "txt"}):
            found.extend(part["text"].to_pylist())

    with pytest.raises(ValueError, match=r"cannot be read as tar: it is damaged or cut off after sample \d+ \("):
        read()
    assert found == [f"row {n}" for n in range(len(found))]
    assert abs(len(found) - 60 * share) < 6
    with pytest.raises(ValueError, match="is damaged or cut off after sample"):
        load_raw_datasets(DataArguments(train_file=str(path)), "text")


@pytest.mark.parametrize("content", [b"no tar", b"\x1f\x8b no gzip", b"x" * 2000])
def test_shard__that_is_none(tmp_path, content):
    for name in ("a.tar", "a.tar.gz"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=r"cannot be read as tar|is no .tar file|has no rows"):
            load_raw_datasets(DataArguments(train_file=str(tmp_path / name)), "text")
