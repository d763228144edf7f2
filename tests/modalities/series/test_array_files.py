"""Series in .npy and .npz files: in folders, named in tables, or as bytes in tables."""

import io

import numpy as np
import pytest
from datasets import Dataset

from modeling_data2vec_generic.data.arguments import DataArguments
from modeling_data2vec_generic.data.sources.raw_datasets import infer_modality, load_raw_datasets
from modeling_data2vec_generic.modalities.series.windows import prepare_series, usual_shape

pytestmark = pytest.mark.fast

SERIES = np.random.default_rng(0).normal(size=(6, 20, 3))  # (T, channels) each


def folder(root, series=SERIES):
    for number, values in enumerate(series):
        path = root / "ab"[number % 2] / f"{number}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, values)
    return root


def npy(values):
    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()


def sources(tmp_path, kind):
    """The flags of a source with SERIES, in this order, and labels."""
    root = folder(tmp_path / "series")
    if kind == "folder":
        return {"train_dir": str(root)}
    paths = [f"series/{'ab'[number % 2]}/{number}.npy" for number in range(6)]
    columns = {"recording": paths, "label": ["a", "b"] * 3}
    if kind == "csv":
        Dataset.from_dict(columns).to_csv(tmp_path / "table.csv")
        return {"train_file": str(tmp_path / "table.csv")}
    if kind == "bytes":
        columns = {"series": [npy(values) for values in SERIES], "label": columns["label"]}
    Dataset.from_dict(columns).to_parquet(tmp_path / "table.parquet")
    return {"train_file": str(tmp_path / "table.parquet")}


@pytest.mark.parametrize("kind", ["folder", "csv", "parquet", "bytes"])
def test_prepare_series__from_files(kind, tmp_path):
    args = DataArguments(**sources(tmp_path, kind))
    modality = infer_modality(args, lambda: "past_values")
    assert modality == "series"
    raw = load_raw_datasets(args, modality, validation=False)["train"]
    assert usual_shape(raw, args) == (20, 3)
    found = prepare_series(raw, args, "train", 10, 3)
    order = [0, 2, 4, 1, 3, 5] if kind == "folder" else range(6)
    expected = SERIES[list(order)].reshape(12, 10, 3)
    np.testing.assert_array_equal(np.stack([row["series"] for row in found]), expected.astype(np.float32))
    assert found.with_format(None)["label"][:] == ([0] * 6 + [1] * 6 if kind == "folder" else [0, 0, 1, 1] * 3)


def test_infer_modality__arrays_are_images_unless_the_encoder_reads_series(tmp_path):
    args = DataArguments(train_dir=str(folder(tmp_path)))
    assert infer_modality(args, lambda: "pixel_values") == "vision"
    assert infer_modality(args, lambda: "past_values") == "series"


SHAPES = {
    "(T,)": (SERIES[0, :, 0], 1, SERIES[0, :, :1]),
    "(T, C)": (SERIES[0], 3, SERIES[0]),
    "(C, T)": (SERIES[0].T, 3, SERIES[0]),
    "(C, T) with more channels than times, which the encoder knows": (SERIES[0], 20, SERIES[0].T),
    "whole numbers": (np.arange(20), 1, np.arange(20.0)[:, None]),
}


@pytest.mark.parametrize("name", SHAPES)
def test_prepare_series__axes_of_an_array(name, tmp_path):
    values, channels, expected = SHAPES[name]
    args = DataArguments(train_dir=str(folder(tmp_path, [values])))
    raw = load_raw_datasets(args, "series", validation=False)["train"]
    found = prepare_series(raw, args, "train", len(expected), channels)
    np.testing.assert_array_equal(found[0]["series"], expected.astype(np.float32))


def test_prepare_series__files_that_cannot_be_read_are_bad_rows(tmp_path, transformers_log):
    root = folder(tmp_path / "series", [*SERIES, np.zeros((20, 20)), np.zeros((2, 2, 2)), SERIES[0] * np.nan])
    (root / "a" / "broken.npy").write_bytes(npy(SERIES[0])[:-1])
    args = DataArguments(train_dir=str(root), max_bad_fraction=0.5)
    raw = load_raw_datasets(args, "series", validation=False)["train"]
    assert len(prepare_series(raw, args, "train", 20, 3)) == 6
    for message in (
        "broken.npy: ValueError: 479 bytes of values where 480 are expected",
        "6.npy: ValueError: an array of shape (20, 20), whose channels may be either axis",
        "7.npy: ValueError: an array of shape (2, 2, 2)",
        "8.npy: 60 of 60 values missing, not finite",
    ):
        assert message in transformers_log.text


def test_infer_modality__of_arrays_without_an_encoder_is_asked_for(tmp_path):
    with pytest.raises(ValueError, match="hold vision and speech and series: say which to use with --modality"):
        infer_modality(DataArguments(train_dir=str(folder(tmp_path))))


def test_load_raw_datasets__arrays_beside_other_files_are_not_data(tmp_path):
    root = folder(tmp_path)
    for number in range(4):
        (root / "a" / f"{number}.wav").write_bytes(b"")
    args = DataArguments(train_dir=str(root))
    assert infer_modality(args) == "speech"
    assert len(load_raw_datasets(args, "speech", validation=False)["train"]) == 4
