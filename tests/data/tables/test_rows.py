"""Tables of all formats: only the columns that are used are read, each as the type that it is used as."""

import base64
import io
import json
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pyarrow
import pyarrow.parquet
import pytest
from datasets import Dataset, Features, List, Value

from modeling_data2vec_generic.data.arguments import DataArguments
from modeling_data2vec_generic.data.sources.raw_datasets import infer_modality, load_raw_datasets, read_splits
from modeling_data2vec_generic.data.sources.streamed_source import WindowPreparation, open_stream
from modeling_data2vec_generic.data.streams.ring import BrokenShards, Place
from modeling_data2vec_generic.data.streams.windows import LanePosition, WindowSettings
from modeling_data2vec_generic.data.summary import summarized
from modeling_data2vec_generic.modalities.series.windows import prepare_series
from modeling_data2vec_generic.modalities.vision.images import prepare_images

pytestmark = pytest.mark.fast

LATE = 1200  # rows before the odd one, more than the types of columns are inferred from


def write(path: Path, *lines: Any) -> str:
    """Writes lines of text as they are, and other rows as JSON."""
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + "\n", "utf-8")
    return str(path)


def loaded(file: str, labels: str = "any", modality: str = "text", **flags: Any) -> Dataset:
    return read_splits(DataArguments(train_file=file, **flags), modality, labels=labels)["train"]


def streamed(file: str, count: int, modality: str = "text", **flags: Any) -> list[dict[str, Any]]:
    """The first rows of a stream that is read in windows of 500 rows."""
    args = DataArguments(train_file=file, streaming=True, shuffle_buffer_size=500, **flags)
    source = open_stream(args, modality, seed=0)
    prepare = WindowPreparation(args, modality, source.chosen, lambda rows: rows)
    windows = WindowSettings(source.rows, prepare, 500, frozenset({0}), seed=0, block=1)
    found = windows.read(0, LanePosition(Place(0, 0)), BrokenShards(source.rows, 1.0))
    return list(islice((row for window in found for row in window.samples), count))


# Types


@pytest.mark.parametrize(
    ("kind", "odd"), [("csv", "a note"), ("csv", 2.5), ("jsonl", "a note"), ("jsonl", 2.5), ("jsonl", {"a": [1]})]
)
def test_column__that_is_not_used_may_hold_anything(tmp_path, kind, odd):
    notes = [None] * LATE + [odd]
    if kind == "csv":
        rows = ["text,note", *(f"row {n},{json.dumps(note) if note else ''!r}" for n, note in enumerate(notes))]
    else:
        rows = [{"text": f"row {n}", "note": note} for n, note in enumerate(notes)]
    file = write(tmp_path / f"a.{kind}", *rows)
    assert len(loaded(file, max_bad_fraction=0)) == LATE + 1
    assert [row["text"] for row in streamed(file, LATE + 1)] == [f"row {n}" for n in range(LATE + 1)]


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_text__stays_text_if_all_of_it_are_digits(tmp_path, kind):
    rows = ["text", "007", "12"] if kind == "csv" else [{"text": "007"}, {"text": 12}]
    file = write(tmp_path / f"a.{kind}", *rows)
    assert loaded(file)["text"][:] == ["007", "12"]
    assert [row["text"] for row in streamed(file, 2)] == ["007", "12"]


@pytest.mark.parametrize(
    ("given", "wanted", "expected"),
    [
        (["001", "002"], "any", ["001", "002"]),
        (["1", "-2"], "any", [1, -2]),
        (["1", "02"], "any", ["1", "02"]),
        (["1"] * LATE + ["2.5"], "any", [1.0] * LATE + [2.5]),
        (["1"] * LATE + ["two"], "any", ["1"] * LATE + ["two"]),
        (["2.50", "two"], "any", ["2.50", "two"]),
        (["1", "2"], "text", ["1", "2"]),
        (["None", "NA"], "any", ["None", "NA"]),
        (["null", ""], "any", ["null", None]),
        (["12345678901234567890", "1"], "any", ["12345678901234567890", "1"]),
    ],
)
def test_labels_of_csv__have_one_type_by_all_of_them(tmp_path, given, wanted, expected):
    file = write(tmp_path / "a.csv", "text,label", *(f"words,{label}" for label in given))
    labels = loaded(file, wanted)["label"][:]
    assert labels == expected
    assert {type(label) for label in labels} == {type(label) for label in expected}


