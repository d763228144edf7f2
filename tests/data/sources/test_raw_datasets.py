"""Rows of every source get canonical columns; a source that cannot be used raises an error that says why."""

import pickle

import numpy as np
import PIL.Image
import pyarrow
import pyarrow.parquet
import pytest
from datasets import ClassLabel, Dataset, Features, Image, Value

from modeling_data2vec_generic.data.arguments import DataArguments
from modeling_data2vec_generic.data.sources.columns import encode_labels
from modeling_data2vec_generic.data.sources.raw_datasets import infer_modality, load_raw_datasets, split_positions

pytestmark = pytest.mark.fast


def write_images(folder, count, size=(6, 5)):
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        PIL.Image.new("L", size, number).save(folder / f"{number}.png")


def write_text(path, lines):
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def text_csv(path, rows, header="text,label"):
    return write_text(path, [header, *rows])


# Arguments


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ({"modality": "smell"}, "modality='smell'"),
        ({"max_train_samples": 0}, "max_train_samples=0"),
        ({"max_eval_samples": -1}, "max_eval_samples=-1"),
        ({"preprocessing_num_workers": 0}, "preprocessing_num_workers=0"),
        ({"validation_split_percentage": 100}, "validation_split_percentage=100"),
        ({"max_bad_fraction": 1.5}, "max_bad_fraction=1.5"),
        ({"check_data": True, "streaming": True}, "check_data looks through all rows"),
        ({"crop_scale_min": 0.0}, "crop_scale_min=0.0"),
        ({"min_duration_in_seconds": 30.0}, "min_duration_in_seconds=30.0"),
    ],
)
def test_arguments__out_of_range_names_field_and_value(flags, named):
    with pytest.raises(ValueError, match=named):
        DataArguments(**flags)


def test_source__none_lists_the_flags():
    with pytest.raises(ValueError, match="--dataset_name, --train_file, --train_dir"):
        load_raw_datasets(DataArguments(), "text")


def test_source__two_are_refused():
    with pytest.raises(ValueError, match="dataset_name='digits' and train_dir='x'"):
        load_raw_datasets(DataArguments(dataset_name="digits", train_dir="x"), "vision")


# Built-in data


def test_digits__split_evenly_with_labels():
    raw = load_raw_datasets(DataArguments(dataset_name="digits"), "vision")
    assert {split: len(rows) for split, rows in raw.items()} == {"train": 1437, "validation": 360}
    assert raw["train"].features["label"].names == [str(digit) for digit in range(10)]
    counts = np.bincount(raw["validation"]["label"][:])
    assert counts.min() >= 34
    assert counts.max() <= 37


def test_python_docs__prose_without_blank_rows_split_by_topic():
    raw = load_raw_datasets(DataArguments(dataset_name="python_docs"), "text")
    train, validation = raw["train"]["text"][:], raw["validation"]["text"][:]
    assert sum(map(len, train)) > 5 * sum(map(len, validation)) > 50_000
    assert all(any(character.isalpha() for character in text) for text in train + validation)


# Folders


def test_folder__class_subfolders_become_labels_even_if_named_like_splits(tmp_path):
    root = tmp_path / "odd [name] *"
    write_images(root / "cat", 3)
    write_images(root / "test", 2)
    raw = load_raw_datasets(DataArguments(train_dir=str(root), validation_split_percentage=0), "vision")
    assert list(raw) == ["train"]
    assert raw["train"].features["label"].names == ["cat", "test"]
    assert raw["train"]["label"][:] == [0, 0, 0, 1, 1]
    assert raw["train"]["sample_index"][:] == [0, 1, 2, 3, 4]
    assert raw["train"][3]["image"] == {"bytes": None, "path": str(root / "test" / "0.png")}


@pytest.mark.parametrize("folders", [["."], ["a", "."], ["a/b", "c"], ["only"]])
def test_folder__otherwise_no_labels(tmp_path, folders):
    for folder in folders:
        write_images(tmp_path / "root" / folder, 2)
    raw = load_raw_datasets(DataArguments(train_dir=str(tmp_path / "root")), "vision", validation=False)
    assert raw["train"].column_names == ["image", "sample_index"]
    assert len(raw["train"]) == 2 * len(folders)


