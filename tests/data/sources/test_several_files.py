"""Several files, patterns, folders and compressed files as one source, loaded and streamed alike."""

import bz2
import gzip
import json
import lzma
from pathlib import Path
from typing import Any

import PIL.Image
import pyarrow
import pyarrow.ipc
import pytest
from datasets import Dataset, DatasetDict

from modeling_data2vec_generic.data.arguments import DataArguments
from modeling_data2vec_generic.data.sources.raw_datasets import infer_modality, load_raw_datasets
from modeling_data2vec_generic.data.sources.streamed_source import open_stream
from modeling_data2vec_generic.data.summary import summarized

pytestmark = pytest.mark.fast

COMPRESS: dict[str, Any] = {
    "gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zst": pyarrow.Codec("zstd").compress,
}  # fmt: skip


def write(path: Path, *texts: str, label: Any = None) -> str:
    """Rows of text, and a label, in a file of the kind that its name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    name, _, compression = path.name.partition(".")[2].partition(".")
    rows = [{"text": text} | ({} if label is None else {"label": label}) for text in texts]
    if name == "parquet":
        Dataset.from_list(rows).to_parquet(path)
    elif name == "arrow":
        table = pyarrow.Table.from_pylist(rows)
        with pyarrow.ipc.new_file(str(path), table.schema) as file:
            file.write_table(table, max_chunksize=2)
    else:
        content = {
            "csv": "\n".join([",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]),
            "tsv": "\n".join(["text", *texts]),
            "json": json.dumps(rows),
            "jsonl": "\n".join(map(json.dumps, rows)),
            "txt": "\n".join(texts),
        }[name].encode()  # fmt: skip
        path.write_bytes(COMPRESS[compression](content) if compression else content)
    return str(path)


def both(modality: str = "text", **flags: Any) -> list[dict[str, Any]]:
    """The training rows, which are the same if they are streamed."""
    args = DataArguments(**flags, validation_split_percentage=0)
    assert infer_modality(args) == modality
    loaded = load_raw_datasets(args, modality)["train"]
    head = open_stream(DataArguments(**flags, streaming=True), modality, seed=0).head["train"]
    assert head.features == loaded.features
    assert head[:] == loaded[:]
    return list(loaded)


def texts(rows: Any) -> list[str]:
    return [row["text"] for row in rows]


@pytest.mark.parametrize("compression", sorted(COMPRESS))
@pytest.mark.parametrize("kind", ["csv", "tsv", "json", "jsonl", "txt"])
def test_compressed(tmp_path, kind, compression):
    assert texts(both(train_file=write(tmp_path / f"a.{kind}.{compression}", "one two", "three"))) == [
        "one two",
        "three",
    ]


def test_several__in_the_order_in_which_they_are_given(tmp_path):
    files = [write(tmp_path / f"{name}.csv", f"of {name}", "more", label=name) for name in "bac"]
    rows = both(train_file=[files[2], str(tmp_path / "[ab].csv")])
    assert texts(rows) == ["of c", "more", "of a", "more", "of b", "more"]
    assert [row["label"] for row in rows] == [2, 2, 0, 0, 1, 1]
    assert [row["sample_index"] for row in rows] == list(range(6))


def test_several__formats_with_labels_of_one_type(tmp_path):
    names = ["a.parquet", "b.csv.gz", "c.jsonl", "d.arrow"]
    files = [write(tmp_path / name, f"of {name}", label=number) for number, name in enumerate(names)]
    rows = both(train_file=files)
    assert texts(rows) == [f"of {name}" for name in names]
    assert [row["label"] for row in rows] == [0, 1, 2, 3]
    assert texts(both(train_file=[write(tmp_path / "a.txt", "line"), files[2]], label_column_name=None)) == [
        "line", "of c.jsonl",
    ]  # fmt: skip


def test_several__as_validation_file(tmp_path):
    files = [write(tmp_path / f"{name}.txt", name) for name in "abcd"]
    args = DataArguments(train_file=files[:2], validation_file=files[2:])
    assert texts(load_raw_datasets(args, "text")["validation"]) == ["c", "d"]


def test_pattern__is_no_pattern_if_it_is_a_file(tmp_path):
    write(tmp_path / "a1.txt", "other")
    assert texts(both(train_file=write(tmp_path / "a[1].txt", "mine"))) == ["mine"]


def test_pattern__over_folders(tmp_path):
    for place in ("x", "x/deep", "y"):
        write(tmp_path / place / "a.txt", place)
    assert texts(both(train_file=str(tmp_path / "x" / "**" / "*.txt"))) == ["x", "x/deep"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["*.tsv"], r"train_file='.*\*\.tsv' matches no file"),
        (["a.txt", "missing.txt"], r"missing.txt' is not a file"),
        (["a.txt", "a.xlsx"], r"a.xlsx\) has an unknown extension"),
        (["a.txt", "b.csv"], r"b.csv' has no column 'text', as the files before it have. It has: body"),
        (["c.csv", "b.csv"], r"b.csv' has no column 'text'"),
        (["c.csv", "broken.jsonl"], r"cannot be read as json \(.*broken.jsonl\): line 1: it is not JSON"),
        (["c.csv", "gz.csv"], r"gz.csv\) is no .csv file: its first bytes are those of .gz files"),
        (["empty.csv"], r"empty.csv' is empty \(0 bytes\)"),
        (["header.csv"], "has no rows"),
        (["folder"], "folder without files of tables"),
    ],
)
def test_several__that_cannot_be_one_source(tmp_path, given, message):
    write(tmp_path / "a.txt", "a")
    (tmp_path / "a.xlsx").write_bytes(b"x")
    (tmp_path / "b.csv").write_text("body\nb\n")
    write(tmp_path / "c.csv", "c")
    (tmp_path / "broken.jsonl").write_text("{no json\n")
    (tmp_path / "gz.csv").write_bytes(gzip.compress(b"text\na\n"))
    (tmp_path / "empty.csv").write_bytes(b"")
    (tmp_path / "header.csv").write_text("text\n")
    (tmp_path / "folder").mkdir()
    files = [str(tmp_path / name) for name in given]
    for streaming in (False, True):
        args = DataArguments(train_file=files, streaming=streaming)
        with pytest.raises(ValueError, match=message):
            open_stream(args, "text", 0) if streaming else load_raw_datasets(args, "text")


def test_several__of_which_some_have_no_rows(tmp_path, transformers_log):
    write(tmp_path / "a.csv", "first")
    (tmp_path / "b.csv").write_bytes(b"")
    (tmp_path / "c.csv").write_text("text\n")
    write(tmp_path / "d.csv", "last")
    assert texts(both(train_file=str(tmp_path / "*.csv"))) == ["first", "last"]
    assert f"1 of 4 files of train_file='{tmp_path}/*.csv' are empty (0 bytes) and left out: " in transformers_log.text


def test_paths__are_relative_to_the_folder_of_each_table(tmp_path):
    files = []
    for level, place in enumerate(("x", "y/z")):
        (tmp_path / place).mkdir(parents=True)
        PIL.Image.new("L", (4, 4), level).save(tmp_path / place / "same.png")
        files.append(tmp_path / place / ("a.csv" if level else "a.parquet"))
    Dataset.from_dict({"picture": ["same.png"]}).to_parquet(files[0])
    files[1].write_text("picture\nsame.png\n")
    rows = both("vision", train_file=list(map(str, files)))
    assert [row["image"]["path"] for row in rows] == [str(tmp_path / place / "same.png") for place in ("x", "y/z")]


@pytest.mark.parametrize("flag", ["train_file", "train_dir", "dataset_name"])
@pytest.mark.parametrize("kind", ["parquet", "arrow", "jsonl.gz"])
def test_folder__of_tables(tmp_path, flag, kind):
    for place in ("one", "two/deep"):
        write(tmp_path / "set" / place / f"a.{kind}", f"in {place}", "more")
    assert texts(both(**{flag: str(tmp_path / "set")})) == ["in one", "more", "in two/deep", "more"]


def test_folder__with_splits(tmp_path):
    for split in ("train", "test"):
        write(tmp_path / "set" / split / "a.parquet", f"of {split}")
    for flag in ("train_dir", "dataset_name"):
        raw = load_raw_datasets(DataArguments(**{flag: str(tmp_path / "set")}), "text")
        assert {split: texts(rows) for split, rows in raw.items()} == {
            "train": ["of train"],
            "validation": ["of test"],
        }
    with pytest.raises(ValueError, match="has the splits train, test: give it as --train_dir"):
        load_raw_datasets(DataArguments(train_file=str(tmp_path / "set")), "text")


@pytest.mark.parametrize("flag", ["train_file", "train_dir", "dataset_name"])
def test_folder__of_save_to_disk_is_mapped_and_not_copied(tmp_path, flag):
    rows = Dataset.from_dict({"text": ["a", "b"], "label": [0, 1]}).with_format("numpy")
    rows.save_to_disk(tmp_path / "saved")
    DatasetDict({"train": rows, "test": rows.select([1])}).save_to_disk(tmp_path / "splits")
    assert texts(both(**{flag: str(tmp_path / "saved")})) == ["a", "b"]
    args = DataArguments(**{flag: str(tmp_path / "splits")})
    raw = load_raw_datasets(args, "text")
    for found in (raw, open_stream(args, "text", 0).head):
        assert {split: texts(rows) for split, rows in found.items()} == {"train": ["a", "b"], "validation": ["b"]}
    files = {file["filename"] for file in raw["train"].cache_files}
    assert str(tmp_path / "splits" / "train" / "data-00000-of-00001.arrow") in files


def test_folder__of_save_to_disk_that_is_damaged(tmp_path):
    Dataset.from_dict({"text": ["a", "b"]}).save_to_disk(tmp_path / "saved")
    (tmp_path / "saved" / "data-00000-of-00001.arrow").write_bytes(b"")
    with pytest.raises(ValueError, match="train_dir='.*' cannot be loaded as a data set saved by save_to_disk"):
        load_raw_datasets(DataArguments(train_dir=str(tmp_path / "saved")), "text")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"train_file": "a.csv"}, "train: Columns of train_file='a.csv' (csv, separator none, one column): 'text'"),
        ({"train_file": ["a.csv", "b.txt"]}, "(csv, separator none, one column; text): 'text' as text."),
        ({"dataset_name": "python_docs"}, "train: Columns of dataset_name='python_docs': 'text' as text."),
        ({"train_file": "p.parquet"}, "p.parquet' (parquet): 'text' as text, 'label' as label."),
        ({"train_file": "a.csv", "validation_file": "b.txt"}, "validation: Columns of validation_file='b.txt' (text)"),
    ],
)  # fmt: skip
def test_columns__are_said_in_one_line_for_each_source(tmp_path, monkeypatch, caplog, flags, expected):
    from transformers.utils import logging

    write(tmp_path / "a.csv", "a", "b", "c")
    write(tmp_path / "b.txt", "b")
    write(tmp_path / "p.parquet", "b", label=1)
    monkeypatch.chdir(tmp_path)
    logging.enable_propagation()
    with caplog.at_level("INFO"), summarized():
        load_raw_datasets(DataArguments(**flags, validation_split_percentage=0), "text")
    logging.disable_propagation()
    assert expected in caplog.text
    assert caplog.text.count("train: Columns of") == 1


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "arrow", "saved"])
def test_columns__that_are_not_clear_are_listed(tmp_path, kind):
    rows = [{"title": "a", "id": 7, "body": "b"}] * 3
    path = tmp_path / f"a.{kind}"
    if kind == "csv":
        path.write_text("title,id,body\n" + "a,7,b\n" * 3)
    elif kind == "jsonl":
        path.write_text("\n".join(map(json.dumps, rows)))
    elif kind == "arrow":
        table = pyarrow.Table.from_pylist(rows)
        with pyarrow.ipc.new_stream(str(path), table.schema) as file:
            file.write_table(table)
    elif kind == "saved":
        Dataset.from_list(rows).save_to_disk(path)
    else:
        Dataset.from_list(rows).to_parquet(path)
    for streaming in (False, True):
        args = DataArguments(train_file=str(path), streaming=streaming)
        with pytest.raises(ValueError, match="and 2 that hold text. .* --text_column_name; there are: title, body"):
            open_stream(args, "text", 0) if streaming else load_raw_datasets(args, "text")
    assert texts(both(train_file=str(path), text_column_name="body")) == ["b"] * 3