@pytest.mark.parametrize(
    ("given", "wanted", "expected"),
    [
        ([0, 1, "2"], "any", ["0", "1", "2"]),
        ([0, 1, 2.5], "any", [0.0, 1.0, 2.5]),
        ([0, True], "any", ["0", "true"]),
        ([True, False], "any", [True, False]),
        ([1, 2], "text", ["1", "2"]),
        ([["a"], []], "any", [["a"], []]),
        ([[1], ["a"]], "any", [["1"], ["a"]]),
        ([[1, 2], [3]], "text", [[1, 2], [3]]),
    ],
)
def test_labels_of_json__have_one_type_by_all_of_them(tmp_path, given, wanted, expected):
    file = write(tmp_path / "a.jsonl", *({"text": "words", "label": label} for label in given))
    assert loaded(file, wanted)["label"][:] == expected


@pytest.mark.parametrize("wanted", ["any", "numbers"])
def test_labels__an_odd_one_among_numbers_is_one_bad_row(tmp_path, transformers_log, wanted):
    scores = [f"{n / 4}" for n in range(30)]
    scores[12] = "n/a"
    file = write(tmp_path / "a.csv", "text,label", *(f"row {n},{score}" for n, score in enumerate(scores)))
    rows = loaded(file, wanted)
    assert rows["label"][:] == [n / 4 for n in range(30) if n != 12]
    assert rows["sample_index"][:] == [n for n in range(30) if n != 12]
    assert "1 of 30 train rows are bad (row 12: column 'label' holds 'n/a', not a number)" in transformers_log.text


def test_labels_of_parquet__are_text_where_text_is_wanted(tmp_path):
    Dataset.from_dict({"text": ["a", "b"], "label": [1, 2]}).to_parquet(tmp_path / "a.parquet")
    assert loaded(str(tmp_path / "a.parquet"), "text")["label"][:] == ["1", "2"]


def test_series__an_odd_one_is_one_bad_row(tmp_path, transformers_log):
    rows: list[dict[str, Any]] = [{"series": [n, n + 0.5]} for n in range(30)]
    rows[7]["series"] = "broken"
    rows[8]["series"] = [1, "x"]
    file = write(tmp_path / "a.jsonl", *rows)
    assert len(loaded(file, modality="series")) == 28
    assert "row 7: column 'series' holds 'broken', not a list" in transformers_log.text
    assert "row 8: column 'series' holds 'x' among its numbers" in transformers_log.text
    assert len(streamed(file, 28, "series")) == 28


def views(values: list[str]) -> pyarrow.Array:
    return pyarrow.array(values, pyarrow.string_view())


@pytest.mark.parametrize(
    ("column", "feature"),
    [
        (views(["a", "b"]), Value("string")),
        (pyarrow.array(["a", "b"]).dictionary_encode(), Value("string")),
        (pyarrow.array([["a"], ["b"]], pyarrow.list_(pyarrow.string_view())), List(Value("string"))),
    ],
)
def test_parquet__types_of_other_writers(tmp_path, column, feature):
    table = pyarrow.table({"text": views(["one", "two"]), "label": column})
    odd = pyarrow.array([[("a", 1)], []], pyarrow.map_(pyarrow.string(), pyarrow.int64()))
    pyarrow.parquet.write_table(table.append_column("odd", odd), tmp_path / "a.parquet")
    rows = loaded(str(tmp_path / "a.parquet"))
    assert rows["text"][:] == ["one", "two"]
    assert rows.features["label"] == feature
    assert [row["text"] for row in streamed(str(tmp_path / "a.parquet"), 2)] == ["one", "two"]


# Separators, missing values, broken records


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_csv__the_separator_is_told(tmp_path, separator):
    rows = [f"the cat {n}. The dog: ran{separator}topic{n % 2}" for n in range(20)]
    file = write(tmp_path / "a.csv", f"text{separator}label", *rows)
    with summarized():
        found = loaded(file)
    assert found["text"][3] == "the cat 3. The dog: ran"
    assert found["label"][:4] == ["topic0", "topic1", "topic0", "topic1"]
    assert streamed(file, 1)[0]["text"] == "the cat 0. The dog: ran"


