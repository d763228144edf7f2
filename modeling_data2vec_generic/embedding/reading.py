"""Reads rows piece by piece, and makes batches of each piece, in which samples have similar lengths."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow
import pyarrow.compute
import torch
from accelerate import PartialState
from datasets import ClassLabel, Dataset
from numpy.typing import NDArray

from ..data.column_types import holds_files
from ..data.kinds_of_data import KINDS
from ..data.quality.reading import BadRow, Unreadable, reason_of
from ..data.quality.screening import NothingLeft, path_of
from ..data.streams.windows import in_memory, lengths_of, unattended
from ..evaluation.probe import Collate
from ..modalities import Modality
from .pieces import PieceId, Progress
from .sources import Source

# Columns of samples with the number of their row, the first of which that there is counts.
_NUMBERS = ("clip", "row", "sample_index")


@dataclass(frozen=True)
class Piece:
    """Consecutive rows of a shard, prepared.

    Args:
        rows: with canonical columns, bad ones left out.
        samples: made of them, decoded on access.
        read: how many rows were read, bad ones too.
        bad: rows without a sample, as `BadRows` lists them.
        last: whether they are the last ones of their shard.
    """

    rows: Dataset
    samples: Dataset
    read: int
    bad: list[dict[str, Any]]
    last: bool

    def numbers(self) -> NDArray[np.int64]:
        """The number of the row of each sample, (N,)."""
        if not len(self.samples):
            return np.zeros(0, np.int64)
        plain = self.samples.with_format(None)
        column = next(name for name in _NUMBERS if name in plain.column_names)
        return np.asarray(plain[column][:], dtype=np.int64)

    def about(self) -> pyarrow.Table:
        """What stands beside the vector of each sample: `row`, `part` and, where rows have them, `path` and `label`.

        `part` counts the samples of a row. Classes are given by name.
        """
        numbers = self.numbers()
        firsts = np.r_[True, numbers[1:] != numbers[:-1]] if len(numbers) else np.zeros(0, bool)
        starts = np.maximum.accumulate(np.where(firsts, np.arange(len(numbers)), 0))
        found: dict[str, Any] = {"row": numbers, "part": (np.arange(len(numbers)) - starts).astype(np.int32)}
        place = {int(number): place for place, number in enumerate(self.rows["sample_index"][:])}
        places = [place[number] for number in numbers.tolist()]
        if (paths := _paths(self.rows)) is not None:
            found["path"] = pyarrow.array([paths[place] for place in places], pyarrow.string())
        if "label" in self.rows.features:
            found["label"] = _labels(self.rows).take(pyarrow.array(places, pyarrow.int64()))
        return pyarrow.table(found)


def _paths(rows: Dataset) -> list[str | None] | None:
    """The path of each row's file, or first file; None if rows have no files."""
    column = next(kind.column for kind in KINDS.values() if kind.column in rows.features)
    if not holds_files(rows.features[column]):
        return None
    values = rows.with_format("arrow")[:][column]
    if pyarrow.types.is_struct(values.type):
        return [path or None for path in pyarrow.compute.struct_field(values, "path").to_pylist()]
    return [path_of(value.as_py()) for value in values]  # of clips, one at a time, since they may hold their frames


def _labels(rows: Dataset) -> pyarrow.Array:
    feature = rows.features["label"]
    values = rows.with_format("arrow")[:]["label"].combine_chunks()
    if not isinstance(feature, ClassLabel):
        return values
    names = pyarrow.array([*feature.names, None], pyarrow.string())
    # -1 is the convention of the Hub for rows whose class is not published.
    known = pyarrow.compute.if_else(pyarrow.compute.greater_equal(values, 0), values, len(feature.names))
    return names.take(pyarrow.compute.fill_null(known, len(feature.names)))


class Batch(NamedTuple):
    """Some samples of a piece, or what is known of it after its last sample.

    Args:
        piece: which piece.
        inputs: of the encoder; None after the last sample.
        places: of the samples in the piece.
        about: see `Piece.about`; None before the last sample.
        read, bad, last: as in `Piece`; `bad` also holds rows that could not be decoded.
    """

    piece: PieceId
    inputs: dict[str, Any] | None = None
    places: list[int] = []
    about: pyarrow.Table | None = None
    read: int = 0
    bad: Sequence[Mapping[str, Any]] = ()
    last: bool = False


