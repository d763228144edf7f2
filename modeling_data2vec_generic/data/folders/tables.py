"""Finds the tables that name the files of a folder, the column with the names, and what these are relative to."""

import os
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.compute
from datasets import Dataset
from datasets.fingerprint import Hasher

from ..arrow_cache import cached_rows
from ..cache_keys import code_version, file_state
from ..column_types import is_text
from ..summary import note
from ..tables.compressed import COMPRESSIONS, ending_of, is_compressed
from ..tables.opening import load_file, table_of
from .listing import Listing, split_of

_KNOWN = "metadata"  # the name that datasets uses
_LABELS = "labels"
_ENDINGS = (".csv", ".tsv", ".json", ".jsonl", ".parquet")
# Names of columns that name files, the first ones first: the name that datasets uses wins over all others.
_COLUMNS = ("file_name", "path", "image", "audio", "video", "file", "filename", "filepath", "file_path")
_MOST = 100  # tables that are looked at; more are files of single samples
_AT_ONCE = 1 << 16


@dataclass(frozen=True)
class NamingTable:
    """A table that names files of a folder.

    Args:
        path: its absolute path.
        number: its number in the list of files; None if it is beside the folder.
        folder: the absolute path of the folder that it describes.
        column: the column with the names.
        base: the absolute path of the folder that the names are relative to.
        rows: the other columns.
        paths: the absolute paths of the named files or clips, (N,).
    """

    path: str
    number: int | None
    folder: str
    column: str
    base: str
    rows: Dataset
    paths: pyarrow.Array


def naming_tables(listing: Listing, sample_paths: Callable[[], pyarrow.Array], flag: str) -> list[NamingTable]:
    """The tables that name files of the folder; arguments and errors as `metadata_of`.

    - Each csv, tsv, JSON or parquet file that is called metadata, anywhere in the folder.
    - Otherwise a table, however called, for each folder: in it, or beside it if it has the name of the folder, as
      train.csv beside train. If several name files of a folder, it is the one with its name, or else `labels`.

    Names are relative to the folder of the table, to the folder that it describes, or to one of the folders in it,
    wherever the files are. A metadata table in whose own folder files are named means these.
    """
    found: list[tuple[int | None, str]] = [(number, listing.path(number)) for number in _tables_in(listing)]
    known = [(number, path) for number, path in found if _stem(path) == _KNOWN]
    if not known and len(found) > _MOST:
        return []
    if not known:
        beside = Path(listing.root).parent
        found += [(None, str(beside / name)) for name in _names_of_tables(os.path.basename(listing.root), beside)]
    wanted: list[NamingTable] = []
    existing: pyarrow.Array | None = None
    for number, path in known or found:
        column = _column_of(path, flag) if known else _candidate(path, flag)
        if column is None:
            if known:
                columns = ", ".join(_COLUMNS)
                note(split_of(flag), f"{os.path.basename(path)} is not read: it has no column of names ({columns}).")
            continue
        existing = sample_paths() if existing is None else existing
        table = _named_by(path, number, column, listing, existing, flag)
        if known or _are_in(table.paths, existing):
            wanted.append(table)
    return wanted if known else _one_for_each_folder(wanted, flag)


def _tables_in(listing: Listing) -> list[int]:
    numbers = np.flatnonzero(listing.with_ending((*_ENDINGS, *COMPRESSIONS))).tolist()
    return [number for number in numbers if _is_table(Path(listing.path(number)))]


def _is_table(path: Path) -> bool:
    return ending_of(path) in _ENDINGS and not (ending_of(path) == ".parquet" and is_compressed(path))


def _names_of_tables(stem: str, folder: Path) -> list[str]:
    """The names of the tables in `folder` that are called `stem`."""
    names = [f"{stem}{ending}{packed}" for ending in _ENDINGS for packed in ("", *COMPRESSIONS)]
    return [name for name in names if _is_table(Path(name)) and (folder / name).is_file()]


def _stem(path: str) -> str:
    """The name of a table without its extensions, in lower case."""
    name = os.path.basename(path)
    return Path(Path(name).stem if is_compressed(Path(name)) else name).stem.lower()