def test_csv__no_index_is_taken_from_the_text(tmp_path):
    rows = [f"the cat {n} sat, the dog ran;topic{n % 2}" for n in range(20)]
    found = loaded(write(tmp_path / "a.csv", "text;label", *rows))
    assert found["text"][0] == "the cat 0 sat, the dog ran"


def test_csv__of_one_column_is_not_cut_at_commas(tmp_path):
    assert loaded(write(tmp_path / "a.csv", "text", "one, two", '"three, four"', "five"))["text"][:] == [
        "one, two", "three, four", "five",
    ]  # fmt: skip


def test_csv__numbers_with_a_decimal_comma(tmp_path):
    assert loaded(write(tmp_path / "a.csv", "text;label", "a, b;2,5", "c;3"))["label"][:] == [2.5, 3.0]


def test_csv__with_a_tab_by_its_ending(tmp_path):
    assert loaded(write(tmp_path / "a.tsv", "text\tlabel", "a, b\t1", "c, d\t2"))["label"][:] == [1, 2]


def test_csv__quotes_newlines_and_long_cells(tmp_path):
    long = "word " * 50_000
    file = write(tmp_path / "a.csv", "text,label", '"two\nlines, and ""quotes""",1', f'"{long}",2')
    assert loaded(file)["text"][:] == ['two\nlines, and "quotes"', long]


def test_csv__an_empty_cell_alone_is_missing(tmp_path):
    rows = loaded(write(tmp_path / "a.csv", "text,label", "None,a", "N/A,b", ",a", "null,NA"))
    assert rows["text"][:] == ["None", "N/A", None, "null"]
    assert rows["label"][:] == ["a", "b", "a", "NA"]


def test_csv__a_record_with_too_many_cells_is_one_bad_row(tmp_path, transformers_log):
    lines = [f"row {n},{n % 2}" for n in range(30)]
    lines[4] = "one, two,1"
    rows = loaded(write(tmp_path / "a.csv", "text,label", *lines))
    assert len(rows) == 29
    assert "row 4: line 6 of a.csv has 3 cells, and the header has 2" in transformers_log.text


@pytest.mark.parametrize(
    ("name", "lines", "message"),
    [
        ("a.csv", ["text", '"open', "a", "b"], "a.csv' cannot be read as csv: the quote that opens in line 2 is not"),
        ("a.json", [{"version": 1, "data": [{"text": "a"}] * 5}], "the fields version, data, and the rows seem to be"),
        ("a.json", ["{", '"data": [{"text": "a"}]', "}"], "the rows seem to be the 1 objects in 'data'"),
        ("a.json", [{"text": ["a", "b"], "label": [1, 2]}], "2 lists .text, label., which seem to be columns"),
        ("a.jsonl", ['{"text": "a"},', '{"text": "b"},'], "line 1: it ends with a comma: remove the commas"),
        ("a.jsonl", ["[1, 2", "3]"], "a.jsonl' cannot be read as json"),
        ("a.json", ["[[1], [2]]"], "row 0: it is a list, and an object"),
    ],
)
def test_file__says_what_it_looks_like(tmp_path, name, lines, message):
    with pytest.raises(ValueError, match=message):
        loaded(write(tmp_path / name, *lines))


def test_csv__in_another_encoding(tmp_path):
    (tmp_path / "a.csv").write_bytes("text\nGrüße\n".encode("latin-1"))
    with pytest.raises(ValueError, match="it is not UTF-8 .*Save it as UTF-8"):
        loaded(str(tmp_path / "a.csv"))


@pytest.mark.parametrize("last", ['{"text": "cut of', '"text"', "[1]", '{"text": "a \\ud800"}'])
def test_jsonl__a_damaged_line_is_one_bad_row(tmp_path, transformers_log, last):
    file = write(tmp_path / "a.jsonl", *({"text": f"row {n}"} for n in range(LATE)), last)
    assert len(loaded(file)) == LATE
    assert f"line {LATE + 1} of a.jsonl: it " in transformers_log.text
    with pytest.raises(ValueError, match="1 of 1201 train rows are bad"):
        loaded(file, max_bad_fraction=0)
    rows = [row["text"] for row in streamed(file, LATE + 2)]
    assert rows == [f"row {n}" for n in (*range(LATE), 0, 1)]