def test_folder__hidden_and_other_files_are_no_images(tmp_path):
    write_images(tmp_path / "root", 2)
    (tmp_path / "root" / "._0.png").write_bytes(b"resource fork")
    (tmp_path / "root" / "list.csv").write_text("a,b")
    raw = load_raw_datasets(DataArguments(train_dir=str(tmp_path / "root")), "vision", validation=False)
    assert len(raw["train"]) == 2


def test_folder__without_images_or_sound_lists_what_it_holds(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    args = DataArguments(train_dir=str(tmp_path))
    for call in (lambda: infer_modality(args), lambda: load_raw_datasets(args, "vision")):
        with pytest.raises(ValueError, match=r"holds no images.* It holds: 1 \.txt"):
            call()
    with pytest.raises(ValueError, match=r"holds no sound .*\.wav.* It holds: 1 \.txt"):
        load_raw_datasets(args, "speech")


def test_folder__empty_or_absent(tmp_path):
    with pytest.raises(ValueError, match="holds no images.*no files at all"):
        load_raw_datasets(DataArguments(train_dir=str(tmp_path)), "vision")
    with pytest.raises(ValueError, match="train_dir='.*absent' is not a folder"):
        load_raw_datasets(DataArguments(train_dir=str(tmp_path / "absent")), "vision")


def test_folder__text_is_refused(tmp_path):
    with pytest.raises(ValueError, match="not with modality='text'"):
        load_raw_datasets(DataArguments(train_dir=str(tmp_path)), "text")


def test_folder__validation_classes_are_numbered_as_in_training(tmp_path):
    for name in "abc":
        write_images(tmp_path / "train" / name, 2)
    write_images(tmp_path / "deeper" / "validation" / "c", 2)
    args = DataArguments(train_dir=str(tmp_path / "train"), validation_dir=str(tmp_path / "deeper" / "validation"))
    raw = load_raw_datasets(args, "vision")
    assert raw["validation"]["label"][:] == [2, 2]
    write_images(tmp_path / "deeper" / "validation" / "z", 1)
    with pytest.raises(ValueError, match=r"validation data have 1 classes that the training data lack \(z\)"):
        load_raw_datasets(args, "vision")


def test_folder__a_changed_file_is_seen(tmp_path):
    write_images(tmp_path / "root", 2)
    args = DataArguments(train_dir=str(tmp_path / "root"))
    assert len(load_raw_datasets(args, "vision", validation=False)["train"]) == 2
    write_images(tmp_path / "root", 3)
    assert len(load_raw_datasets(args, "vision", validation=False)["train"]) == 3


# Files


@pytest.mark.parametrize("suffix", ["csv", "json", "jsonl", "parquet", "txt"])
def test_file__every_kind_gives_the_same_text(tmp_path, suffix):
    rows = Dataset.from_dict({"text": ["first row", "second row", "third"]})
    path = tmp_path / f"odd [1] name.{suffix}"
    if suffix == "csv":
        rows.to_csv(path)
    elif suffix == "parquet":
        rows.to_parquet(path)
    elif suffix == "txt":
        write_text(path, rows["text"][:])
    else:
        rows.to_json(path, lines=suffix == "jsonl")
    args = DataArguments(train_file=str(path))
    assert infer_modality(args) == "text"
    raw = load_raw_datasets(args, "text", validation=False)
    assert raw["train"].column_names == ["text", "sample_index"]
    assert raw["train"]["text"][:] == ["first row", "second row", "third"]


def test_file__empty_lines_of_text_part_paragraphs(tmp_path):
    args = DataArguments(train_file=write_text(tmp_path / "a.txt", ["one", "", "  ", "two"]))
    assert load_raw_datasets(args, "text", validation=False)["train"]["text"][:] == ["one", "two"]


def test_file__only_empty_lines(tmp_path):
    args = DataArguments(train_file=write_text(tmp_path / "a.txt", ["", "   ", ""]))
    with pytest.raises(ValueError, match="holds no text: all of its 3 lines are empty"):
        load_raw_datasets(args, "text")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", r"train_file='.*a\.csv' is empty \(0 bytes\)"),
        ("a.csv", b"text,label\n", r"train_file='.*a\.csv' has no rows"),
        ("a.jsonl", b"no json", r"train_file='.*a\.jsonl' cannot be read as json"),
        ("a.parquet", b"no parquet", r"train_file='.*a\.parquet' cannot be read as parquet"),
        ("a.txt", b"\xff\xfe\xfa", r"train_file='.*a\.txt' cannot be read as text"),
        ("a.xlsx", b"x", r"has an unknown extension: expected one of \.csv, \.tsv, \.json, \.jsonl, \.txt, \.parquet"),
    ],
)
def test_file__unusable(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_raw_datasets(DataArguments(train_file=str(tmp_path / name)), "text")


def test_file__absent(tmp_path):
    with pytest.raises(ValueError, match="is not a file"):
        load_raw_datasets(DataArguments(train_file=str(tmp_path / "a.csv")), "text")


# Hub-style datasets


def test_hub_style__local_folder_with_its_own_validation_split(tmp_path):
    for split, count in (("train", 4), ("test", 2)):
        Dataset.from_dict({"text": ["a b"] * count}).to_parquet(tmp_path / "set" / f"{split}.parquet")
    raw = load_raw_datasets(DataArguments(dataset_name=str(tmp_path / "set")), "text")
    assert {split: len(rows) for split, rows in raw.items()} == {"train": 4, "validation": 2}


def test_hub_style__without_training_split_lists_the_splits(tmp_path):
    Dataset.from_dict({"text": ["a b"]}).to_parquet(tmp_path / "set" / "test.parquet")
    with pytest.raises(ValueError, match="no split 'train'. There are: test"):
        load_raw_datasets(DataArguments(dataset_name=str(tmp_path / "set")), "text")


def test_hub_style__without_rows(tmp_path):
    Dataset.from_dict({"text": []}).to_parquet(tmp_path / "set" / "train.parquet")
    with pytest.raises(ValueError, match="dataset_name='.*set' has no rows. Give a file with data"):
        load_raw_datasets(DataArguments(dataset_name=str(tmp_path / "set")), "text")


def test_validation_file__precedes_the_source_s_own_split(tmp_path):
    for split in ("train", "test"):
        Dataset.from_dict({"text": ["a b"] * 2}).to_parquet(tmp_path / "set" / f"{split}.parquet")
    validation = write_text(tmp_path / "v.txt", ["mine"])
    raw = load_raw_datasets(DataArguments(dataset_name=str(tmp_path / "set"), validation_file=validation), "text")
    assert raw["validation"]["text"][:] == ["mine"]


# Columns


@pytest.mark.parametrize("flag", ["text_column_name", "label_column_name"])
def test_column__missing_lists_those_there_are(tmp_path, flag):
    args = DataArguments(train_file=text_csv(tmp_path / "a.csv", ["hello,x", "you,y"]), **{flag: "body"})
    with pytest.raises(ValueError, match=f"{flag}='body' is not a column of the train data. There are: text, label"):
        load_raw_datasets(args, "text")


def test_column__missing_in_validation_only(tmp_path):
    train = text_csv(tmp_path / "a.csv", ["hello", "you"], header="body")
    validation = text_csv(tmp_path / "b.csv", ["hello", "you"], header="other")
    args = DataArguments(train_file=train, validation_file=validation, text_column_name="body")
    with pytest.raises(ValueError, match="not a column of the validation data. There are: other"):
        load_raw_datasets(args, "text")


def test_column__ambiguous_or_none_asks_for_the_flag(tmp_path):
    args = DataArguments(train_file=text_csv(tmp_path / "a.csv", ["a,b"], header="title,body"))
    with pytest.raises(ValueError, match="2 that hold text. Name the column with --text_column_name; .*title, body"):
        load_raw_datasets(args, "text")
    with pytest.raises(ValueError, match="no column 'image' and none that holds vision.*--image_column_name"):
        load_raw_datasets(args, "vision")


def test_column__only_one_of_its_type_is_taken_and_renamed(tmp_path):
    args = DataArguments(train_file=text_csv(tmp_path / "a.csv", ["1,hello", "2,you"], header="number,body"))
    assert load_raw_datasets(args, "text", validation=False)["train"]["text"][:] == ["hello", "you"]


@pytest.mark.parametrize(("modality", "flag"), [("text", "text_column_name"), ("vision", "image_column_name")])
def test_column__of_the_wrong_type_names_it(tmp_path, modality, flag):
    path = str(tmp_path / "a.parquet")  # in a csv file numbers may be text
    Dataset.from_dict({"number": [1, 2], "body": ["hello", "you"]}).to_parquet(path)
    with pytest.raises(ValueError, match=rf"{flag}='number' holds Value\('int64'\)"):
        load_raw_datasets(DataArguments(train_file=path, **{flag: "number"}), modality)


def test_column__plain_bytes_and_paths_are_images(tmp_path):
    write_images(tmp_path, 1)
    path = str(tmp_path / "0.png")
    with open(path, "rb") as file:
        rows = Dataset.from_dict({"bytes": [file.read()], "path": [path]})
    rows.to_parquet(tmp_path / "a.parquet")
    for column in ("bytes", "path"):
        args = DataArguments(train_file=str(tmp_path / "a.parquet"), image_column_name=column)
        raw = load_raw_datasets(args, infer_modality(args), validation=False)
        assert raw["train"][0]["image"][column] == rows[0][column]


# Labels


@pytest.mark.parametrize(
    ("train", "validation", "names", "expected"),
    [
        (["b", "a", "c"], ["c", "b"], ["a", "b", "c"], ([1, 0, 2], [2, 1])),
        ([10, 9, 10], [9], ["9", "10"], ([1, 0, 1], [0])),
    ],
)
def test_labels__numbered_alike_in_both_splits(tmp_path, train, validation, names, expected):
    files = [
        text_csv(tmp_path / f"{split}.csv", [f"some text,{label}" for label in labels])
        for split, labels in (("train", train), ("validation", validation))
    ]
    raw = load_raw_datasets(DataArguments(train_file=files[0], validation_file=files[1]), "text")
    assert raw["train"].features["label"] == raw["validation"].features["label"] == ClassLabel(names=names)
    assert (raw["train"]["label"][:], raw["validation"]["label"][:]) == expected


def test_labels__class_names_of_the_source_keep_their_numbers(tmp_path):
    features = Features({"text": Value("string"), "kind": ClassLabel(names=["z", "unused", "a"])})
    Dataset.from_dict({"text": ["x", "y"], "kind": [2, 0]}, features=features).to_parquet(tmp_path / "a.parquet")
    args = DataArguments(train_file=str(tmp_path / "a.parquet"), label_column_name="kind")
    train = load_raw_datasets(args, "text", validation=False)["train"]
    assert train.features["label"].names == ["z", "unused", "a"]
    assert train["label"][:] == [2, 0]


def test_labels__unseen_in_training(tmp_path):
    train = text_csv(tmp_path / "a.csv", ["t,a", "t,b"])
    validation = text_csv(tmp_path / "b.csv", ["t,a", "t,new"])
    with pytest.raises(ValueError, match=r"1 classes that the training data lack \(new\).*training has 2: a, b"):
        load_raw_datasets(DataArguments(train_file=train, validation_file=validation), "text")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["t,0.5", "t,0.7"], r"holds Value\('float64'\), not classes"),
        (["t,a", "t,"], "1 of 2 train rows have no label"),
    ],
)
def test_labels__unusable_is_an_error_if_named_and_a_warning_if_not(tmp_path, transformers_log, rows, message):
    path = text_csv(tmp_path / "a.csv", rows)
    with pytest.raises(ValueError, match=message):
        load_raw_datasets(DataArguments(train_file=path, label_column_name="label"), "text", validation=False)
    raw = load_raw_datasets(DataArguments(train_file=path), "text", validation=False)
    assert raw["train"].column_names == ["text", "sample_index"]
    assert "Labels are left out" in transformers_log.text


