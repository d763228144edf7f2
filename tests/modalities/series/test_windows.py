"""Time series of any layout are read, bad ones are found before training, and long ones are cut into windows."""

import logging
import math
import pickle
import tracemalloc

import numpy as np
import pyarrow
import pytest
from datasets import Array2D, Dataset, Features, List, Value

from modeling_data2vec_generic.data.arguments import DataArguments
from modeling_data2vec_generic.data.quality.reading import Unreadable
from modeling_data2vec_generic.data.sources.raw_datasets import infer_modality, load_raw_datasets
from modeling_data2vec_generic.modalities.series.windows import prepare_series, series_of, usual_shape
from modeling_data2vec_generic.modalities.window_counts import count_windows

pytestmark = pytest.mark.fast


def counting(length, channels=1):
    """A series (length, channels) with the values 0, 1, 2, ... in time, plus a tenth of the number of the channel."""
    return np.arange(length)[:, None] + np.arange(channels) / 10


def raw_of(rows, labels=None):
    columns = {"series": [np.asarray(row).tolist() if isinstance(row, np.ndarray) else row for row in rows]}
    raw = Dataset.from_dict(columns | {"sample_index": range(len(rows))})
    return raw if labels is None else raw.add_column("label", labels).class_encode_column("label")


def prepared(rows, length, channels, labels=None, **flags):
    flags = {"max_bad_fraction": 0.5} | flags
    return prepare_series(raw_of(rows, labels), DataArguments(**flags), "train", length, channels)


# Rows


@pytest.mark.parametrize("channels", [1, 3])
def test_prepare_series__rows(channels):
    dataset = prepared([counting(5, channels), counting(5, channels) + 7], 5, channels)
    assert len(dataset) == 2
    assert sorted(dataset[1]) == ["row", "sample_index", "series"]
    assert dataset[1]["series"].dtype == np.float32
    np.testing.assert_allclose(dataset[1]["series"], counting(5, channels) + 7)


def test_prepare_series__plain_lists_are_one_channel():
    dataset = prepared([[1, 2, 3], [4, 5, 6]], 3, 1)
    assert dataset[1]["series"].tolist() == [[4], [5], [6]]


def test_prepare_series__long_ones_become_windows_with_their_label():
    dataset = prepared([counting(4, 2), counting(11, 2)], 4, 2, labels=[5, 9])
    assert [row["series"][0, 0] for row in dataset] == [0, 0, 4]
    np.testing.assert_allclose(dataset[2]["series"], counting(11, 2)[4:8])
    assert [row["sample_index"] for row in dataset] == [0, 1, 2]
    assert [row["row"] for row in dataset] == [0, 1, 1]
    assert dataset.with_format(None)["label"][:] == [0, 1, 1]
    assert dataset.features["label"].names == ["5", "9"]


def test_count_windows__says_what_is_cut_and_lost(caplog):
    with caplog.at_level(logging.INFO, logger="modeling_data2vec_generic"):
        assert count_windows(np.array([4, 4]), 4, noun="series", split="train").tolist() == [1, 1]
        assert caplog.text == ""
        assert count_windows(np.array([4, 11, 5]), 4, noun="series", split="train").tolist() == [1, 2, 1]
    assert "train: 2 of 3 series are longer than 4 and cut into pieces of it: 4 pieces in all" in caplog.text
    assert "20.0% of the data" in caplog.text  # 3 + 1 of 20


def test_prepare_series__can_be_sent_to_workers():
    dataset = prepared([counting(5)] * 3, 5, 1)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(dataset))[2]["series"], counting(5))


def test_series_of__any_list_is_read_as_arrays():
    flat = pyarrow.chunked_array([pyarrow.array([[1, None, 3], None]), pyarrow.array([[4]])])
    found = [series.tolist() for series in series_of(flat)]
    assert str(found) == "[[[1.0], [nan], [3.0]], [], [[4.0]]]"
    nested = pyarrow.array([[[1, 2], [3, None]], [[1, 2], [3]], [[1, 2], None], [], None, [[5, 6]]])
    assert [None if isinstance(s, Unreadable) else s.shape for s in series_of(pyarrow.chunked_array([nested]))] == [
        (2, 2),
        None,
        None,
        (0, 1),
        (0, 1),
        (1, 2),
    ]
    fixed = Dataset.from_dict({"series": [counting(4, 2)] * 2}, Features({"series": Array2D((4, 2), "float64")}))
    for series in series_of(fixed.data["series"]):
        np.testing.assert_allclose(series, counting(4, 2))


def test_prepare_series__makes_no_numbers_of_python():
    raw = raw_of([counting(20_000, 2)] * 3)
    tracemalloc.start()
    prepare_series(raw, DataArguments(), "train", 100, 2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 120_000 * 24  # a float of Python has 24 bytes


# Bad rows


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ([1.0, None, 3.0], "1 of 3 values missing, not finite or beyond 1e18"),
        ([1.0, math.nan, math.inf], "2 of 3 values missing, not finite or beyond 1e18"),
        ([1.0, -1e19, 3.0], "1 of 3 values missing, not finite or beyond 1e18"),
        ([1.0, 1e39, 3.0], "1 of 3 values missing, not finite or beyond 1e18"),  # more than float32 holds
        ([1.0, 2.0], r"too short \(2 values, the encoder reads 3\)"),
        ([], "no values"),
        (None, "no values"),
    ],
)
def test_prepare_series__bad_rows_are_skipped_counted_and_named(row, reason, transformers_log):
    dataset = prepared([[1.0, 2.0, 3.0], row, [4.0, 5.0, 6.0]], 3, 1)
    assert [window["series"][0, 0] for window in dataset] == [1, 4]
    assert "1 of 3 train rows are bad (row 1: " in transformers_log.text
    with pytest.raises(ValueError, match=rf"1 of 3 train rows are bad \(row 1: {reason}\): more than"):
        prepared([[1.0, 2.0, 3.0], row, [4.0, 5.0, 6.0]], 3, 1, max_bad_fraction=0.1)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (counting(3, 3), "3 channels, the encoder reads 2"),
        ([[1.0, 2.0], [3.0], [4.0, 5.0]], "not the same number of channels at each time"),
        ([[1.0, 2.0], None, [4.0, 5.0]], "not the same number of channels at each time"),
        ([[1.0, None], [3.0, 4.0], [4.0, 5.0]], "1 of 6 values missing, not finite or beyond 1e18"),
        ([[], [], []], "no values"),
    ],
)
def test_prepare_series__bad_channels(row, reason, transformers_log):
    assert len(prepared([counting(3, 2), row, counting(3, 2)], 3, 2)) == 2
    assert f"row 1: {reason}" in transformers_log.text