def test_txt_and_json_lists_of_strings(tmp_path):
    assert loaded(write(tmp_path / "a.json", ["one", "two"]))["text"][:] == ["one", "two"]
    assert [row["text"] for row in streamed(write(tmp_path / "a.txt", "one", "", "two"), 2)] == ["one", "two"]


# Columns


def test_columns__taken_and_left_out_are_said(tmp_path, caplog):
    from transformers.utils import logging

    file = write(tmp_path / "a.csv", "id;body;label;note", *(f"{n};some words;{n % 2};" for n in range(9)))
    logging.enable_propagation()
    with caplog.at_level("INFO"), summarized():
        loaded(file)
    logging.disable_propagation()
    assert "a.csv' (csv, separator ';'): 'body' as text, 'label' as label; left out: id, note." in caplog.text


def test_columns__a_second_text_is_left_aside(tmp_path):
    file = write(tmp_path / "a.csv", "one,two,label", "a,b,x", "c,d,y")
    args = DataArguments(train_file=file)
    rows = read_splits(args, "text", {"text_pair": "two"})["train"]
    assert (rows["text"][:], rows["text_pair"][:]) == (["a", "c"], ["b", "d"])


@pytest.mark.parametrize(
    ("column", "ending", "expected", "kind"),
    [
        ("file", "jpg", "vision", "csv"),
        ("file_name", "PNG", "vision", "jsonl"),
        ("whatever", "wav", "speech", "parquet"),
        ("path", "flac", "speech", "csv"),
    ],
)
def test_modality__by_the_endings_of_strings(tmp_path, column, ending, expected, kind):
    rows = [{column: f"some/{n}.{ending}", "label": "ab"[n % 2]} for n in range(9)]
    if kind == "csv":
        file = write(tmp_path / "a.csv", f"{column},label", *(",".join(row.values()) for row in rows))
    elif kind == "jsonl":
        file = write(tmp_path / "a.jsonl", *rows)
    else:
        file = str(tmp_path / "a.parquet")
        Dataset.from_list(rows).to_parquet(file)
    args = DataArguments(train_file=file)
    assert infer_modality(args) == expected
    assert infer_modality(DataArguments(train_file=file, streaming=True)) == expected
    name = {"vision": "image", "speech": "audio"}[expected]
    found = load_raw_datasets(args, expected, validation=False)["train"]
    assert found[4][name] == {"bytes": None, "path": str(tmp_path / "some" / f"4.{ending}")}
    assert found.features["label"].names == ["a", "b"]


@pytest.mark.parametrize(
    ("reads", "expected"), [("pixel_values", "vision"), ("input_values", "speech"), ("input_ids", "text")]
)
def test_modality__by_the_encoder_where_the_data_leave_it_open(tmp_path, reads, expected):
    file = write(tmp_path / "a.csv", "path,text", "files/1,a dog", "files/2,a cat")
    assert infer_modality(DataArguments(train_file=file), lambda: reads) == expected
    pictures = write(tmp_path / "b.csv", "file,caption,label", "1.png,a dog,x", "2.png,a cat,y")
    assert infer_modality(DataArguments(train_file=pictures)) == "vision"
    assert infer_modality(DataArguments(train_file=pictures), lambda: "input_ids") == "text"
    assert loaded(pictures)["text"][:] == ["a dog", "a cat"]


@pytest.mark.parametrize("prefix", ["", "data:image/png;base64,"])
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_images_as_base64_text(tmp_path, kind, prefix):
    images = []
    for level in range(12):
        file = io.BytesIO()
        PIL.Image.new("L", (40, 40), level).save(file, "PNG")
        images.append(prefix + base64.b64encode(file.getvalue()).decode())
    if kind == "csv":
        path = write(tmp_path / "a.csv", "picture,label", *(f'"{text}",{n % 2}' for n, text in enumerate(images)))
    else:
        path = str(tmp_path / "a.parquet")
        Dataset.from_dict({"picture": images}).to_parquet(path)
    args = DataArguments(train_file=path)
    assert infer_modality(args) == "vision"
    rows = prepare_images(load_raw_datasets(args, "vision", validation=False)["train"], args, "train")
    assert [row["image"].getpixel((0, 0))[0] for row in rows] == list(range(12))


