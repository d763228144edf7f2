"""Opens the files that flags name as tables."""

from pathlib import Path

from datasets import Dataset

from .compressed import COMPRESSIONS, ending_of, is_compressed, looks_like
from .finding import found_files
from .joined import KINDS, JoinedTable, kind_of
from .table import Table
from .untyped.table import UntypedTable


def open_files(values: list[str], flag: str) -> Table:
    """Opens the files that the values of a flag name (see `found_files`) as one table.

    Args:
        values: paths of files and folders, and patterns.
        flag: the name of the flag, for messages.

    Raises:
        ValueError: a file has an unknown extension or other contents, does not exist or is empty.
    """
    paths = found_files(values, flag, lambda path: kind_of(path) is not None)
    return table_of(paths, f"{flag}={values[0]!r}" if len(values) == 1 else f"{flag}={values!r}")


def table_of(paths: list[Path], name: str, folder: Path | None = None) -> Table:
    """Files as one table. Arguments and errors as `Table` and `open_files`."""
    kinds = []
    for path in paths:
        kind = kind_of(path)
        place = name if len(paths) == 1 else f"{name} ({path})"
        if kind is None:
            raise _unknown(place)
        found = looks_like(path)
        if found is not None and not is_compressed(path) and found != ending_of(path):
            raise ValueError(f"{place} is no {ending_of(path)} file: its first bytes are those of {found} files.")
        kinds.append(kind)
    return (kinds[0] if len(set(kinds)) == 1 else JoinedTable)(paths, name, folder)


def load_file(file: str, flag: str) -> Dataset:
    """All columns of a file, each with the one type that all of its values have. Errors as `open_files`.

    Raises:
        ValueError: a row cannot be read.
    """
    table = open_files([file], flag)
    if not isinstance(table, UntypedTable):
        names = list(table.features)  # under other names, since columns with canonical ones may be converted
        rows = table.load({f"column {place}": name for place, name in enumerate(names)})
        return rows.rename_columns(dict(zip(rows.column_names, names, strict=True)))
    return table.typed()


def _unknown(place: str) -> ValueError:
    return ValueError(
        f"{place} has an unknown extension: expected one of {', '.join(KINDS)}, all but .parquet and .arrow also "
        f"compressed ({', '.join(COMPRESSIONS)})."
    )
