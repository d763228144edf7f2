"""Folders of images, sound and clips: which files are read, as which split and class, and what is left out."""

import io
import json

import numpy as np
import PIL.Image
import pytest
import soundfile

from modeling_data2vec_generic.data.arguments import DataArguments
from modeling_data2vec_generic.data.folders.loading import load_folder
from modeling_data2vec_generic.data.sources.raw_datasets import infer_modality, load_raw_datasets, read_splits
from modeling_data2vec_generic.data.sources.streamed_source import open_stream
from modeling_data2vec_generic.modalities.vision.images import prepare_images

pytestmark = pytest.mark.fast


def encoded(kind="PNG"):
    stream = io.BytesIO()
    if kind == "WAV":
        soundfile.write(stream, np.zeros(800), 8000, format="WAV")
    else:
        PIL.Image.new("RGB", (6, 5)).save(stream, kind)
    return stream.getvalue()


def write(root, *paths, content=None):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(encoded() if content is None else content)
    return str(root)


def numbered(folder, count, ending=".png"):
    return [f"{folder}/{number}{ending}" for number in range(count)]


@pytest.fixture
def notes(monkeypatch):
    """The sentences that are noted in the summary."""
    found = []
    for module in ("listing", "loading", "metadata", "splits_and_classes", "tables"):
        monkeypatch.setattr(
            f"modeling_data2vec_generic.data.folders.{module}.note",
            lambda split, text: found.append(f"{split}: {text}"),
        )
    return found


def names(rows, root, column="image"):
    return [path.removeprefix(f"{root}/") for path in rows[column][:]]


# Which files are data


def test_files__of_every_ending_that_pillow_reads_are_images(tmp_path, notes):
    root = write(tmp_path / "r", "a.jfif", "b.JPE", "c.j2k", "d.pnm", "e.apng", "f.JPG")
    assert len(load_folder(root, "train_dir", "vision")["train"]) == 6
    assert not any("left out" in note for note in notes)


def test_files__without_an_extension_are_recognised_by_their_content(tmp_path, notes):
    root = write(tmp_path / "r", "picture", "another", "LICENSE")
    write(tmp_path / "r", "sound", content=encoded("WAV"))
    (tmp_path / "r" / "LICENSE").write_text("Copyright")
    (tmp_path / "r" / "nothing").touch()
    assert names(load_folder(root, "train_dir", "vision")["train"], root) == ["another", "picture"]
    assert names(load_folder(root, "train_dir", "speech")["train"], root, "audio") == ["sound"]
    assert notes[0] == "train: 2 files of images: 2 without an extension."
    assert "train: 3 other files are left out: 3 without an extension." in notes
    (tmp_path / "r" / "sound").unlink()
    assert infer_modality(DataArguments(train_dir=root)) == "vision"


def test_files__that_are_left_out_are_counted_by_ending(tmp_path, notes):
    root = write(tmp_path / "r", *numbered("a", 2), "x.heic", "y.HEIC", "z.zip")
    load_folder(root, "train_dir", "vision")
    (said,) = [note for note in notes if "other files" in note]
    assert said.startswith("train: 3 other files are left out: 2 .heic, 1 .zip.")
    assert "convert it to JPEG" in said
    assert "--dataset_name" in said


def test_files__of_many_other_kinds_are_counted_briefly(tmp_path, notes):
    root = write(tmp_path / "r", "a.png", *(f"x.{number}" for number in range(9)))
    load_folder(root, "train_dir", "vision")
    (said,) = [note for note in notes if "other files" in note]
    assert said.endswith("and 4 more kinds.")


def test_files__of_file_servers_are_no_data_and_take_no_labels_away(tmp_path, notes):
    root = write(tmp_path / "r", *numbered("cat", 3), *numbered("dog", 3))
    thumbnails = ("cat/@eaDir/0.png/SYNOPHOTO_THUMB_M.png", ".thumbnails/0.png", "__MACOSX/cat/0.png", "cat/._0.png")
    write(tmp_path / "r", *thumbnails, "dog/Thumbs.db", "dog/._1.png")
    rows = load_folder(root, "train_dir", "vision")["train"]
    assert names(rows, root) == [*numbered("cat", 3), *numbered("dog", 3)]
    assert rows["label"][:] == ["cat"] * 3 + ["dog"] * 3
    (said,) = [note for note in notes if "no data" in note]
    for name in ("2 ._ files", "1 @eaDir", "1 .thumbnails", "1 __MACOSX", "1 Thumbs.db"):
        assert name in said


# Classes


@pytest.mark.parametrize("stray", ["cover.png", "cat/old/1.png"])
def test_classes__a_stray_file_is_left_out_and_named(stray, tmp_path, notes):
    root = write(tmp_path / "r", *numbered("cat", 10), *numbered("dog", 10), stray)
    rows = load_folder(root, "train_dir", "vision")["train"]
    assert sorted(set(rows["label"][:])) == ["cat", "dog"]
    assert len(rows) == 20
    assert f"train: 1 images are not in the folder of a class and are left out: {stray}." in notes