def test_images__errors_have_an_end(tmp_path):
    path = str(tmp_path / "a.parquet")
    Dataset.from_dict({"image": ["A" * 100_000] * 9}).to_parquet(path)
    args = DataArguments(train_file=path)
    raw = load_raw_datasets(args, "vision", validation=False)["train"]
    with pytest.raises(ValueError, match="9 of 9 train images are bad") as error:
        prepare_images(raw, args, "train")
    assert len(str(error.value)) < 3000


# Series in columns


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_series__a_column_for_each_time(tmp_path, kind):
    times = np.random.default_rng(0).normal(size=(20, 12)).round(3)
    names = [f"t{n}" for n in range(12)]
    columns: dict[str, Any] = {"id": range(20), "label": [n % 2 for n in range(20)]}
    columns |= {name: times[:, place] for place, name in reversed(list(enumerate(names)))}
    path = tmp_path / f"a.{kind}"
    getattr(Dataset.from_dict(columns), f"to_{kind}")(str(path))
    args = DataArguments(train_file=str(path))
    assert infer_modality(args) == "series"
    raw = load_raw_datasets(args, "series", validation=False)["train"]
    assert np.allclose(prepare_series(raw, args, "train", 12, 1)["series"][:][:, :, 0], times)
    assert raw["label"][:] == columns["label"]
    assert [row["series"] for row in streamed(str(path), 20, "series")] == times.tolist()


def test_series__without_a_layout_that_is_known(tmp_path):
    file = write(tmp_path / "a.csv", "time,value", "1,0.5", "2,0.7")
    with pytest.raises(ValueError, match=r"one column of lists of numbers .* or a column of numbers for each time"):
        loaded(file, modality="series")


# Folders of tables


def test_folder__what_is_read_and_left_out_is_said(tmp_path, caplog):
    from transformers.utils import logging

    folder = tmp_path / "set"
    folder.mkdir()
    for name in "ab":
        write(folder / f"{name}.csv", "text;label", f"words of {name};x", "more;y")
    write(folder / "notes.txt", "something")
    logging.enable_propagation()
    with caplog.at_level("INFO"), summarized():
        rows = read_splits(DataArguments(dataset_name=str(folder)), "text")["train"]
    logging.disable_propagation()
    assert sorted(rows["text"][:]) == ["more", "more", "words of a", "words of b"]
    assert "2 files of" in caplog.text
    assert "1 are left out (1 .txt): notes.txt" in caplog.text


def test_folder__a_damaged_line_is_one_bad_row_of_a_named_file(tmp_path, transformers_log):
    (tmp_path / "set").mkdir()
    for name in "ab":
        write(tmp_path / "set" / f"{name}.jsonl", *({"text": f"row {n}"} for n in range(20)))
    with (tmp_path / "set" / "b.jsonl").open("a") as file:
        file.write('{"text": "cut of')
    args = DataArguments(dataset_name=str(tmp_path / "set"))
    assert infer_modality(args) == "text"
    assert len(read_splits(args, "text")["train"]) == 40
    assert "line 21 of b.jsonl: it is not JSON" in transformers_log.text
    source = open_stream(DataArguments(dataset_name=str(tmp_path / "set"), streaming=True), "text", seed=0)
    assert source.rows.num_shards == 2
    assert len(source.head["train"]) == 40


def test_features__of_a_stream_are_those_of_its_rows(tmp_path):
    file = write(tmp_path / "a.csv", "text,label,spare", "a,1,x", "b,2,")
    source = open_stream(DataArguments(train_file=file, streaming=True), "text", seed=0)
    columns = {"text": Value("string"), "label": Value("string"), "problem": Value("string")}
    assert source.rows.features == Features(columns)
    assert next(source.rows.read(0)).column_names == list(columns)