@dataclass
class Reader(torch.utils.data.IterableDataset):
    """Batches of the pieces that have no vectors yet. Processes and their loader workers share out the shards.

    Which samples are in a batch depends on the piece alone.

    Args:
        sources: the rows.
        modality: prepares them, fitted to the encoder.
        collate: makes the encoder's inputs of samples.
        batch_size: samples in a batch at most.
        rows_per_piece: rows that are read at a time.
        equal_lengths: whether only samples of exactly the same length may be in a batch.
        progress: what has been done of each shard.
    """

    sources: Sequence[Source]
    modality: Modality
    collate: Collate
    batch_size: int
    rows_per_piece: int
    equal_lengths: bool
    progress: Progress

    def __post_init__(self) -> None:
        super().__init__()
        state = PartialState()
        self._process, self._processes = state.process_index, state.num_processes

    @property
    def shards(self) -> list[tuple[Source, int]]:
        """The shards of all sources in their order."""
        return [(source, shard) for source in self.sources for shard in range(source.rows.num_shards)]

    def __iter__(self) -> Iterator[Batch]:
        worker = torch.utils.data.get_worker_info()
        workers, own = (1, 0) if worker is None else (worker.num_workers, worker.id)
        readers, reader = self._processes * workers, self._process * workers + own
        for shard in range(reader, len(self.shards), readers):
            done = self.progress.of(shard)
            if done.ended:
                continue
            for number, piece in enumerate(self.pieces(shard, done.rows), start=done.pieces):
                yield from self._batches(PieceId(shard, number), piece, self.shards[shard][0].first or 0)

    def pieces(self, shard: int, start: int = 0) -> Iterator[Piece]:
        """The pieces of a shard, from one of its rows on."""
        source, own = self.shards[shard]
        waiting: list[pyarrow.Table] | None = None
        for number, tables in enumerate(_regrouped(source.rows.read(own, start), self.rows_per_piece)):
            if waiting is not None:
                yield self._prepared(source, waiting, f"{shard}-{start}-{number}", last=False)
            waiting = tables
        if waiting is not None:
            yield self._prepared(source, waiting, f"{shard}-{start}-last", last=True)

    def samples_of(self, name: PieceId, start: int, wanted: Sequence[tuple[int, int]]) -> Iterator[Any]:
        """Some samples of a piece again, decoded, each with its row.

        Args:
            name: which piece.
            start: rows of its shard before it.
            wanted: the numbers of their rows, as the piece has them, and their parts.

        Returns:
            For each its row, with canonical columns and files not decoded, and its sample.
        """
        source, _ = self.shards[name.shard]
        piece = next(self.pieces(name.shard, start))
        about = piece.about()
        ids = zip(about["row"].to_pylist(), about["part"].to_pylist(), strict=True)
        places = {(row + (source.first or 0), part): place for place, (row, part) in enumerate(ids)}
        rows = {number: place for place, number in enumerate(piece.rows["sample_index"][:])}
        undecoded = piece.rows.with_format(None)
        for row, part in wanted:
            yield undecoded[rows[row - (source.first or 0)]], piece.samples[places[row, part]]

    def _prepared(self, source: Source, tables: list[pyarrow.Table], name: str, last: bool) -> Piece:
        raw = in_memory(tables, source.rows.features, f"embed-{name}")
        rows = raw.select(range(0))
        with unattended() as bad:
            try:
                rows = source.canonical(raw)
                samples = self.modality.prepare_whole(rows, "train")
            except NothingLeft:
                samples = Dataset.from_dict({})
        return Piece(rows, samples, len(raw), bad, last)

    def _batches(self, name: PieceId, piece: Piece, first: int) -> Iterator[Batch]:
        """The batches of a piece. `first`: what is added to the numbers of its rows."""
        lengths = lengths_of(piece.samples) if len(piece.samples) else np.zeros(0, np.int64)
        order = np.argsort(-lengths, kind="stable")
        numbers = piece.numbers()
        bad = list(piece.bad)
        for start in range(0, len(order), self.batch_size):
            places = order[start : start + self.batch_size].tolist()
            found = zip(places, piece.samples.__getitems__(places), strict=True)
            good = []
            for place, sample in found:
                if (unreadable := reason_of(sample)) is None:
                    good.append((place, sample))
                else:
                    bad.append(_entry(int(numbers[place]), unreadable))
            for part, inputs in self._collated(good, numbers, bad):
                yield Batch(name, inputs, part)
        about = piece.about()
        about = about.set_column(0, "row", pyarrow.compute.add(about["row"], first))
        bad = [{**row, "row": row["row"] + first} for row in bad]
        yield Batch(name, None, [], about, piece.read, bad, piece.last)

    def _collated(
        self, good: list[tuple[int, Any]], numbers: NDArray[np.int64], bad: list[dict[str, Any]]
    ) -> Iterator[tuple[list[int], dict[str, Any]]]:
        """The places and the inputs of samples that can be collated. Those that cannot be are added to `bad`."""
        if not good:
            return
        try:
            inputs = self.collate([sample for _, sample in good])
        except Unreadable:  # by a sample whose values are decoded when they are used
            faults = [self._fault(sample) for _, sample in good]
            if not any(faults):
                raise
            bad += [
                _entry(int(numbers[place]), fault)
                for (place, _), fault in zip(good, faults, strict=True)
                if fault is not None
            ]
            good = [one for one, fault in zip(good, faults, strict=True) if fault is None]
            yield from self._collated(good, numbers, bad)
            return
        mask = inputs.get("attention_mask")
        if not self.equal_lengths or mask is None or mask.all():
            yield [place for place, _ in good], inputs
            return
        real = mask.sum(dim=1)
        for length in real.unique().tolist():
            same = [good[position] for position in (real == length).nonzero().flatten().tolist()]
            yield [place for place, _ in same], self.collate([sample for _, sample in same])

    def _fault(self, sample: Any) -> Unreadable | None:
        """Why a sample cannot be collated; None if it can be."""
        try:
            self.collate([sample])
        except Unreadable as error:
            return error
        return None


def _entry(row: int, unreadable: Unreadable) -> dict[str, Any]:
    return BadRow("train", row, unreadable.reason, unreadable.path).entry()


def _regrouped(tables: Iterable[pyarrow.Table], size: int) -> Iterator[list[pyarrow.Table]]:
    """The same rows in groups of `size`; the last group may have fewer."""
    group: list[pyarrow.Table] = []
    missing = size
    for table in tables:
        while len(table):
            group.append(table[:missing])
            table, missing = table[missing:], missing - len(group[-1])
            if not missing:
                yield group
                group, missing = [], size
    if group:
        yield group
