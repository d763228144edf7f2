"""Columns of arrays in parquet files: Array3D, lists, bytes of .npy files and paths of them."""

import io

import numpy as np
import pytest
from datasets import Array3D, Dataset, Features, Value

from modeling_data2vec_generic.data.arguments import DataArguments
from modeling_data2vec_generic.data.sources.raw_datasets import infer_modality, load_raw_datasets
from modeling_data2vec_generic.modalities.vision.arrays.array_format import ArrayFormat
from modeling_data2vec_generic.modalities.vision.images import Decoding, decode_image

pytestmark = pytest.mark.fast

IMAGES = np.random.default_rng(0).normal(size=(4, 6, 9, 5)).astype(np.float32)


def npy(values):
    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()


def table(tmp_path, kind):
    """A parquet file with IMAGES in a column, and its name."""
    path = tmp_path / "table.parquet"
    if kind == "Array3D":
        features = Features({"scene": Array3D((6, 9, 5), "float32"), "label": Value("string")})
        rows = Dataset.from_dict({"scene": list(IMAGES), "label": ["a", "b"] * 2}, features)
    elif kind == "lists":
        rows = Dataset.from_dict({"scene": IMAGES.tolist(), "label": ["a", "b"] * 2})
    elif kind == "bytes":
        rows = Dataset.from_dict({"image": [*map(npy, IMAGES)], "label": ["a", "b"] * 2})
    else:
        for number, values in enumerate(IMAGES):
            np.savez(tmp_path / f"{number}.npz", values)
        rows = Dataset.from_dict({"scene": [f"{n}.npz" for n in range(4)], "label": ["a", "b"] * 2})
    rows.to_parquet(path)
    return str(path)


@pytest.mark.parametrize("kind", ["Array3D", "lists", "bytes", "paths"])
def test_columns__of_arrays(kind, tmp_path):
    args = DataArguments(train_file=table(tmp_path, kind))
    assert infer_modality(args, lambda: "pixel_values") == "vision"
    rows = load_raw_datasets(args, "vision", validation=False)["train"]
    decoding = Decoding(ArrayFormat(5, eight_bits=False), channels=5)
    found = [decode_image(value, decoding).values for value in rows["image"]]
    np.testing.assert_allclose(found, IMAGES)
    assert rows["label"][:] == [0, 1, 0, 1]


def test_columns__lists_that_are_not_rectangular_are_bad_rows(tmp_path):
    Dataset.from_dict({"image": [[[[1.0]], [[2.0], [3.0]]], None]}).to_parquet(tmp_path / "a.parquet")
    args = DataArguments(train_file=str(tmp_path / "a.parquet"))
    rows = load_raw_datasets(args, "vision", validation=False)["train"]
    for value in rows["image"]:
        with pytest.raises(Exception, match="cannot identify image file|no image"):
            decode_image(value)
