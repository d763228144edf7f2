"""Files of several formats as one table."""

from collections.abc import Collection, Iterator, Mapping
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow
from datasets import Features
from datasets.table import table_cast

from .columnar import ArrowTable, ParquetTable
from .compressed import ending_of, is_compressed
from .fasta import FASTA_ENDINGS, FastaTable
from .lines import TextTable
from .table import Choice, Piece, Table
from .untyped.csv_files import CsvTable
from .untyped.json_files import JsonTable
from .untyped.table import as_json
from .untyped.tar_shards import TarTable
from .untyped.value_types import PROBLEM

KINDS: Mapping[str, type[Table]] = {
    ".csv": CsvTable,
    ".tsv": CsvTable,
    ".json": JsonTable,
    ".jsonl": JsonTable,
    ".txt": TextTable,
    ".parquet": ParquetTable,
    ".arrow": ArrowTable,
    ".tar": TarTable,
    **dict.fromkeys(FASTA_ENDINGS, FastaTable),
}


def kind_of(path: Path) -> type[Table] | None:
    """The kind of table that a file is, by its extension; None if that is unknown."""
    kind = KINDS.get(ending_of(path))
    return None if kind in (ParquetTable, ArrowTable) and is_compressed(path) else kind


class JoinedTable(Table):
    """Files of several formats. Their columns have the types that csv and JSON give, if there are any of these."""

    kind = "several formats"

    def __init__(self, paths: list[Path], name: str, folder: Path | None = None) -> None:
        super().__init__(paths, name, folder)
        self.untyped = any(part.untyped for part in self._parts)

    @cached_property
    def _parts(self) -> list[Table]:
        return [kind(list(paths), self.name, self.folder) for kind, paths in groupby(self.paths, kind_of) if kind]

    @cached_property
    def _part_of(self) -> dict[Path, Table]:
        return {path: part for part in self._parts for path in part.paths}

    @property
    def _model(self) -> Table:
        """The part whose types all others are given."""
        return next((part for part in self._parts if part.untyped), self._parts[0])

    @property
    def features(self) -> Features:
        return self._parts[0].features

    @property
    def layout(self) -> str:
        return "; ".join(part.layout for part in self._parts)

    def columns_in(self, path: Path) -> Collection[str]:
        return self._part_of[path].columns_in(path)

    def stored(self, choice: Choice) -> Features:
        return self._model.stored(choice)

    def pieces_of(self, path: Path, count: int) -> list[Piece]:
        return self._part_of[path].pieces_of(path, count)

    def rows_of(self, piece: Piece, choice: Choice, skip_rows: int) -> Iterator[pyarrow.Table]:
        schema = self.stored(choice).arrow_schema
        part = self._part_of[piece.path]
        for rows in part.rows_of(piece, choice, skip_rows):
            columns = dict(zip(rows.column_names, rows.columns, strict=True))
            if self.untyped and not part.untyped:
                columns[PROBLEM] = pyarrow.nulls(len(rows), pyarrow.string())
                if "label" in columns:
                    columns["label"] = pyarrow.array(map(_label, columns["label"].to_pylist()), pyarrow.string())
            yield table_cast(pyarrow.table(columns), schema)

    def failed(self, path: Path, error: Exception) -> ValueError:
        part = self._part_of[path]
        return ValueError(f"{self.name} cannot be read as {part.kind} ({path}): {error}.")


def _label(value: Any) -> str | None:
    return None if value is None else as_json(value)
