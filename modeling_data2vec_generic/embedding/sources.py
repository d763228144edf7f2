"""The rows that are embedded: the sources that words name, and their rows in shards that are read on their own."""

import glob
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from datasets import ClassLabel, Dataset, LargeList, List, Value
from transformers.utils import logging

from ..data.arguments import SOURCE_FLAGS, DataArguments
from ..data.quality.screening import collecting, some_rows
from ..data.sources.built_in import BUILT_IN
from ..data.sources.columns import canonical, renamed
from ..data.sources.listing import source_name
from ..data.sources.raw_datasets import infer_modality, read_source
from ..data.sources.streamed_source import TableRows, stream_in_order
from ..data.streams.first_rows import first_rows
from ..data.streams.sharded_rows import DatasetRows, ShardedRows
from ..data.tables.joined import kind_of
from ..data.tables.table import Choice
from ..training.arguments import ModelArguments
from ..training.checkpointing.same_run import describe_data
from ..training.encoders import main_input_of

logger = logging.get_logger(__name__)

_LOOKED_AT = 256  # rows of a stream that are looked at before all others


@dataclass(frozen=True)
class Source:
    """The rows of one source.

    Args:
        rows: the rows in shards, with files not decoded.
        args: the flags of this source.
        modality: the modality of the rows.
        chosen: the columns that are used, by their canonical names; None: the rows have their canonical form.
        first: the number of the first row; None if rows are numbered once all have been read.
        bad: rows that could not be read, as `BadRows` lists them; those of a stream are found later.
    """

    rows: ShardedRows
    args: DataArguments
    modality: str
    chosen: Choice | None
    first: int | None
    bad: tuple[dict[str, Any], ...] = ()

    @property
    def count(self) -> int | None:
        """The number of rows that can be read; None if it is not known."""
        return len(self.rows.rows) if isinstance(self.rows, DatasetRows) else None

    def canonical(self, rows: Dataset) -> Dataset:
        """Rows of this source with the columns of `load_raw_datasets`. Their `sample_index` counts from the first row
        of the source or, if rows are not numbered yet, from the first one here."""
        if self.chosen is not None:
            rows = canonical(renamed(rows, self.chosen), self.modality, self.args, "train")
        feature = rows.features.get("label")
        return rows if feature is None or _is_plain(feature) else rows.remove_columns("label")

    def head(self) -> Dataset:
        """Some rows, without labels, by which is settled what holds for all of them."""
        if isinstance(self.rows, DatasetRows):
            rows = some_rows(self.rows.rows.with_format(None))
        else:
            rows = first_rows(self.rows, _LOOKED_AT)
        rows = self.canonical(rows)
        return rows.remove_columns("label") if "label" in rows.features else rows

    def identity(self) -> dict[str, Any]:
        """What tells these rows from others: how many there are and what some of them are, or the size of a stream."""
        if isinstance(self.rows, DatasetRows):
            return describe_data(self.rows.rows)
        if isinstance(self.rows, TableRows):
            return {"bytes": sum(path.stat().st_size for path in self.rows.table.paths)}
        return {}

    def cut(self, count: int) -> "Source":
        """The same rows in at least so many shards, if they can be cut."""
        return replace(self, rows=self.rows.cut(count))


def _is_plain(feature: Any) -> bool:
    """Whether labels of a type can stand beside vectors: not those that are images."""
    if isinstance(feature, List | LargeList):
        return _is_plain(feature.feature)
    return isinstance(feature, ClassLabel | Value)


def flags_of_sources(data: Sequence[str], settings: DataArguments) -> list[DataArguments]:
    """The flags of each source that some words name.

    Folders are train_dir. Files and patterns of files that follow one another are one train_file. Other words are the
    name of built-in data or of a dataset of the Hub. Without words, the flags name the source.

    Raises:
        ValueError: there are words and flags that name sources, or neither.
    """
    given = [name for name in SOURCE_FLAGS if getattr(settings, name) is not None]
    if given and data:
        raise ValueError(f"{source_name(settings)} names data, and so do {', '.join(data)}: give one of them.")
    if not data:
        if not given:
            raise ValueError("No data: name a folder, files, a dataset of the Hub or built-in data after the model.")
        return [settings]
    groups = [(flag, list(words)) for flag, words in groupby(data, _flag_of)]
    return [
        replace(settings, **{flag: values})  # type: ignore[arg-type]
        for flag, words in groups
        for values in ([words] if flag == "train_file" else [[word] for word in words])
    ]


def _flag_of(word: str) -> str:
    path = Path(word)
    if word in BUILT_IN:
        return "dataset_name"
    if path.is_dir():
        return "train_dir"
    if path.is_file() or glob.has_magic(word) or kind_of(path) is not None:
        return "train_file"
    return "dataset_name"


def modality_of(sources: Sequence[DataArguments], model_args: ModelArguments) -> str:
    """The modality of all sources.

    Raises:
        ValueError: it is not clear, or sources have different ones.
    """
    found = {source_name(args): infer_modality(args, partial(main_input_of, model_args)) for args in sources}
    if len(set(found.values())) > 1:
        raise ValueError(
            f"{'; '.join(f'{name} holds {modality}' for name, modality in found.items())}: embed one kind of data at "
            "a time, or say what they are with --modality."
        )
    return next(iter(found.values()))


def open_sources(flags: Sequence[DataArguments], modality: str, split: str, rows_per_piece: int) -> list[Source]:
    """Opens sources in their order. Without --streaming, all rows are in the cache of datasets afterwards.

    Args:
        flags: of each source.
        modality: the modality of all of them.
        split: "train" or "validation".
        rows_per_piece: rows in a shard, if the source can be cut anywhere.

    Raises:
        ValueError: data are missing or empty, a column is missing or cannot be used, or there is no such split.
    """
    sources = []
    first = 0
    for args in flags:
        if args.streaming:
            rows, chosen = _split_of(stream_in_order(args, modality), split, args)
            sources.append(Source(rows, args, modality, chosen, None))
            continue
        with collecting() as bad:
            splits, counts = read_source(args, modality)
        dataset = _split_of(splits, split, args)
        shards = DatasetRows(dataset, math.ceil(len(dataset) / rows_per_piece))
        unread = tuple({**row, "row": row["row"] + first} for row in bad if row["split"] == split)
        sources.append(Source(shards, args, modality, None, first, unread))
        first += counts[split]
    return sources


def _split_of(splits: dict[str, Any], split: str, args: DataArguments) -> Any:
    if split not in splits:
        raise ValueError(f"{source_name(args)} has no {split} rows. It has: {', '.join(splits)}.")
    if others := [name for name in splits if name != split]:
        logger.info(f"{source_name(args)} also has rows for {others[0]}, which --split {others[0]} embeds.")
    return splits[split]
