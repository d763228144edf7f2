"""Makes data sets of the rows of a table with a builder of `datasets`, which caches them, or streams them.

The builder gets a list of pieces. `datasets` divides such a list among processes, and keeps its order.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow
from datasets import (
    ArrowBasedBuilder,
    BuilderConfig,
    Dataset,
    DatasetInfo,
    Features,
    IterableDataset,
    SplitGenerator,
)
from datasets.exceptions import DatasetGenerationError

from ..cache_keys import code_version, file_state

_BYTES = 1 << 25  # of the files that a process is started for, which takes longer than reading fewer
_ROWS_TOGETHER = 1 << 16  # of a batch in the cache, whose other limit is _BYTES
_PIECES = 4  # for each process, since pieces of the same size may take different times


@dataclass(frozen=True)
class Rows:
    """The chosen columns of a table, in a form that can be pickled and that the key of the cache is made of.

    Args:
        kind: the class of the table.
        paths: its files.
        name: what they are called in messages.
        folder: what paths in their rows are relative to.
        choice: the columns that are used, by canonical name.
    """

    kind: type[Any]
    paths: tuple[str, ...]
    name: str
    folder: Path | None
    choice: dict[str, Any]

    def table(self) -> Any:
        """The table, newly opened."""
        return self.kind([Path(path) for path in self.paths], self.name, self.folder)


@dataclass
class _Config(BuilderConfig):
    """What the rows depend on. The key of the cache is a hash of this."""

    rows: Rows | None = None
    columns: Features | None = None
    key: Any = None


class _Builder(ArrowBasedBuilder):
    """A builder of datasets that reads pieces of a table."""

    BUILDER_CONFIG_CLASS = _Config
    DEFAULT_WRITER_BATCH_SIZE = _ROWS_TOGETHER
    config: _Config
    pieces: list[Any]

    def _info(self) -> DatasetInfo:
        return DatasetInfo(features=self.config.columns)

    def _split_generators(self, dl_manager: Any) -> list[SplitGenerator]:
        return [SplitGenerator("train", gen_kwargs={"pieces": self.pieces})]

    def _generate_tables(self, pieces: list[Any]) -> Iterator[tuple[tuple[int, int], pyarrow.Table]]:
        assert self.config.rows is not None
        table = self.config.rows.table()
        for number, piece in enumerate(pieces):
            try:
                for place, rows in enumerate(_together(table.tables_of(piece, self.config.rows.choice))):
                    yield (number, place), rows
            except ValueError as error:
                # From another process only the exception itself comes back, without its cause.
                raise DatasetGenerationError(str(error)) from error


def _together(tables: Iterator[pyarrow.Table]) -> Iterator[pyarrow.Table]:
    """The same rows in larger batches. Each batch of the file in the cache takes time and memory when it is opened."""
    waiting: list[pyarrow.Table] = []
    rows, size = 0, 0
    for table in tables:
        waiting.append(table)
        rows, size = rows + len(table), size + table.nbytes
        if size >= _BYTES or rows >= _ROWS_TOGETHER:
            yield pyarrow.concat_tables(waiting)
            waiting, rows, size = [], 0, 0
    if waiting:
        yield pyarrow.concat_tables(waiting)


def load_rows(rows: Rows, most_processes: int) -> Dataset | None:
    """The rows, from the cache if they are in it; None if there are none.

    Args:
        rows: what to read.
        most_processes: the largest number of processes that read them.

    Raises:
        ValueError: a file cannot be read.
    """
    size = sum(Path(path).stat().st_size for path in rows.paths)
    processes = max(1, min(most_processes, size // _BYTES))
    builder = _builder(rows, 1 if processes == 1 else _PIECES * processes)
    processes = min(processes, len(builder.pieces))
    try:
        builder.download_and_prepare(num_proc=processes if processes > 1 else None)
    except DatasetGenerationError as error:
        raise ValueError(str(error)) from error
    # as_dataset would fail without rows
    return builder.as_dataset("train") if builder.info.splits["train"].num_examples else None


def stream_rows(rows: Rows) -> IterableDataset:
    """The rows as a stream."""
    return _builder(rows, 1).as_streaming_dataset("train")


def _builder(rows: Rows, pieces: int) -> _Builder:
    table = rows.table()
    key = (code_version(), [file_state(path) for path in rows.paths])
    builder = _Builder(rows=rows, columns=table.stored(rows.choice), key=key)
    builder.pieces = table.shards(pieces)
    return builder