def test_labels__in_one_split_only_are_left_out(tmp_path, transformers_log):
    train = text_csv(tmp_path / "a.csv", ["t,a", "t,b"])
    validation = write_text(tmp_path / "b.txt", ["t"])
    raw = load_raw_datasets(DataArguments(train_file=train, validation_file=validation), "text")
    assert "label" not in raw["train"].features
    assert "validation data have no label column" in transformers_log.text


# Splits and limits


def test_split__each_class_gives_its_share():
    labels = np.repeat([0, 1], [900, 100])
    train, held_out = split_positions(1000, labels, 0.1, in_order=False)
    assert np.bincount(labels[held_out]).tolist() == [90, 10]
    assert sorted([*train, *held_out]) == list(range(1000))


def test_split__prose_gives_its_end_in_one_piece(tmp_path):
    args = DataArguments(train_file=write_text(tmp_path / "a.txt", [f"line {n}" for n in range(40)]))
    raw = load_raw_datasets(args, "text")
    assert raw["validation"]["text"][:] == ["line 38", "line 39"]
    assert raw["train"]["sample_index"][:] == list(range(38))


def test_split__only_if_wanted(tmp_path):
    path = write_text(tmp_path / "a.txt", [f"line {n}" for n in range(40)])
    assert list(load_raw_datasets(DataArguments(train_file=path), "text", validation=False)) == ["train"]
    assert list(load_raw_datasets(DataArguments(train_file=path, validation_split_percentage=0), "text")) == ["train"]


