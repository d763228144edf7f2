"""Clips from tables and folders of frames are read, bad ones are found before training, and long ones are cut."""

import io
import pickle

import numpy as np
import PIL.Image
import pytest
from datasets import Dataset, Features, Image, List, Value
from transformers import VideoMAEImageProcessorPil

from modeling_data2vec_generic.data.arguments import DataArguments
from modeling_data2vec_generic.data.quality.reading import Unreadable
from modeling_data2vec_generic.data.sources.raw_datasets import infer_modality, load_raw_datasets
from modeling_data2vec_generic.modalities.video.clips import FrameProcessor, prepare_video

pytestmark = pytest.mark.fast


def frame(level, size=(6, 5)):
    buffer = io.BytesIO()
    PIL.Image.new("L", size, level).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def clip(count, first=0, **kwargs):
    return [frame(first + number, **kwargs) for number in range(count)]


def prepared(clips, num_frames=3, labels=None, **flags):
    features = Features({"video": List(Image(decode=False)), "sample_index": Value("int64")})
    raw = Dataset.from_dict({"video": clips, "sample_index": range(len(clips))}, features=features)
    if labels is not None:
        raw = raw.add_column("label", labels).class_encode_column("label")
    return prepare_video(raw, DataArguments(**{"max_bad_fraction": 0.5} | flags), "train", num_frames)


def levels(row):
    return [image.getpixel((0, 0))[0] for image in row["video"]]


def write_clip(folder, numbers, size=(6, 5), name="{}.png"):
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        PIL.Image.new("L", size, number).save(folder / name.format(number))


# Rows


def test_prepare_video__rows():
    dataset = prepared([clip(3), clip(3, first=50)])
    assert sorted(dataset[1]) == ["clip", "sample_index", "video"]
    assert levels(dataset[1]) == [50, 51, 52]
    assert {(image.mode, image.size) for image in dataset[1]["video"]} == {("RGB", (6, 5))}


def test_prepare_video__long_clips_become_pieces_with_their_label():
    dataset = prepared([clip(3), clip(8, first=50)], labels=[5, 9])
    assert [levels(row) for row in dataset] == [[0, 1, 2], [50, 51, 52], [53, 54, 55]]
    assert [row["sample_index"] for row in dataset] == [0, 1, 2]
    assert [row["clip"] for row in dataset] == [0, 1, 1]
    assert dataset.with_format(None)["label"][:] == [0, 1, 1]
    assert dataset.select_columns("label")[:] == {"label": [0, 1, 1]}


def test_prepare_video__can_be_sent_to_workers():
    dataset = prepared([clip(3)] * 2)
    assert levels(pickle.loads(pickle.dumps(dataset))[1]) == [0, 1, 2]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (clip(2), "too short (2 frames, the encoder reads 3)"),
        ([], "no frames"),
        (None, "no frames"),
        ([*clip(2), {"bytes": frame(1)["bytes"][:40], "path": None}], "frame 2: "),
        ([*clip(2), {"bytes": None, "path": None}], "frame 2: no image"),
        ([*clip(1), None, *clip(1)], "frame 1: no image"),
        ([*clip(2), *clip(1, size=(9, 5))], "frames of 2 different sizes"),
    ],
)
def test_prepare_video__bad_clips_are_skipped_counted_and_named(bad, reason, transformers_log):
    dataset = prepared([clip(3), bad, clip(3, first=50)])
    assert [levels(row)[0] for row in dataset] == [0, 50]
    assert f"1 of 3 train clips are bad (row 1: {reason}" in transformers_log.text
    with pytest.raises(ValueError, match="1 of 3 train clips are bad.*--max_bad_fraction"):
        prepared([clip(3), bad, clip(3)], max_bad_fraction=0.1)


def test_prepare_video__looks_at_no_more_than_256_clips_and_counts_the_frames_of_all(transformers_log):
    clips = [clip(3)] * 400
    clips[7] = clip(2)
    clips[9] = [*clip(2), {"bytes": b"broken", "path": "9.png"}]
    raw_numbers = [number for number in range(400) if number != 7]
    dataset = prepared(clips)
    assert dataset.with_format(None)["clip"][:] == raw_numbers
    assert "1 of 400 train clips are bad (row 7: too short" in transformers_log.text
    unreadable = dataset[raw_numbers.index(9)]["video"]
    assert isinstance(unreadable, Unreadable)
    assert str(unreadable).startswith("frame 2: UnidentifiedImageError")
    assert len(prepared(clips, check_data=True)) == 398