def test_classes__many_files_elsewhere_are_kept_without_classes_unless_these_are_wanted(tmp_path, notes):
    root = write(tmp_path / "r", *numbered("cat", 3), *numbered("dog", 3), "a.png", "b.png")
    rows = load_folder(root, "train_dir", "vision")["train"]
    assert (len(rows), rows.column_names) == (8, ["image"])
    assert "2 of 8 images are not exactly one folder deep (a.png, b.png)" in notes[-1]
    wanted = load_folder(root, "train_dir", "vision", labels_wanted=True)["train"]
    assert (len(wanted), set(wanted["label"][:])) == (6, {"cat", "dog"})


def test_classes__that_are_wanted_and_missing_say_what_to_do(tmp_path):
    root = write(tmp_path / "r", *numbered(".", 3))
    with pytest.raises(ValueError, match=r"gives no labels: the images are not in one folder.*metadata\.csv"):
        read_splits(DataArguments(train_dir=root, label_column_name="label"), "vision")


# Splits


def test_splits__are_no_classes(tmp_path, notes):
    root = write(tmp_path / "r", *numbered("train", 4), *numbered("test", 2))
    raw = load_raw_datasets(DataArguments(train_dir=root), "vision")
    for split, files in (("train", numbered("train", 4)), ("validation", numbered("test", 2))):
        assert [row["image"]["path"] for row in raw[split]] == [f"{root}/{file}" for file in files]
    assert "label" not in raw["train"].features
    assert notes[1].startswith("train: Folders named after splits are read as splits, not as classes: ")
    assert notes[1].endswith(": 2 images in test, 4 images in train.")
    assert "train: test is used as validation data." in notes


@pytest.mark.parametrize(
    ("train", "validation"),
    [
        ("train/{}", "val/{}"),
        ("Train/{}", "valid/{}"),
        ("training/{}", "dev/{}"),
        ("data/train/{}", "data/validation/{}"),
        ("{}/train", "{}/test"),
        ("train2017/{}", "val2017/{}"),
        ("train-clean/{}", "dev-clean/{}"),
    ],
)
def test_splits__however_called_have_the_classes_within(train, validation, tmp_path):
    files = [path for name in ("cat", "dog") for path in numbered(train.format(name), 3)]
    held_out = [path for name in ("cat", "dog") for path in numbered(validation.format(name), 2)]
    root = write(tmp_path / "r", *files, *held_out)
    raw = load_raw_datasets(DataArguments(train_dir=root), "vision")
    assert [len(raw["train"]), len(raw["validation"])] == [6, 4]
    assert raw["train"].features["label"].names == ["cat", "dog"]
    assert raw["validation"]["label"][:] == [0, 0, 1, 1]
    alone = load_raw_datasets(DataArguments(train_dir=root, validation_dir=root), "vision")
    assert alone["validation"]["label"][:] == [0, 0, 1, 1]


def test_splits__test_is_not_read_beside_validation_and_strays_are_left_out(tmp_path, notes):
    root = write(tmp_path / "r", *numbered("train/a", 3), *numbered("train/b", 3), *numbered("val/a", 2))
    write(tmp_path / "r", *numbered("test/a", 5), "cover.png")
    splits = load_folder(root, "train_dir", "vision")
    assert {split: len(rows) for split, rows in splits.items()} == {"train": 6, "validation": 2}
    assert "train: test is not read." in notes
    assert "train: 1 images outside of these folders are left out: cover.png." in notes


@pytest.mark.parametrize("test", ["test", "test/unknown"])
def test_splits__without_the_classes_of_training_do_not_take_these_away(test, tmp_path, notes):
    root = write(tmp_path / "r", *numbered("train/a", 3), *numbered("train/b", 3), *numbered(test, 4))
    for flags in ({}, {"label_column_name": "label"}):
        splits = read_splits(DataArguments(train_dir=root, **flags), "vision")
        assert list(splits) == ["train"]
        assert set(splits["train"]["label"][:]) == {"a", "b"}
    assert "train: The folder's validation data are not used: they share no class with the training data." in notes


def test_splits__without_metadata_are_left_out_beside_one_with_metadata(tmp_path, notes):
    root = write(tmp_path / "r", *numbered("train", 4), *numbered("test", 4))
    metadata(tmp_path / "r" / "train", [{"file_name": f"{i}.png", "label": i % 2} for i in range(4)])
    splits = load_folder(root, "train_dir", "vision")
    assert {split: rows["label"][:] for split, rows in splits.items()} == {"train": [0, 1, 0, 1]}
    assert any("4 images without a row in the metadata file are left out" in note for note in notes)