def test_split__one_row_is_too_few(tmp_path):
    with pytest.raises(ValueError, match="have one row, too few"):
        load_raw_datasets(DataArguments(train_file=write_text(tmp_path / "a.txt", ["line"])), "text")


def test_limits__choose_rows_of_every_class_of_a_sorted_source():
    args = DataArguments(dataset_name="digits", max_train_samples=200, max_eval_samples=50)
    raw = load_raw_datasets(args, "vision")
    assert (len(raw["train"]), len(raw["validation"])) == (200, 50)
    again = load_raw_datasets(args, "vision")
    assert raw["train"]["sample_index"][:] == again["train"]["sample_index"][:]
    assert raw["train"]["sample_index"][:] != list(range(200))


# Modality


def test_modality__inferred_from_the_source(tmp_path):
    write_images(tmp_path / "images", 1)
    (tmp_path / "sounds").mkdir()
    (tmp_path / "sounds" / "a.ogg").write_bytes(b"")
    captioned = Features({"picture": Image(), "caption": Value("string")})
    Dataset.from_dict(
        {"picture": [str(tmp_path / "images" / "0.png")], "caption": ["x"]}, features=captioned
    ).to_parquet(tmp_path / "a.parquet")
    for flags, expected in (
        ({"dataset_name": "digits"}, "vision"),
        ({"dataset_name": "python_docs"}, "text"),
        ({"train_dir": str(tmp_path / "images")}, "vision"),
        ({"train_dir": str(tmp_path / "sounds")}, "speech"),
        ({"train_file": str(tmp_path / "a.parquet")}, "vision"),
        ({"train_file": str(tmp_path / "a.parquet"), "validation_dir": str(tmp_path / "images")}, "vision"),
        ({"train_file": str(tmp_path / "a.parquet"), "text_column_name": "caption"}, "text"),
        ({"train_file": str(tmp_path / "a.parquet"), "modality": "text"}, "text"),
    ):
        assert infer_modality(DataArguments(**flags)) == expected


