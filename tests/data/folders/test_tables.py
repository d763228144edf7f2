"""Tables in and beside folders: which one names the files, in which column, and relative to which folder."""

import pytest
from datasets import Dataset

from modeling_data2vec_generic.data.folders.loading import load_folder

from .test_loading import encoded, metadata, names, numbered, write

pytestmark = pytest.mark.fast


def table(place, column, files, **columns):
    """Writes a table with the names of files, by default with a label for each."""
    rows = Dataset.from_dict({column: files} | (columns or {"label": [f"c{i % 2}" for i in range(len(files))]}))
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.suffix == ".parquet":
        rows.to_parquet(place)
    elif place.suffix == ".jsonl":
        rows.to_json(place)
    else:
        rows.to_csv(place, sep="\t" if place.suffix == ".tsv" else ",", index=False)


@pytest.mark.parametrize(
    ("place", "column"),
    [
        ("labels.csv", "image"),
        ("anything.tsv", "filename"),
        ("list.jsonl", "path"),
        ("list.parquet", "file_path"),
        ("metadata.tsv", "filepath"),
        ("../r.csv", "file"),
    ],
)
def test_table__of_any_name_and_format_names_the_files(place, column, tmp_path):
    root = write(tmp_path / "r", *numbered("a", 3))
    table(tmp_path / "r" / place, column, [f"a/{i}.png" for i in (2, 0, 1)])
    rows = load_folder(root, "train_dir", "vision")["train"]
    assert names(rows, root) == ["a/2.png", "a/0.png", "a/1.png"]
    assert rows["label"][:] == ["c0", "c1", "c0"]


@pytest.mark.parametrize("place", ["r/labels.csv", "r.csv"])
def test_table__names_may_be_relative_to_the_folder_of_the_files(place, tmp_path, transformers_log):
    root = write(tmp_path / "r", *numbered("images", 3))
    table(tmp_path / place, "file_name", ["0.png", "1.png", "2.png"])
    transformers_log.set_level("INFO")
    rows = load_folder(root, "train_dir", "vision")["train"]
    assert names(rows, root) == numbered("images", 3)
    shown = "labels.csv" if place == "r/labels.csv" else "../r.csv"
    said = f"3 images are named by {shown} (column 'file_name', relative to images), with label."
    assert said in transformers_log.text


def test_table__beside_the_folder_of_each_split(tmp_path):
    root = tmp_path / "r"
    for split, count in (("train", 3), ("test", 2)):
        write(root, *numbered(split, count, ".wav"), content=encoded("WAV"))
        table(
            root / f"{split}.csv",
            "audio",
            [f"{i}.wav" for i in range(count)],
            text=[f"{split} {i}" for i in range(count)],
        )
    splits = load_folder(str(root), "train_dir", "speech")
    assert splits["train"]["text"][:] == ["train 0", "train 1", "train 2"]
    assert splits["validation"]["text"][:] == ["test 0", "test 1"]


def test_table__of_clips(tmp_path):
    root = write(tmp_path / "r", *(path for clip in "abc" for path in numbered(clip, 2)))
    table(tmp_path / "r" / "list.csv", "video", ["c", "a", "b"])
    rows = load_folder(root, "train_dir", "video")["train"]
    assert [frames[0].removeprefix(f"{root}/") for frames in rows["video"][:]] == ["c/0.png", "a/0.png", "b/0.png"]


def test_table__that_is_not_clear_is_refused_with_the_choices(tmp_path):
    root = write(tmp_path / "r", *numbered("a", 3), *numbered("b", 3))
    table(tmp_path / "r" / "list.csv", "image", ["0.png", "1.png"])
    with pytest.raises(ValueError, match=r"several folders: .*r/a \(2 of 2\), .*r/b \(2 of 2\)\. Write paths"):
        load_folder(root, "train_dir", "vision")
    table(tmp_path / "r" / "list.csv", "image", ["a/0.png"], path=["a/1.png"])
    with pytest.raises(ValueError, match=r"list.csv has several columns .*: path, image\. "):
        load_folder(root, "train_dir", "vision")
    files = [*numbered("a", 3), *numbered("b", 3)]
    table(tmp_path / "r" / "list.csv", "image", files)
    table(tmp_path / "r" / "more.csv", "image", files)
    with pytest.raises(ValueError, match=r"Several tables name files of train_dir: .*list.csv, .*more.csv\. Call"):
        load_folder(root, "train_dir", "vision")
    for name in ("labels.csv", "r.csv", "metadata.csv"):  # each wins over those before
        metadata(tmp_path / "r", [{"file_name": file, "label": name} for file in files], name)
        assert set(load_folder(root, "train_dir", "vision")["train"]["label"][:]) == {name}


def test_table__that_names_no_file_here_or_cannot_be_read_is_left_out(tmp_path):
    root = write(tmp_path / "r", *numbered("cat", 3), *numbered("dog", 3))
    table(tmp_path / "r" / "other.csv", "image", ["x.png", "y.png"])
    (tmp_path / "r" / "broken.csv").write_bytes(b'image\n"a\nb')
    (tmp_path / "r" / "broken.json").write_bytes(b"{")
    (tmp_path / "r" / "empty.csv").touch()
    assert load_folder(root, "train_dir", "vision")["train"]["label"][:] == ["cat"] * 3 + ["dog"] * 3
