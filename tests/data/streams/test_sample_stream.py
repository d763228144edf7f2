"""A stream gives all samples, decoded once, in an order that neither readers nor resuming change."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import pyarrow
import pytest
from datasets import Dataset, Features, Value
from torch.utils.data import DataLoader

from modeling_data2vec_generic.data.quality.reading import ROWS_READ, NothingReadable, Unreadable
from modeling_data2vec_generic.data.quality.screening import good_rows
from modeling_data2vec_generic.data.streams.layout import Layout, settled_layout
from modeling_data2vec_generic.data.streams.sample_stream import (
    PROGRESS,
    SampleStream,
    StreamBatch,
    StreamCollator,
    StreamPosition,
)
from modeling_data2vec_generic.data.streams.sharded_rows import DatasetRows, InterleavedRows, LimitedRows, ShardedRows

pytestmark = pytest.mark.fast

READ: Counter[int] = Counter()
DECODED: Counter[int] = Counter()


class Files(ShardedRows):
    """Files of some rows each, numbered from file to file. Negative sizes: the file breaks there."""

    features = Features({"text": Value("int64")})

    def __init__(self, *sizes: int):
        self.sizes, self.num_shards = sizes, len(sizes)

    def read(self, shard: int, start: int = 0) -> Iterator[pyarrow.Table]:
        size = self.sizes[shard]
        first = sum(map(abs, self.sizes[:shard]))
        for row in range(start, abs(size), 3):
            found = list(range(first + row, first + min(row + 3, abs(size))))
            READ.update(found)
            yield pyarrow.table({"text": found})
        if size < 0:
            raise OSError("cut off")

    def name(self, shard: int) -> str:
        return f"file {shard}"


class Preparation:
    """Numbers the rows and decodes them on access; some cannot be decoded, and others are left out before."""

    def __init__(self, unreadable: Any = (), left_out: Any = (), length: Any = None):
        self.unreadable, self.left_out, self.length = set(unreadable), set(left_out), length

    def __call__(self, raw: Dataset) -> Dataset:
        rows = raw.add_column("sample_index", list(range(len(raw))))
        problems = ["spoilt" if text in self.left_out else "" for text in rows["text"][:]]
        rows = rows.select(good_rows(problems, rows, noun="text", split="train", max_bad_fraction=0.0))
        if self.length is not None:
            rows = rows.add_column("length", [self.length(text) for text in rows["text"][:]])
        return rows.with_transform(self.decode)

    def decode(self, batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        if "text" in batch:
            DECODED.update(batch["text"])
            texts = [Unreadable("torn") if text in self.unreadable else text for text in batch["text"]]
            batch = {**batch, "text": texts}
        return batch


@pytest.fixture(autouse=True)
def nothing_counted():
    READ.clear()
    DECODED.clear()


def stream(rows: ShardedRows, layout: Layout, prepare: Any = None, **settings: Any) -> SampleStream:
    start = StreamPosition(layout)
    return SampleStream(
        rows, prepare or Preparation(), rows_in_memory=8, **{"batch_size": layout.block, "start": start} | settings
    )


def texts(batches: Any) -> list[int]:
    return [sample["text"] for batch in batches for sample in batch.samples]


def numbered(count: int) -> DatasetRows:
    return DatasetRows(Dataset.from_dict({"text": list(range(count))}))


def by_reader(
    of: SampleStream, count: int, processes: int, workers: int, monkeypatch: Any, only: int | None = None
) -> list[list[StreamBatch]]:
    """The first batches of each loader worker, or of one of them; `count` batches of all of them together."""
    found = []
    for rank in range(processes):
        for worker in range(workers):
            if only not in (None, rank * workers + worker):
                continue
            info = type("Info", (), {"num_workers": workers, "id": worker})
            monkeypatch.setattr("torch.utils.data.get_worker_info", lambda info=info: info)
            share = count // processes // workers
            found.append(list(islice(replace(of, rank=rank, num_processes=processes), share)))
    return found


@pytest.mark.parametrize(("lanes", "window"), [(1, 5), (1, 100), (3, 4), (4, 1)])
def test_stream__each_pass_gives_every_row_once(lanes, window):
    passes = texts(islice(stream(numbered(24), Layout(lanes, 2, window)), 36))
    for first in (0, 24, 48):
        assert sorted(passes[first : first + 24]) == list(range(24))
    assert window == 1 or passes[:24] != passes[24:48]


def test_stream__order_goes_with_the_seed():
    first, again, other = (texts(islice(stream(numbered(24), Layout(3, 2, 8), seed=seed), 20)) for seed in (1, 1, 2))
    assert first == again != other


def test_rows__are_read_and_decoded_by_one_reader_alone(monkeypatch):
    """4 processes with 2 workers each: N samples cost N decodes, and no two of them read the same row."""
    rows = Files(*[9] * 16)
    layout = settled_layout(rows, processes=4, workers=2, batch_size=3, rows_in_memory=16)
    whole = stream(rows, layout)
    wanted = Counter(texts(islice(whole, 40)))
    reads, decodes = [], []
    for reader in range(8):
        READ.clear()
        DECODED.clear()
        by_reader(whole, 40, 4, 2, monkeypatch, only=reader)
        reads.append(set(READ))
        decodes.append(Counter(DECODED))
    assert sum(decodes, Counter()) == wanted
    assert wanted.total() == 120
    assert max(Counter(row for read in reads for row in read).values()) == 1


@pytest.mark.parametrize(
    ("processes", "workers", "batch_size"), [(1, 1, 4), (1, 3, 4), (2, 2, 2), (4, 1, 1), (1, 1, 8)]
)
def test_readers__change_nothing_and_decode_nothing_twice(processes, workers, batch_size, monkeypatch):
    layout = Layout(4, 4, 5)
    wanted = [
        (s["sample_index"], s["text"]) for batch in islice(stream(numbered(50), layout), 24) for s in batch.samples
    ]
    DECODED.clear()
    divided = replace(stream(numbered(50), layout), batch_size=batch_size)
    found = by_reader(divided, 96 // batch_size, processes, workers, monkeypatch)
    samples = [(s["sample_index"], s["text"]) for batches in found for batch in batches for s in batch.samples]
    assert sorted(samples) == wanted
    assert [number for number, _ in wanted] == list(range(96))
    assert sum(DECODED.values()) == 96
    assert layout.has_own_lanes(processes * workers, batch_size, 0) == ((processes, workers) == (1, 1))


@pytest.mark.parametrize("rows", [Files(9, 4, -7, 0, 12, 1), numbered(31)])
def test_resumed_anywhere__equals_uninterrupted(rows):
    layout = Layout(3, 2, 4)
    prepare = Preparation(unreadable=[1, 14, 15, 16, 17], left_out=[5])
    whole = list(islice(stream(rows, layout, prepare), 27))  # into the third pass
    lanes: dict[int, Any] = {}
    for place, batch in enumerate(whole[:-5]):
        lanes |= batch.progress.lanes
        start = StreamPosition(layout, batch.progress.samples, dict(lanes))
        rest = list(islice(stream(rows, layout, prepare, start=start), 5))
        for wanted, found in zip(whole[place + 1 : place + 6], rest, strict=True):
            assert found.samples == wanted.samples
            assert found.progress.samples == wanted.progress.samples
            assert found.progress.lanes == wanted.progress.lanes


def test_resumed_stream__reads_a_window_of_each_lane_again():
    layout = Layout(2, 2, 6)
    progress = [batch.progress for batch in islice(stream(numbered(600), layout), 40)]
    READ.clear()
    lanes = progress[-2].lanes | progress[-1].lanes
    start = StreamPosition(layout, progress[-1].samples, lanes)
    DECODED.clear()
    rest = texts(islice(stream(numbered(600), layout, start=start), 2))
    assert all(at.samples <= 40 < at.samples + 6 for at in lanes.values())
    assert DECODED == Counter(rest)


def test_workers__change_nothing():
    def batches(workers: int, start: StreamPosition) -> list[Any]:
        of = stream(numbered(50), Layout(4, 3, 5), start=start)
        loader = DataLoader(of, batch_size=None, num_workers=workers, collate_fn=StreamCollator(collate))
        return list(islice(loader, 9))

    wanted = batches(0, StreamPosition(Layout(4, 3, 5)))
    assert batches(2, StreamPosition(Layout(4, 3, 5))) == wanted
    lanes = {number: at for batch in wanted[:5] for number, at in batch[PROGRESS].lanes.items()}
    middle = StreamPosition(Layout(4, 3, 5), 15, lanes)
    assert batches(2, middle)[:4] == wanted[5:]


def collate(examples: list[dict[str, Any]]) -> dict[str, Any]:
    return {"texts": [example["text"] for example in examples]}


def test_broken_and_empty_shards__are_made_up_for_by_the_others():
    rows = Files(6, -2, 0, 6, -1, 6)
    batches = list(islice(stream(rows, Layout(3, 2, 6), max_bad_fraction=0.5), 63))
    counts = Counter(texts(batches))
    assert set(counts) == {*range(6), 6, 7, *range(8, 14), 14, *range(15, 21)}  # up to where they break
    assert max(counts.values()) - min(counts.values()) <= 3  # in the long run all equally often
    assert batches[-1].progress.broken == {
        "file 1": "OSError after 2 rows: cut off", "file 4": "OSError after 1 rows: cut off"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (Files(6, -2, 6), r"1 of 3 shards .* max_bad_fraction=0\.1 .* file 1 \(OSError after 2 rows: cut off\)"),
        (Files(-0, -0), "has no rows"),
        (Files(), "has no rows"),
    ],
)
def test_too_many_broken_shards__are_an_error(rows, message):
    if not rows.num_shards:
        rows = numbered(0)
    with pytest.raises(ValueError, match=message):
        list(islice(stream(rows, Layout(1, 2, 6), max_bad_fraction=0.1), 20))


def test_bad_samples__are_replaced_without_moving_anything():
    layout = Layout(2, 2, 6)
    good = list(islice(stream(numbered(24), layout), 12))
    bad = {3, 8, *range(12, 18)}  # the last six are a whole window
    mended = list(islice(stream(numbered(24), layout, Preparation(unreadable=bad)), 12))
    assert [batch.progress for batch in mended] == [batch.progress for batch in good]
    reports = []
    for wanted, found in zip(good, mended, strict=True):
        for was, now in zip(wanted.samples, found.samples, strict=True):
            assert now["sample_index"] == was["sample_index"]
            assert now["text"] not in bad
            assert (now["text"] == was["text"]) == (was["text"] not in bad)
            reports += now[ROWS_READ].bad
    assert sorted(row.row for row in reports if row.counted) == sorted(bad)
    assert {row.reason for row in reports} == {"torn"}
    replaced = {was["text"]: now["text"] for w, f in zip(good, mended, strict=True)
                for was, now in zip(w.samples, f.samples, strict=True) if was["text"] in bad}  # fmt: skip
    assert (replaced[3], replaced[8]) == (4, 9)
    assert {replaced[row] for row in range(12, 18)} == {18}


def test_bad_samples__all_of_them():
    with pytest.raises(NothingReadable, match="All rows of a window of the stream, and 1000 behind it .* are bad"):
        next(iter(stream(numbered(24), Layout(2, 2, 6), Preparation(unreadable=range(24)))))


def test_values_that_turn_out_to_be_bad_when_used__are_replaced_alike():
    """As a JPEG file that is broken behind its header, which the collator finds."""

    class Late(Preparation):
        def decode(self, batch):
            if "text" in batch:
                batch = {**batch, "late": [text in bad for text in batch["text"]]}
            return batch

    def collate_or_raise(examples: list[dict[str, Any]]) -> dict[str, Any]:
        if any(example.get("late") for example in examples):
            raise Unreadable("torn")
        return {"samples": [(example["text"], example["sample_index"]) for example in examples]}

    bad, layout = {3, 8, *range(12, 18)}, Layout(2, 2, 6)
    collator = StreamCollator(collate_or_raise)
    late, early = (
        [collator(batch) for batch in islice(stream(numbered(24), layout, prepare), 12)]
        for prepare in (Late(), Preparation(unreadable=bad))
    )
    assert [batch["samples"] for batch in late] == [batch["samples"] for batch in early]
    assert [batch[ROWS_READ] for batch in late] == [batch[ROWS_READ] for batch in early]


def test_rows_that_are_left_out__are_reported_once(monkeypatch):
    layout = Layout(2, 4, 6)
    of = stream(numbered(24), layout, Preparation(left_out=[1, 2, 13]))
    for readers in ((1, 1), (1, 3), (2, 2)):
        found = by_reader(of, 12, *readers, monkeypatch)
        rows = [
            row for batches in found for batch in batches if batch.progress.samples <= 16 * readers[0]
            for sample in batch.samples for row in sample[ROWS_READ].bad if sample["sample_index"] < 16
        ]  # fmt: skip
        assert sorted((row.row, row.reason) for row in rows) == [(1, "spoilt"), (2, "spoilt"), (13, "spoilt")]


def test_stream_without_samples__is_an_error():
    with pytest.raises(ValueError, match="A whole pass over the stream gave no sample"):
        next(iter(stream(numbered(24), Layout(2, 4, 6), Preparation(left_out=range(24)))))


def test_by_length__batches_have_similar_lengths():
    lengths = np.random.default_rng(0).integers(1, 100, 400)
    layout = Layout(2, 8, 50)
    prepare = Preparation(length=lambda text: int(lengths[text]))
    spreads = {}
    for by_length in (False, True):
        batches = list(islice(stream(numbered(400), layout, prepare, by_length=by_length), 50))
        assert sorted(texts(batches)) == list(range(400))
        spreads[by_length] = np.mean([np.ptp([lengths[s["text"]] for s in batch.samples]) for batch in batches])
    assert spreads[True] < 0.4 * spreads[False]


def test_settled_layout__has_lanes_for_each_worker_and_for_other_numbers():
    assert settled_layout(numbered(100), 1, 0, 8, 1000) == Layout(4, 8, 250)
    assert settled_layout(numbered(100), 2, 3, 8, 1000) == Layout(24, 8, 83)
    assert settled_layout(Files(50, 50), 1, 1, 8, 1000) == Layout(1, 8, 1000)  # cannot be cut further
    for workers in (1, 2, 4):
        assert Layout(4, 8, 250).has_own_lanes(workers, 8, 80)
    assert not Layout(4, 8, 250).has_own_lanes(3, 8, 80)


@pytest.mark.parametrize("rows", [InterleavedRows(Files(7, 4), 3), LimitedRows(Files(7, 4), 5), numbered(11).cut(4)])
def test_shards__can_be_read_from_any_row(rows):
    whole = []
    for shard in range(rows.num_shards):
        found = [row for batch in rows.read(shard) for row in batch["text"].to_pylist()]
        for start in range(len(found) + 2):
            assert [row for batch in rows.read(shard, start) for row in batch["text"].to_pylist()] == found[start:]
        whole += found
    wanted = [0, 1, 7, 8, 9] if isinstance(rows, LimitedRows) else list(range(11))
    assert sorted(whole) == wanted