def test_modality__unclear_asks_for_the_flag(tmp_path):
    write_images(tmp_path / "both", 1)
    (tmp_path / "both" / "a.wav").write_bytes(b"")
    with pytest.raises(ValueError, match="hold vision and speech: say which to use with --modality"):
        infer_modality(DataArguments(train_dir=str(tmp_path / "both")))
    path = text_csv(tmp_path / "a.csv", ["1", "2"], header="number")
    with pytest.raises(ValueError, match="hold no known modality"):
        infer_modality(DataArguments(train_file=path))


def test_raw_datasets__can_be_pickled_for_workers():
    raw = load_raw_datasets(DataArguments(dataset_name="digits", max_train_samples=5), "vision")
    assert pickle.loads(pickle.dumps(raw["train"]))[:] == raw["train"][:]


# --- malicious input


def test_load__strings_that_are_not_utf8_are_refused(tmp_path):
    offsets = pyarrow.py_buffer(np.array([0, 2, 4], dtype=np.int32).tobytes())
    strings = pyarrow.Array.from_buffers(pyarrow.string(), 2, [None, offsets, pyarrow.py_buffer(b"ok\xff\xfe")])
    pyarrow.parquet.write_table(pyarrow.table({"text": strings}), tmp_path / "rows.parquet")
    with pytest.raises(ValueError, match=r"cannot be read as parquet: .*Invalid UTF8 .* have to be UTF-8"):
        load_raw_datasets(DataArguments(train_file=str(tmp_path / "rows.parquet")), "text")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", b'{"text": "a \\ud800 b"}\n{"text": "c"}\n'),
        ("a.jsonl", b'{"text": "a \xff b"}\n'),
        ("a.jsonl", b'{"text":' * 50_000),
        ("a.json", b"[" * 100_000),
        ("a.json", b'[{"text": "a\0b"}]'),
        ("a.json", b'"text"'),
        ("a.csv", b'text\n"a\nb'),
        ("a.csv", "text\na\n".encode("utf-16")),
        ("a.txt", b"a \xff b\n"),
        ("a.parquet", b"PAR1\xff\xff\xff\x7fPAR1"),
        ("a.fasta", b">a\n\xff\xfe\n"),
        ("a.fasta.gz", b">a\nACD\n"),
    ],
)
def test_load__damaged_files_are_refused_by_name(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    args = DataArguments(train_file=str(tmp_path / name), text_column_name="text")
    with pytest.raises(ValueError, match="cannot be read as"):
        load_raw_datasets(args, "text")


def test_load__a_byte_order_mark_is_no_part_of_a_columns_name(tmp_path):
    (tmp_path / "a.csv").write_bytes("\ufefftext,label\na b,1\nc d,2\n".encode())
    rows = load_raw_datasets(DataArguments(train_file=str(tmp_path / "a.csv")), "text", validation=False)["train"]
    assert rows["text"][:] == ["a b", "c d"]


def of_labels(labels, feature=None):
    features = Features({"text": Value("string"), "label": feature}) if feature else None
    return Dataset.from_dict({"text": ["a"] * len(labels), "label": labels}, features=features)


@pytest.mark.parametrize(
    ("labels", "why"),
    [
        ([1.0, 2.0, 2.5], "holds Value.'float64'., not classes"),
        ([1, None, 2], "1 of 3 train rows have no label"),
        ([[1], [2], [3]], "not classes"),
        (list(range(100_001)), "100001 different values, more than 100000: it seems to name rows"),
    ],
)
def test_labels__that_are_no_classes(labels, why, transformers_log):
    with pytest.raises(ValueError, match=why):
        encode_labels({"train": of_labels(labels)}, DataArguments(train_file="x", label_column_name="label"))
    assert "label" not in encode_labels({"train": of_labels(labels)}, DataArguments(train_file="x"))["train"].features
    assert "Labels are left out, and so is the probe" in transformers_log.text


def test_labels__beyond_the_classes_of_their_type():
    rows = of_labels([0, 1, 99])
    rows.info.features["label"] = ClassLabel(names=["a", "b", "c"])
    with pytest.raises(ValueError, match="holds 99, and its type has 3 classes"):
        encode_labels({"train": rows}, DataArguments(train_file="x", label_column_name="label"))


def test_labels__negative_numbers_are_classes_in_their_order():
    encoded = encode_labels({"train": of_labels([5, -2, -1])}, DataArguments(train_file="x"))["train"]
    assert encoded["label"][:] == [2, 0, 1]
    assert encoded.features["label"].names == ["-2", "-1", "5"]
