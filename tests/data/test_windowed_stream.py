"""A stream gives all samples, in an order that can be resumed at any batch."""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset, Features, IterableDataset, Value, load_dataset
from torch.utils.data import DataLoader

from modeling_data2vec_generic.data.quality.screening import good_rows
from modeling_data2vec_generic.data.windowed_stream import POSITION, Position, StreamCollator, WindowedStream

FEATURES = Features({"text": Value("string")})
ROWS = 23
READ: list[str] = []


def rows(shards: list[int]) -> Iterator[dict[str, Any]]:
    for shard in shards:
        for number in range(shard, ROWS, 2):
            READ.append(str(number))
            yield {"text": str(number)}


def without(*bad: str, max_bad_fraction: float = 1.0) -> Any:
    def prepare(raw: Dataset) -> Dataset:
        problems = ["spoilt" if text in bad else "" for text in raw["text"]]
        numbered = raw.add_column("sample_index", list(range(len(raw))))
        return raw.select(good_rows(problems, numbered, noun="text", split="train", max_bad_fraction=max_bad_fraction))

    return prepare


def stream(window_size: int = 5, **settings: Any) -> WindowedStream:
    source = IterableDataset.from_generator(rows, features=FEATURES, gen_kwargs={"shards": [0, 1]})
    settings.setdefault("prepare", without())
    return WindowedStream(source, FEATURES, window_size=window_size, **settings)


def texts(of: Any, count: int) -> list[str]:
    return [sample["text"] for sample in islice(of, count)]


@pytest.mark.parametrize("window_size", [1, 5, 23, 100])
def test_stream__each_pass_gives_every_row_once(window_size):
    found = texts(stream(window_size), 3 * ROWS)
    passes = [found[i : i + ROWS] for i in range(0, 3 * ROWS, ROWS)]
    assert all(sorted(one, key=int) == [str(i) for i in range(ROWS)] for one in passes)
    assert window_size == 1 or passes[0] != passes[1]


def test_stream__order_goes_with_the_seed():
    assert texts(stream(seed=1), 60) == texts(stream(seed=1), 60) != texts(stream(seed=2), 60)


def test_stream__sample_indices_are_unique_over_passes():
    indices = [sample["sample_index"] for sample in islice(stream(), 3 * ROWS)]
    assert sorted(indices) == list(range(3 * ROWS))


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("bad", [(), ("4", "9", "21")])
def test_resumed_anywhere__equals_uninterrupted(batch_size, bad):
    settings: dict[str, Any] = {"prepare": without(*bad), "batch_size": batch_size}
    whole = [{**sample} for sample in islice(stream(**settings), 2 * ROWS + 5)]  # into the third pass
    for place, sample in enumerate(whole):
        if position := sample.get(POSITION):
            start = Position(**json.loads(position))
            rest = whole[place + 1 : place + 1 + ROWS]  # a pass: all windows, and a new start of the source
            assert list(islice(stream(**settings, start=start), len(rest))) == rest
        else:
            assert (place + 1) % batch_size


def test_resumed_stream__reads_one_window_again():
    place = 17
    samples = list(islice(stream(), place))
    READ.clear()
    next(iter(stream(start=Position(**json.loads(samples[-1][POSITION])))))
    # a generator cannot skip rows of its shard (12 rows here), but it skips the shards before
    assert READ == [str(number) for number in range(1, 17, 2)]


@pytest.mark.parametrize("workers", [1, 2])
def test_workers__change_nothing(workers):
    def batches(number: int, start: Position) -> list[Any]:
        loader = DataLoader(
            stream(batch_size=4, start=start), batch_size=4, num_workers=number, collate_fn=StreamCollator(collate)
        )
        return list(islice(loader, 12))

    wanted = batches(0, Position())
    assert batches(workers, Position()) == wanted
    middle = Position(**json.loads(wanted[4][POSITION]))
    assert [batch["texts"] for batch in batches(workers, middle)[:7]] == [batch["texts"] for batch in wanted[5:]]


def collate(examples: list[dict[str, Any]]) -> dict[str, Any]:
    return {"texts": [example["text"] for example in examples]}


def test_processes__share_the_batches_of_one():
    wanted = texts(stream(batch_size=6), 60)
    shares = [list(islice(stream(batch_size=3, rank=rank, num_processes=2), 30)) for rank in (0, 1)]
    together = [sample["text"] for i in range(0, 30, 3) for share in shares for sample in share[i : i + 3]]
    assert together == wanted
    assert [json.loads(share[2][POSITION])["samples"] for share in shares] == [6, 6]


def test_bad_rows__are_skipped_and_named(caplog):
    found = texts(stream(prepare=without("3", "8"), window_size=ROWS), 2 * (ROWS - 2))[: ROWS - 2]
    assert sorted(found, key=int) == [str(i) for i in range(ROWS) if i not in (3, 8)]
    assert caplog.text.count("2 of 23 train texts are bad") == 1  # in the first pass only


def test_bad_rows__too_many_end_the_stream():
    settings: dict[str, Any] = {"prepare": without("3", "8", "9"), "max_bad_fraction": 0.1}
    with pytest.raises(ValueError, match=r"3 of the 23 rows .* max_bad_fraction=0\.1"):
        texts(stream(**settings), 2 * ROWS)


def test_bad_rows__all_of_them():
    with pytest.raises(ValueError, match="gave no sample"):
        texts(stream(prepare=without(*map(str, range(ROWS)))), 1)


@pytest.mark.parametrize("kind", ["csv", "json", "parquet", "text"])
def test_files__go_on_where_they_were(kind, tmp_path: Path):
    path = tmp_path / f"rows.{kind}"
    table = Dataset.from_dict({"text": [f"line {i}" for i in range(100)]})
    if kind == "text":
        path.write_text("\n".join(table["text"]))
    else:
        getattr(table, f"to_{kind}")(path)
    source = load_dataset(kind, data_files=str(path), split="train", streaming=True)
    features = Features({"text": Value("string")})

    def opened(start: Position) -> WindowedStream:
        return WindowedStream(source, features, without(), window_size=8, start=start)

    whole = list(islice(opened(Position()), 150))
    for place in (0, 37, 99, 120):
        start = Position(**json.loads(whole[place][POSITION]))
        assert list(islice(opened(start), 20)) == whole[place + 1 : place + 21]
    assert np.unique([sample["sample_index"] for sample in whole]).size == 150