def _column_of(path: str, flag: str) -> str | None:
    """The column of a table that names files; None if there is none."""
    table = table_of([Path(path)], f"{flag} ({path})")
    named = [name for name in _COLUMNS if name in table.features]
    texts = [name for name in named if is_text(table.stored({"names": name})["names"])]
    if len(texts) > 1 and texts[0] != _COLUMNS[0]:
        raise _Unclear(
            f"{path} has several columns that may name the files of {flag}: {', '.join(texts)}. Call the right one "
            f"{_COLUMNS[0]}, or give the table as --train_file."
        )
    return texts[0] if texts else None


def _candidate(path: str, flag: str) -> str | None:
    """As `_column_of`; None if the file cannot be read either, since any file may lie beside the data."""
    try:
        return _column_of(path, flag) if os.path.getsize(path) else None
    except _Unclear:
        raise
    except (ValueError, OSError):
        return None


class _Unclear(ValueError):
    """It is not clear which column or table is meant."""


def _named_by(
    path: str, number: int | None, column: str, listing: Listing, existing: pyarrow.Array, flag: str
) -> NamingTable:
    rows = _rows(path, flag)
    own = os.path.dirname(path)
    folder = os.path.join(own, _stem_as_written(path))
    if not os.path.isdir(folder):
        folder = own if number is not None else listing.root
    names = rows.select_columns(column).with_format("arrow")[:][column].cast(pyarrow.string())
    bases = list(dict.fromkeys((own, folder, *_folders_in(folder, listing))))
    hits: dict[str, int] = {}
    for base in bases:
        count = _are_in(_joined(base, names), existing)
        if count:
            hits[base] = count
        if base == own and count and _stem(path) == _KNOWN:
            break
    if len(hits) > 1:
        choices = ", ".join(f"{base} ({count} of {len(names)})" for base, count in hits.items())
        raise ValueError(
            f"Column {column!r} of {path} names files that exist in several folders: {choices}. Write paths that are "
            "relative to the folder of the table and exist there alone."
        )
    base = next(iter(hits), own)
    return NamingTable(path, number, folder, column, base, rows.remove_columns(column), _joined(base, names))


def _stem_as_written(path: str) -> str:
    return os.path.basename(path)[: len(_stem(path))]


def _folders_in(folder: str, listing: Listing) -> list[str]:
    """The folders directly in a folder."""
    return [path for path in listing.folders if os.path.dirname(path) == folder][:_MOST]


def _are_in(paths: pyarrow.Array, existing: pyarrow.Array) -> int:
    """How many of the paths exist."""
    return int(pyarrow.compute.is_in(paths, value_set=existing).true_count)


def _joined(base: str, names: pyarrow.ChunkedArray) -> pyarrow.Array:
    """The absolute paths of names relative to `base`."""
    pieces = [
        pyarrow.array(
            [os.path.normpath(os.path.join(base, name or "")) for name in piece.to_pylist()], pyarrow.string()
        )
        for chunk in names.chunks
        for piece in (chunk[first : first + _AT_ONCE] for first in range(0, len(chunk), _AT_ONCE))
    ]
    return pyarrow.concat_arrays([pyarrow.array(piece, pyarrow.string()) for piece in pieces or [[]]])


def _rows(path: str, flag: str) -> Dataset:
    """All columns of a table, each with one type, from the cache if the table has not changed."""

    def read() -> tuple:
        rows = load_file(path, flag)
        pieces = (rows.with_format("arrow")[first : first + _AT_ONCE] for first in range(0, len(rows), _AT_ONCE))
        return rows.features, pieces

    return cached_rows(Hasher.hash([code_version(), path, file_state(path)]), read)


def _one_for_each_folder(tables: list[NamingTable], flag: str) -> list[NamingTable]:
    """One table for each of the folders that are described.

    Raises:
        ValueError: it is not clear which one.
    """
    found: dict[str, list[NamingTable]] = defaultdict(list)
    for table in tables:
        found[table.folder].append(table)
    chosen = []
    for folder, own in found.items():
        for name in (os.path.basename(folder).lower(), _LABELS):
            named = [table for table in own if _stem(table.path) == name]
            if len(own) > 1 and len(named) == 1:
                own = named
        if len(own) > 1:
            raise ValueError(
                f"Several tables name files of {flag}: {', '.join(table.path for table in own)}. Call the right one "
                "metadata, with its extension, or give it as --train_file."
            )
        chosen += own
    return chosen
