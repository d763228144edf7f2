"""Opens a source as a stream, whose rows are read one after the other, without a copy on the disk or in memory."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow
from datasets import Dataset, DatasetDict, Features, IterableDataset, Value
from transformers.utils import logging

from ..arguments import DataArguments
from ..folders.loading import load_folder
from ..kinds_of_data import KINDS
from ..streams.first_rows import first_rows
from ..streams.mixed_rows import MixedRows, MixedSource
from ..streams.sharded_rows import DatasetRows, IterableRows, ShardedRows, limited
from ..summary import note
from ..tables.table import Choice, Table
from ..tables.untyped.value_types import PROBLEM
from .columns import canonical, columns_of_source, encode_labels, renamed
from .hub import builder_of, loading_hub, train_and_validation
from .listing import separate_sources, source_name, sources_of
from .mixing import joined
from .opening import open_splits

logger = logging.get_logger(__name__)

DEFAULT_EVAL_SAMPLES = 2000
_ORDER_SEED = 0  # of the order of the files in a folder
_TYPED_BY = 100  # rows from which the types of columns are inferred if the source does not state them
# The flags that determine which samples a stream has, and in which order.
_IDENTITY = (
    *("dataset_name", "dataset_config_name", "train_file", "train_dir", "dataset_weights"),
    *(kind.column_flag for kind in KINDS.values()),
    *("max_train_samples", "shuffle_buffer_size", "max_seq_length", "line_by_line"),
    *("min_duration_in_seconds", "max_duration_in_seconds"),
)


@dataclass
class StreamedSource:
    """Training rows as a stream.

    Args:
        rows: the rows, with files not decoded.
        chosen: the columns that are used, by their canonical names.
        head: rows in the form of `load_raw_datasets`: `train`, rows from all parts of the source, and `validation`, if
            the source has validation data. The training rows of `head` are used in place of all training rows for what
            is settled before training: the tokenizer, the shape of series, and the probe.
        identity: the settings that a resumed run must share with the run that saved its checkpoint.
    """

    rows: ShardedRows
    chosen: Choice
    head: DatasetDict
    identity: dict[str, Any]

    def prepared_by(self, args: DataArguments) -> "StreamedSource":
        """The same stream, with flags that were chosen by its first rows in its identity."""
        return replace(self, identity=self.identity | {name: getattr(args, name) for name in _IDENTITY})


def stream_types(args: DataArguments) -> Features:
    """The types of the columns of the training rows."""
    rows = _open(args, None)["train"]
    return _typed(rows, "training")[1] if isinstance(rows, IterableDataset) else rows.features


def open_stream(args: DataArguments, modality: str, seed: int) -> StreamedSource:
    """Opens the source that the flags name as a stream.

    Validation rows are the first `max_eval_samples` (default 2,000) of a validation file or folder, or of the
    dataset's own validation or test split. If there is none of these, there are no validation rows: nothing is held
    out of a stream.

    Args:
        args: the flags.
        modality: the modality of the data.
        seed: the seed of the run, which becomes part of `identity`.

    Raises:
        ValueError: data are missing or empty, or a column is missing or cannot be used.
    """
    sources = separate_sources(args)
    opened = [
        {split: _chosen(rows, modality, source, split) for split, rows in _open(source, modality).items()}
        for source in sources
    ]
    weights = args.dataset_weights or [1.0]
    shares = [weight / sum(weights) for weight in weights]
    names = [source_name(source) for source in sources_of(args)]
    heads = [
        _head(splits, source, modality, share) for splits, source, share in zip(opened, sources, shares, strict=True)
    ]
    head = {"train": joined([found["train"] for found in heads], names, "train")}
    if given := {name: found["validation"] for name, found in zip(names, heads, strict=True) if "validation" in found}:
        head["validation"] = joined(list(given.values()), list(given), "validation")
    if len(opened) == 1:
        rows, chosen = opened[0]["train"]
    else:
        rows, chosen = _mixed([splits["train"] for splits in opened], shares, head["train"], seed)
    if args.max_train_samples is not None:
        rows = limited(rows, args.max_train_samples)
    note("train", f"{len(head['train'])} rows of the stream are looked at here, the others during training.")
    if "validation" not in head:
        note("validation", "There are no rows, and so no evaluation: give --validation_file or --validation_dir.")
    identity = {name: getattr(args, name) for name in _IDENTITY} | {"modality": modality, "seed": seed}
    tables = [splits["train"][0].table for splits in opened if isinstance(splits["train"][0], TableRows)]
    if tables:
        identity["bytes"] = sum(path.stat().st_size for table in tables for path in table.paths)
    return StreamedSource(rows, chosen, DatasetDict(encode_labels(head, args)), identity)


def stream_in_order(args: DataArguments, modality: str) -> dict[str, tuple[ShardedRows, Choice]]:
    """The splits of one source as streams whose rows have the order of the source, not mixed and not limited.

    Args:
        args: the flags of one source (see `sources_of`).
        modality: the modality of the data.

    Returns:
        For each split its rows, with files not decoded, and the columns that are used, by their canonical names.

    Raises:
        ValueError: as `open_stream`.
    """
    opened = open_splits(
        args, modality, built_in=lambda rows: rows, table=lambda rows: rows, hub=_open_hub, folder=load_folder
    )
    return {split: _chosen(rows, modality, args, split) for split, rows in opened.items()}


def _head(splits: dict[str, tuple], args: DataArguments, modality: str, share: float) -> dict[str, Dataset]:
    """The first rows of the splits of one source, with canonical columns; of the training rows its share."""
    train = splits["train"][0]
    if args.max_train_samples is not None:
        train = limited(train, args.max_train_samples)
    found = {"train": first_rows(train, max(1, round(args.shuffle_buffer_size * share)))}
    if "validation" in splits:
        found["validation"] = first_rows(
            splits["validation"][0], args.max_eval_samples or DEFAULT_EVAL_SAMPLES, parts=1
        )
    return {split: canonical(renamed(rows, splits[split][1]), modality, args, split) for split, rows in found.items()}


def _mixed(sources: list[tuple], weights: list[float], head: Dataset, seed: int) -> tuple[MixedRows, Choice]:
    """The training rows of several sources without labels, and their columns. `head`: some of them, in their form."""
    features = {name: feature for name, feature in head.features.items() if name not in ("sample_index", "label")}
    features[PROBLEM] = Value("string")  # of rows of csv, JSON and tar files
    mixed = [MixedSource(rows, chosen, weight) for (rows, chosen), weight in zip(sources, weights, strict=True)]
    return MixedRows(mixed, Features(features), seed), {name: name for name in features}


@dataclass
class TableRows(ShardedRows):
    """The chosen columns of a `Table`, whose shards are its pieces.

    Args:
        table: the table.
        chosen: the columns that are used, by their canonical names.
        count: about how many pieces to cut it into. There is at least one for each file.
    """

    table: Table
    chosen: Choice
    count: int = 1

    def __post_init__(self) -> None:
        self.features = self.table.stored(self.chosen)
        self.pieces = self.table.shards(self.count)
        self.num_shards = len(self.pieces)

    def read(self, shard: int, start: int = 0) -> Iterator[pyarrow.Table]:
        return self.table.tables_of(self.pieces[shard], self.chosen, start)

    def name(self, shard: int) -> str:
        piece = self.pieces[shard]
        return f"{piece.path} (piece from {piece.start} on)" if piece.start else str(piece.path)

    def cut(self, count: int) -> "TableRows":
        if count <= self.num_shards:
            return self
        cut = TableRows(self.table, self.chosen, count)
        return cut if cut.num_shards >= count else TableRows(self.table, self.chosen, 2 * count)  # it was rounded


@dataclass(frozen=True)
class WindowPreparation:
    """Makes samples from the rows of a window of a stream, for pre-training and therefore without labels.

    It is a class since, unlike a closure, it can be pickled for loader workers that are spawned.

    Args:
        data_args: the flags.
        modality: the modality of the data.
        chosen: the columns that are used, by their canonical names.
        prepare: makes samples from rows with canonical columns.
    """

    data_args: DataArguments
    modality: str
    chosen: Choice
    prepare: Callable[[Dataset], Dataset]

    def __call__(self, raw: Dataset) -> Dataset:
        rows = canonical(renamed(raw, self.chosen), self.modality, self.data_args, "train", labels=None)
        return self.prepare(rows)


def _chosen(rows: Dataset | IterableDataset | Table, modality: str, args: DataArguments, split: str) -> tuple:
    """A split in shards, and the columns that are used, by their canonical names."""
    if isinstance(rows, Table):
        chosen = columns_of_source(rows, modality, args, split)
        return TableRows(rows, chosen), {name: name for name in rows.stored(chosen)}
    sharded = DatasetRows(rows) if isinstance(rows, Dataset) else IterableRows(*_typed(rows, split))
    return sharded, columns_of_source(sharded, modality, args, split)


def _open(args: DataArguments, modality: str | None) -> dict[str, Dataset | IterableDataset | Table]:
    return open_splits(
        args,
        modality,
        built_in=lambda rows: rows,
        table=lambda rows: rows,
        hub=_open_hub,
        folder=_open_folder,
    )


def _open_hub(name: str, config_name: str | None) -> dict[str, IterableDataset]:
    shown = f"dataset_name={name!r}"
    with loading_hub(shown):
        found = builder_of(name, config_name).as_streaming_dataset()
    return train_and_validation({str(split): rows for split, rows in found.items()}, shown)


def _open_folder(folder: str, flag: str, modality: str | None, labels_wanted: bool) -> dict[str, Any]:
    """The files of a folder in a fixed random order, since sorted by name they would be sorted by class."""
    return {
        split: files.select(np.random.default_rng(_ORDER_SEED).permutation(len(files)))
        for split, files in load_folder(folder, flag, modality, labels_wanted).items()
    }


def _typed(stream: IterableDataset, split: str) -> tuple[IterableDataset, Features]:
    """The stream, without decoding of files, and the types of its columns."""
    features = stream.features
    if features is None:
        features = Dataset.from_list(list(stream.take(_TYPED_BY))).features
        if not features:
            raise ValueError(f"The {split} stream has no rows. Give a source with data.")
        return stream, features
    stream = stream.decode(False)
    return stream, stream.features