@pytest.mark.parametrize("classes", [("bus", "car", "train"), ("cat", "test"), ("train_station", "test_tube", "x")])
def test_splits__classes_among_others_may_be_called_so(classes, tmp_path):
    root = write(tmp_path / "r", *(path for name in classes for path in numbered(name, 3)))
    assert set(load_folder(root, "train_dir", "vision")["train"]["label"][:]) == set(classes)


def test_splits__without_one_for_training_are_refused(tmp_path):
    root = write(tmp_path / "r", *numbered("val", 2), *numbered("test", 2))
    with pytest.raises(ValueError, match=r"2 images in test, 2 images in val.* none of them is train"):
        load_raw_datasets(DataArguments(train_dir=root), "vision")


def test_splits__are_streamed_too(tmp_path):
    root = write(tmp_path / "r", *numbered("train", 4), *numbered("test", 2))
    source = open_stream(DataArguments(train_dir=root, streaming=True), "vision", seed=0)
    assert {split: len(rows) for split, rows in source.head.items()} == {"train": 4, "validation": 2}


def test_splits__of_clips(tmp_path):
    root = tmp_path / "r"
    for split, count in (("train", 2), ("val", 1)):
        write(root, *(path for clip in range(count) for path in numbered(f"{split}/run/{clip}", 2)))
    splits = load_folder(str(root), "train_dir", "video")
    assert [len(splits["train"]), len(splits["validation"])] == [2, 1]
    assert splits["train"]["label"][:] == ["run"] * 2


# Metadata


def metadata(root, rows, name="metadata.csv"):
    if name.endswith("csv"):
        text = "\n".join([",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)])
    else:
        text = "\n".join(map(json.dumps, rows))
    (root / name).write_text(text + "\n")


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl"])
def test_metadata__give_labels_and_further_columns(name, tmp_path, notes):
    root = write(tmp_path / "r", *numbered("a", 4))
    metadata(
        tmp_path / "r", [{"file_name": f"a/{i}.png", "label": "xy"[i % 2], "note": f"n{i}"} for i in range(4)], name
    )
    rows = load_folder(root, "train_dir", "vision")["train"]
    assert (names(rows, root), rows["label"][:]) == (numbered("a", 4), ["x", "y", "x", "y"])
    assert rows["note"][:] == ["n0", "n1", "n2", "n3"]
    taken = f"{name} (column 'file_name', relative to its folder), with label, note"
    assert notes[1:] == [f"train: 4 images are named by {taken}."]
    raw = load_raw_datasets(DataArguments(train_dir=root, label_column_name="label"), "vision", validation=False)
    assert raw["train"].features["label"].names == ["x", "y"]


def test_metadata__of_each_split_gives_transcripts(tmp_path):
    root = tmp_path / "r"
    for split, count in (("train", 3), ("test", 2)):
        write(root, *numbered(split, count, ".wav"), content=encoded("WAV"))
        metadata(root / split, [{"file_name": f"{i}.wav", "text": f"{split} {i}"} for i in range(count)])
    splits = read_splits(DataArguments(train_dir=str(root), label_column_name="text"), "speech")
    assert splits["train"]["label"][:] == ["train 0", "train 1", "train 2"]
    assert splits["validation"]["label"][:] == ["test 0", "test 1"]


def test_metadata__a_file_that_is_missing_is_a_bad_row_and_one_without_a_row_is_left_out(
    tmp_path, notes, transformers_log
):
    root = write(tmp_path / "r", *numbered(".", 20), "extra.png")
    metadata(tmp_path / "r", [{"file_name": f"{i}.png", "label": i % 2} for i in range(21)])
    args = DataArguments(train_dir=root)
    raw = load_raw_datasets(args, "vision", validation=False)
    assert len(prepare_images(raw["train"], args, "train")) == 20
    assert "20.png: ValueError: there is no such file" in transformers_log.text
    assert "train: 1 images without a row in the metadata file are left out: extra.png." in notes


def test_metadata__on_a_part_of_the_images_are_used_where_labels_are_wanted(tmp_path, notes):
    root = write(tmp_path / "r", *numbered(".", 20))
    metadata(tmp_path / "r", [{"file_name": f"{i}.png", "label": i % 2} for i in range(5)])
    assert len(load_folder(root, "train_dir", "vision", labels_wanted=True)["train"]) == 5
    assert load_folder(root, "train_dir", "vision")["train"].column_names == ["image"]
    assert "it has no row for 15 of 20 images" in " ".join(notes)


def test_metadata__with_different_columns_are_refused(tmp_path):
    root = write(tmp_path / "r", *numbered("a", 1), *numbered("b", 1))
    metadata(tmp_path / "r" / "a", [{"file_name": "0.png", "label": "x"}])
    metadata(tmp_path / "r" / "b", [{"file_name": "0.png", "kind": "x"}])
    with pytest.raises(ValueError, match=r"different columns \(.*a/metadata.csv: .*label.*; .*b/metadata.csv: .*kind"):
        load_folder(root, "train_dir", "vision")