def test_prepare_series__nothing_left():
    with pytest.raises(ValueError, match="2 of 2 train rows are bad.*nothing is left"):
        prepared([[1.0], [2.0]], 3, 1, max_bad_fraction=1.0)


# The shape of a new encoder


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([counting(5, 2), counting(7, 2)], (5, 2)),
        (
            [counting(5, 2), counting(7, 2), counting(3, 1), [math.nan]],
            (5, 2),
        ),  # bad series, and those with another number of channels, do not count
        ([counting(900)], (512, 1)),
        ([[math.nan], []], None),
    ],
)
def test_usual_shape__is_the_shortest_of_the_good(rows, expected):
    rows = [np.asarray(row, dtype=float).tolist() for row in rows]
    if len({np.ndim(row) for row in rows if row}) > 1:  # one table holds one type
        rows = [[value if isinstance(value, list) else [value] for value in row] for row in rows]
    assert usual_shape(raw_of(rows), DataArguments()) == expected


# Sources


def parquet(path, columns, features=None):
    Dataset.from_dict(columns, features=features).to_parquet(path)
    return str(path)


WAVES = [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
PAIRS = [[[1.0, 2.0], [3.0, 4.0]]] * 2
MATRIX = Features({"signal": Array2D((2, 2), "float32")})


@pytest.mark.parametrize(
    ("columns", "features", "flags"),
    [
        ({"series": WAVES}, None, {}),
        ({"values": WAVES, "label": ["up", "down"]}, None, {}),
        ({"values": PAIRS, "kind": ["up", "down"]}, None, {"label_column_name": "kind"}),
        ({"values": [[1, 2], [3, 4]]}, None, {}),
        ({"signal": PAIRS}, MATRIX, {}),
        ({"signal": PAIRS, "text": ["a", "b"]}, None, {"series_column_name": "signal"}),
        ({"a": WAVES, "b": WAVES}, None, {"series_column_name": "b"}),
    ],
    ids=["usual name", "only one", "label named", "integers", "matrix", "beside text", "one of two"],
)
def test_source__is_seen_to_hold_series(columns, features, flags, tmp_path):
    args = DataArguments(train_file=parquet(tmp_path / "a.parquet", columns, features), **flags)
    assert infer_modality(args) == "series"
    train = load_raw_datasets(args, "series", validation=False)["train"]
    assert "series" in train.column_names
    assert ("label" in train.column_names) == ("label" in columns or "kind" in columns)


def test_source__json_lines(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"series": [1, 2.5, null]}\n{"series": [3]}\n')
    args = DataArguments(train_file=str(tmp_path / "a.jsonl"))
    assert infer_modality(args) == "series"
    assert load_raw_datasets(args, "series", validation=False)["train"]["series"][:] == [[1.0, 2.5, None], [3.0]]


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"text": ["a", "b"], "embedding": WAVES}, "text"),
        ({"series": WAVES, "name": ["a", "b"]}, "series"),
    ],
)
def test_source__by_the_usual_name_where_types_leave_it_open(columns, expected, tmp_path):
    assert infer_modality(DataArguments(train_file=parquet(tmp_path / "a.parquet", columns))) == expected


def test_source__that_may_be_text_or_series_asks_for_the_flag(tmp_path):
    path = parquet(tmp_path / "a.parquet", {"body": ["a", "b"], "embedding": WAVES})
    with pytest.raises(ValueError, match="hold text and series: say which to use with --modality"):
        infer_modality(DataArguments(train_file=path))


@pytest.mark.parametrize(
    ("columns", "features", "message"),
    [
        ({"series": ["a"]}, None, "series_column_name='series' holds .*string.*, not lists of numbers"),
        ({"series": [["a"]]}, None, "not lists of numbers"),
        ({"series": [[[[1.0]]]]}, None, "not lists of numbers"),
        ({"a": [[1.0]], "b": [[1.0]]}, None, "no column 'series' and 2 that hold series.*--series_column_name"),
        ({"a": [1.0]}, None, "no column 'series' and none that holds series.*there are: a"),
        ({"series": [[True]]}, Features({"series": List(Value("bool"))}), "not lists of numbers"),
    ],
)
def test_source__without_series(columns, features, message, tmp_path):
    args = DataArguments(train_file=parquet(tmp_path / "a.parquet", columns, features))
    with pytest.raises(ValueError, match=message):
        load_raw_datasets(args, "series")


def test_source__a_folder_without_arrays(tmp_path):
    with pytest.raises(ValueError, match=r"holds no arrays \(\.npy \.npz\)"):
        load_raw_datasets(DataArguments(train_dir=str(tmp_path)), "series")
