"""Rows that stand for a whole stream before it is read, as those for a tokenizer or the probe."""

from collections.abc import Iterator
from itertools import chain

import pyarrow
from datasets import Dataset, DatasetInfo
from datasets.table import InMemoryTable, table_cast
from transformers.utils import logging

from .sharded_rows import ShardedRows

logger = logging.get_logger(__name__)

_PARTS = 16


def first_rows(rows: ShardedRows, count: int, parts: int = _PARTS) -> Dataset:
    """At most `count` rows, in memory: equally many from the beginnings of several shards.

    These shards are spread over the source, whose rows may be sorted by class or by file. If they have too few rows,
    the others make up for them. Shards that cannot be read are passed over.

    Args:
        parts: the number of shards that are read first, if there are so many.

    Raises:
        ValueError: there are no rows, or no shard can be read.
    """
    rows = rows.cut(parts)
    parts = max(min(parts, rows.num_shards, count), 1)
    spread = [place * rows.num_shards // parts for place in range(parts)]
    shards = [_Shard(rows, shard) for shard in spread]
    ends = [count * place // parts for place in range(parts + 1)]
    found = [
        table for shard, start, end in zip(shards, ends, ends[1:], strict=False) for table in shard.take(end - start)
    ]
    missing = count - sum(map(len, found))
    others = (_Shard(rows, shard) for shard in range(rows.num_shards) if shard not in spread)
    for shard in chain(shards, others):
        if not missing:
            break
        more = shard.take(missing)
        missing -= sum(map(len, more))
        found += more
    if not found:
        errors = [shard.error for shard in shards if shard.error is not None]
        raise ValueError(str(errors[0]) if errors else "The stream has no rows. Give a source with data.")
    schema = rows.features.arrow_schema
    table = pyarrow.concat_tables([table_cast(part, schema) for part in found])
    return Dataset(InMemoryTable(table), info=DatasetInfo(features=rows.features))


class _Shard:
    """A shard that is read from its beginning, until it ends or cannot be read on."""

    def __init__(self, rows: ShardedRows, shard: int) -> None:
        self.error: Exception | None = None
        self._batches = self._readable(rows, shard)
        self._waiting: pyarrow.Table | None = None

    def take(self, count: int) -> list[pyarrow.Table]:
        """The next `count` rows, or as many as there are."""
        found = []
        while count:
            batch = self._waiting or next(self._batches, None)
            if batch is None:
                break
            found.append(batch[:count])
            self._waiting = batch[count:]
            count -= len(found[-1])
        return found

    def _readable(self, rows: ShardedRows, shard: int) -> Iterator[pyarrow.Table]:
        try:
            yield from filter(len, rows.read(shard))
        except Exception as error:  # readers of the many formats raise exceptions of many types
            self.error = error
            logger.warning(f"{rows.name(shard)} of the stream cannot be read ({type(error).__name__}: {error}).")