def test_prepare_video__frames_of_selected_rows_are_counted():
    features = Features({"video": List(Image(decode=False)), "sample_index": Value("int64")})
    clips = [clip(3), clip(7), None, clip(4)] * 100
    raw = Dataset.from_dict({"video": clips, "sample_index": range(400)}, features=features)
    args = DataArguments(train_file="a.parquet", max_bad_fraction=0.5)
    dataset = prepare_video(raw.select([1, *range(4, 400)]), args, "train", 3)
    pieces = dataset.with_format(None)
    assert pieces["clip"][:5] == [1, 1, 4, 5, 5]
    assert pieces["start"][:5] == [0, 3, 0, 0, 3]


def test_frame_processor__can_be_pickled():
    processor = FrameProcessor(VideoMAEImageProcessorPil(size={"height": 4, "width": 4}, do_center_crop=False))
    copied = pickle.loads(pickle.dumps(processor))
    assert copied.image_mean == processor.image_mean
    assert copied([PIL.Image.new("RGB", (8, 8))] * 3, return_tensors="pt")["pixel_values"].shape == (3, 3, 4, 4)
    with pytest.raises(AttributeError, match="no_such_setting"):
        copied.no_such_setting  # noqa: B018


# Tables


@pytest.mark.parametrize("name", ["video", "film"])
def test_table__of_lists_of_images_is_video(name, tmp_path):
    images = [PIL.Image.fromarray(np.full((4, 4), level, dtype=np.uint8)) for level in range(3)]
    features = Features({name: List(Image())})
    Dataset.from_dict({name: [images] * 2}, features=features).to_parquet(tmp_path / "a.parquet")
    args = DataArguments(train_file=str(tmp_path / "a.parquet"))
    assert infer_modality(args) == "video"
    train = load_raw_datasets(args, "video", validation=False)["train"]
    assert [levels(row) for row in prepare_video(train, args, "train", 3)] == [[0, 1, 2]] * 2


def test_table__of_something_else_is_refused(tmp_path):
    Dataset.from_dict({"video": [1.5]}).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="cannot be read as video: expected lists of encoded files"):
        load_raw_datasets(DataArguments(train_file=str(tmp_path / "a.parquet")), "video")


# Folders


def test_folder__frames_are_in_the_order_of_their_numbers(tmp_path):
    write_clip(tmp_path / "root" / "film", [10, 9, 2, 100], name="frame{}.png")
    (tmp_path / "root" / "film" / "notes.txt").write_text("no frame")
    args = DataArguments(train_dir=str(tmp_path / "root"), modality="video")
    train = load_raw_datasets(args, "video", validation=False)["train"]
    assert train.column_names == ["video", "sample_index"]
    assert levels(prepare_video(train, args, "train", 4)[0]) == [2, 9, 10, 100]


def test_folder__classes_of_clips_become_labels(tmp_path):
    for label, name, first in (("cat", "a", 1), ("cat", "b", 11), ("dog", "a", 21)):
        write_clip(tmp_path / "root" / label / name, range(first, first + 3))
    args = DataArguments(train_dir=str(tmp_path / "root"), modality="video")
    train = load_raw_datasets(args, "video", validation=False)["train"]
    assert train["label"][:] == [0, 0, 1]
    assert train.features["label"].names == ["cat", "dog"]
    dataset = prepare_video(train, args, "train", 3)
    assert [levels(row)[0] for row in dataset] == [1, 11, 21]


def test_folder__a_bad_clip_is_named_by_its_first_frame(tmp_path):
    write_clip(tmp_path / "root" / "short", [1])
    args = DataArguments(train_dir=str(tmp_path / "root"), modality="video")
    train = load_raw_datasets(args, "video", validation=False)["train"]
    with pytest.raises(ValueError, match=r"short/1\.png: too short"):
        prepare_video(train, args, "train", 3)


def test_folder__without_frames_says_what_a_clip_is(tmp_path):
    (tmp_path / "film.mp4").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"holds no clips, that is, folders of images .*It holds: 1 \.mp4"):
        load_raw_datasets(DataArguments(train_dir=str(tmp_path), modality="video"), "video")
