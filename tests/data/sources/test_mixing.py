"""Several sources that are mixed by weights."""

from collections import Counter
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
from datasets import Dataset

from modeling_data2vec_generic.data.arguments import DataArguments
from modeling_data2vec_generic.data.sources.listing import sources_of
from modeling_data2vec_generic.data.sources.raw_datasets import infer_modality, load_raw_datasets
from modeling_data2vec_generic.data.sources.streamed_source import open_stream
from modeling_data2vec_generic.data.summary import summarized

pytestmark = pytest.mark.fast


def write(path: Path, name: str, count: int, label: str = "") -> str:
    rows = [f"{name} {number}{label and f',{label}'}" for number in range(count)]
    path.write_text("\n".join([f"text{',label' if label else ''}", *rows]))
    return str(path)


def loaded(modality: str = "text", **flags: Any) -> Dataset:
    return load_raw_datasets(DataArguments(**flags), modality, validation=False)["train"]


def test_mix__follows_weights_until_all_rows_were_used(tmp_path):
    files = [write(tmp_path / f"{name}.csv", name, count, name) for name, count in (("a", 3000), ("b", 50))]
    args: dict[str, Any] = {"train_file": files, "dataset_weights": [3, 1], "label_column_name": None}
    rows = loaded(**args)
    names = [text[0] for text in rows["text"][:]]
    assert Counter(names)["b"] / len(names) == pytest.approx(0.25, abs=0.02)
    assert Counter(names[:400])["b"] == pytest.approx(100, abs=30)  # from the beginning on
    for name, count in (("a", 3000), ("b", 50)):
        own = [text for text in rows["text"][:] if text.startswith(name)]
        assert own == [f"{name} {number % count}" for number in range(len(own))]
        assert len(own) >= count
    assert [text[0] for text in loaded(**args)["text"][:]] == names


def test_mix__rows_have_numbers_of_their_own_that_show_the_source(tmp_path):
    files = [write(tmp_path / f"{name}.csv", name, count) for name, count in (("a", 2000), ("b", 7))]
    rows = loaded(train_file=files, dataset_weights=[1, 1])
    numbers = rows["sample_index"][:]
    assert len(set(numbers)) == len(numbers) > 3000
    expected = [f"a {number}" for number in range(2000)] + [f"b {number}" for number in range(7)]
    assert rows["text"][:] == [expected[number % 2007] for number in numbers]
    share = sum(text.startswith("b") for text in rows["text"]) / len(rows)  # blocks of both have other sizes
    assert share == pytest.approx(0.5, abs=0.15)


def test_mix__holds_rows_of_each_source_out_that_are_not_trained_on(tmp_path):
    files = [
        write(tmp_path / f"{name}.csv", name, count, label)
        for name, count, label in (("a", 400, "x"), ("b", 100, "y"))
    ]
    raw = load_raw_datasets(DataArguments(train_file=files, dataset_weights=[1, 5]), "text")
    held_out = raw["validation"]["text"][:]
    assert Counter(text[0] for text in held_out) == {"a": 20, "b": 10}
    assert not set(held_out) & set(raw["train"]["text"][:])
    assert len(set(raw["train"]["text"][:])) == 470
    assert raw["train"].features["label"].names == ["x", "y"]
    assert {(text[0], label) for text, label in zip(raw["train"]["text"], raw["train"]["label"], strict=True)} == {
        ("a", 0), ("b", 1),
    }  # fmt: skip


def test_mix__running_text_stays_in_pieces(tmp_path):
    files = [write(tmp_path / f"{name}.txt", name, count) for name, count in (("a", 950), ("b", 250))]
    texts = loaded(train_file=files, dataset_weights=[1, 1])["text"][:]
    follows = sum(
        int(two.split()[-1]) == int(one.split()[-1]) + 1
        for one, two in zip(texts[1:], texts[2:], strict=False)
        if "text" not in (one, two)
    )
    assert follows > 0.97 * len(texts)


def test_mix__of_flags_in_their_order(tmp_path):
    for number in range(3):
        (tmp_path / "images").mkdir(exist_ok=True)
        PIL.Image.new("L", (4, 4), number).save(tmp_path / "images" / f"{number}.png")
    (tmp_path / "list.csv").write_text("file\nimages/0.png\nimages/2.png\n")
    flags: dict[str, Any] = {
        "train_dir": str(tmp_path / "images"), "train_file": str(tmp_path / "list.csv"), "dataset_name": "digits",
    }  # fmt: skip
    args = DataArguments(**flags, dataset_weights=[1, 2, 3])
    assert [own.dataset_name or own.train_file or own.train_dir for own in sources_of(args)] == [
        ["digits"], [str(tmp_path / "list.csv")], [str(tmp_path / "images")],
    ]  # fmt: skip
    assert infer_modality(args) == "vision"
    raw = load_raw_datasets(args, "vision", validation=False)["train"]
    assert raw.column_names == ["image", "sample_index"]  # not all have labels
    paths = Counter(path and Path(path).name for path in (row["image"]["path"] for row in raw))
    assert paths["1.png"] > 0
    assert (paths["0.png"] + paths["1.png"] + paths["2.png"]) / len(raw) == pytest.approx(5 / 6, abs=0.02)


