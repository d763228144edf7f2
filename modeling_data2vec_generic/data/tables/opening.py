"""Opens files as tables, by the extensions of their names."""

from collections.abc import Mapping
from pathlib import Path

from datasets import Dataset

from .compressed import COMPRESSIONS, ending_of, is_compressed, looks_like
from .fasta import FASTA_ENDINGS, FastaTable
from .lines import TextTable
from .parquet import ParquetTable
from .table import Table
from .untyped.csv_files import CsvTable
from .untyped.json_files import JsonTable
from .untyped.table import UntypedTable

_KINDS: Mapping[str, type[Table]] = {
    ".csv": CsvTable,
    ".tsv": CsvTable,
    ".json": JsonTable,
    ".jsonl": JsonTable,
    ".txt": TextTable,
    ".parquet": ParquetTable,
    **dict.fromkeys(FASTA_ENDINGS, FastaTable),
}


def open_file(file: str, flag: str) -> Table:
    """Opens the file that a flag names.

    Args:
        file: the path.
        flag: the name of the flag, for messages.

    Raises:
        ValueError: the file has an unknown extension, does not exist or is empty.
    """
    path = Path(file)
    kind = _kind_of(path)
    if kind is None:
        raise ValueError(
            f"{flag}={file!r} has an unknown extension: expected one of {', '.join(_KINDS)}, all but .parquet also "
            f"compressed ({', '.join(COMPRESSIONS)})."
        )
    if not path.is_file():
        raise ValueError(f"{flag}={file!r} is not a file. Check the path.")
    if path.stat().st_size == 0:
        raise ValueError(f"{flag}={file!r} is empty (0 bytes). Give a file with rows.")
    found = looks_like(path)
    if found is not None and not is_compressed(path) and found != ending_of(path):
        raise ValueError(f"{flag}={file!r} is no {ending_of(path)} file: its first bytes are those of {found} files.")
    return kind([path.absolute()], f"{flag}={file!r}")


def _kind_of(path: Path) -> type[Table] | None:
    """The kind of table that a file is, by its extension."""
    kind = _KINDS.get(ending_of(path))
    return None if kind is ParquetTable and is_compressed(path) else kind


def load_file(file: str, flag: str) -> Dataset:
    """All columns of a file, each with the one type that all of its values have. Arguments as `open_file`.

    Raises:
        ValueError: as `open_file`, or a row cannot be read.
    """
    table = open_file(file, flag)
    if not isinstance(table, UntypedTable):
        return table.load({name: name for name in table.features})
    return table.typed()


def open_files(files: list[str], kind: str, name: str) -> Table:
    """Opens several files of the same `kind` ("csv" or "json") as one table. `name` is for messages."""
    return _KINDS[f".{kind}"]([Path(file) for file in files], name)