def test_mix__bad_rows_are_told_apart(tmp_path, transformers_log):
    files = [str(tmp_path / f"{name}.jsonl") for name in "ab"]
    for file in files:
        lines = [f'{{"text": "row {number}"}}' for number in range(20)]
        Path(file).write_text("\n".join([*lines[:7], "{broken", *lines[8:]]))
    rows = loaded(train_file=files, dataset_weights=[1, 1])
    assert "row 7: line 8 of a.jsonl" in transformers_log.text
    assert "row 27: line 8 of b.jsonl" in transformers_log.text
    assert not {7, 27} & {number % 40 for number in rows["sample_index"][:]}


def test_mix__is_said(tmp_path, caplog):
    from transformers.utils import logging

    files = [write(tmp_path / f"{name}.csv", name, count) for name, count in (("a", 600), ("b", 7))]
    logging.enable_propagation()
    with caplog.at_level("INFO"), summarized():
        loaded(train_file=files, dataset_weights=[3, 0.5])
    logging.disable_propagation()
    assert caplog.text.count("train: Columns of train_file='") == 2
    assert "b.csv' has weight 0.5: 7 rows, numbered from 600, each used once to " in caplog.text


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"train_file": ["a.csv", "b.csv"], "dataset_weights": [1]}, "has 1 values, and there are 2 sources"),
        ({"train_file": ["a.csv", "b.csv"], "dataset_weights": [1, 0]}, "must be positive numbers"),
        ({"train_file": ["a.csv", "b.csv"], "dataset_weights": [1, float("nan")]}, "must be positive numbers"),
        ({"train_file": "a.csv", "train_dir": "b"}, "or mix them with --dataset_weights"),
        ({"train_dir": ["a", "b"]}, "or mix them with --dataset_weights"),
        ({"dataset_name": ["digits", "python_docs"], "dataset_weights": [1, 1]}, "vision in dataset_name='digits'; "),
    ],
)  # fmt: skip
def test_mix__that_cannot_be(flags, message):
    with pytest.raises(ValueError, match=message):
        infer_modality(DataArguments(**flags))


def test_mix__of_types_that_do_not_go_together(tmp_path):
    Dataset.from_dict({"series": [[1.0, 2.0]] * 9}).to_parquet(tmp_path / "a.parquet")
    Dataset.from_dict({"series": [[[1.0], [2.0]]] * 9}).to_parquet(tmp_path / "b.parquet")
    files = [str(tmp_path / name) for name in ("a.parquet", "b.parquet")]
    with pytest.raises(ValueError, match=r"The data of train_file='.*a.parquet' .* and of .* cannot be mixed"):
        loaded("series", train_file=files, dataset_weights=[1, 1])


def test_mix__of_labels_of_several_types(tmp_path):
    Dataset.from_dict({"text": ["a"] * 5, "label": [3] * 5}).to_parquet(tmp_path / "a.parquet")
    file = write(tmp_path / "b.csv", "b", 5, "cat")
    rows = loaded(train_file=[str(tmp_path / "a.parquet"), file], dataset_weights=[1, 1])
    assert rows.features["label"].names == ["3", "cat"]
    assert {(text[0], label) for text, label in zip(rows["text"], rows["label"], strict=True)} == {("a", 0), ("b", 1)}


def test_mixed_stream__follows_weights_and_goes_on_at_any_row(tmp_path):
    files = [write(tmp_path / f"{name}.csv", name, count, "x") for name, count in (("a", 900), ("b", 40))]
    Dataset.from_dict({"text": [f"c {number}" for number in range(300)]}).to_parquet(tmp_path / "c.parquet")
    files.append(str(tmp_path / "c.parquet"))
    args = DataArguments(train_file=files, dataset_weights=[4, 2, 2], streaming=True, shuffle_buffer_size=80)
    source = open_stream(args, "text", seed=3)
    assert Counter(text[0] for text in source.head["train"]["text"]) == {"a": 40, "b": 20, "c": 20}
    assert "label" not in source.head["train"].features
    for rows in (source.rows, source.rows.cut(3)):
        texts = []
        for shard in range(rows.num_shards):
            whole = [text for part in rows.read(shard) for text in part["text"].to_pylist()]
            for start in (1, 99, 100, 257):
                rest = [text for part in rows.read(shard, start) for text in part["text"].to_pylist()]
                assert rest == whole[start:]
            texts += whole
        expected = {
            f"{name} {number}" for name, count in (("a", 900), ("b", 40), ("c", 300)) for number in range(count)
        }
        assert set(texts) == expected
        shares = Counter(text[0] for text in texts)
        assert shares["b"] / len(texts) == pytest.approx(0.25, abs=0.04)
        assert shares["a"] / len(texts) == pytest.approx(0.5, abs=0.04)
    again = open_stream(args, "text", seed=3).rows
    assert next(again.read(0)).equals(next(source.rows.read(0)))
    assert not next(open_stream(args, "text", seed=4).rows.read(0)).equals(next(source.rows.read(0)))
