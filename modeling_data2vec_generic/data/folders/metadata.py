"""Tables in a folder, or beside it, that name its files and give further columns for them.

`tables.py` finds the tables; here their rows become samples.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow
import pyarrow.compute
from datasets import Dataset, concatenate_datasets
from numpy.typing import NDArray

from ..cache_keys import file_state
from ..summary import note
from .listing import Listing
from .splits_and_classes import Folders, Samples, are_few
from .tables import NamingTable, naming_tables


@dataclass(frozen=True)
class Metadata:
    """The rows of all tables that name files of a folder.

    Args:
        rows: their columns without that of the names.
        paths: the absolute path of each row's file or clip, (N,).
        files: the tables that are in the folder, by their numbers in the list of files.
        folders: the subfolders that the tables describe.
        remark: which tables and columns these are, for the summary.
        state: what shows that a table has changed.
    """

    rows: Dataset
    paths: pyarrow.Array
    files: list[int]
    folders: list[Folders]
    remark: str
    state: list[tuple[str, tuple[int, int] | None]]

    def samples(self, root: str) -> Samples:
        """A sample for each row. `root` is the top of the data; what is outside of it is in no subfolder."""
        number_of: dict[str, int] = {}
        places = np.empty(len(self.paths), dtype=np.int32)
        for row, path in enumerate(self.paths.to_pylist()):
            places[row] = number_of.setdefault(os.path.dirname(path), len(number_of))
        folders = [folders_below(root, folder) for folder in number_of]
        return Samples(
            np.arange(len(self.paths)),
            places,
            folders,
            lambda item: os.path.relpath(self.paths[item].as_py(), root),
        )

    def knows(self, paths: pyarrow.Array) -> NDArray[np.bool_]:
        """Which of the paths have a row, (N,)."""
        return pyarrow.compute.is_in(paths, value_set=self.paths).to_numpy(zero_copy_only=False)

    def are_used(self, samples: Samples, known: NDArray[np.bool_], noun: str, split: str, wanted: bool) -> bool:
        """Whether the tables are used, so that only samples with a row in them are used.

        They are used if labels are `wanted`, or if they lack at most a tenth of the samples in their folders.

        Args:
            samples: all samples of the folder.
            known: which of these have a row.
            noun: what samples are called in messages.
            split: the split of the notes.
            wanted: whether the user asked for labels.
        """
        beside = samples.within(lambda own: any(own[: len(table)] == table for table in self.folders))
        lacking = samples.select(beside & ~known)
        if wanted or are_few(len(lacking), int(beside.sum())):
            unlisted = samples.select(~known)
            if len(unlisted):
                found = unlisted.named()
                note(split, f"{len(unlisted)} {noun} without a row in the metadata file are left out: {found}.")
            return True
        found = f"{len(lacking)} of {beside.sum()} {noun} ({lacking.named()})"
        note(split, f"The metadata file is not used: it has no row for {found}.")
        return False


def folders_below(root: str, folder: str) -> Folders:
    """The names of the folders from the top of the data down to a folder; none for a folder outside of it."""
    inside = folder.removeprefix(root).strip(os.sep)
    return tuple(inside.split(os.sep)) if inside and (folder + os.sep).startswith(os.path.join(root, "")) else ()


def metadata_of(listing: Listing, sample_paths: Callable[[], pyarrow.Array], flag: str) -> Metadata | None:
    """Reads the tables that name files of the folder; None if there are none. `naming_tables` says which these are.

    Args:
        listing: the files of the folder.
        sample_paths: returns the paths of all files or clips that may be samples.
        flag: the flag that gave the folder, for messages.

    Raises:
        ValueError: it is not clear which table names the files, in which column, or what its paths are relative to; or
            several tables have different columns.
    """
    tables = naming_tables(listing, sample_paths, flag)
    if not tables:
        return None
    if len({tuple(table.rows.features) for table in tables}) > 1:
        columns = "; ".join(f"{table.path}: {', '.join(table.rows.features)}" for table in tables)
        raise ValueError(f"The metadata files below {flag} have different columns ({columns}). Give them the same.")
    return Metadata(
        concatenate_datasets([table.rows for table in tables]),
        pyarrow.concat_arrays([table.paths for table in tables]),
        [table.number for table in tables if table.number is not None],
        [folders_below(listing.root, table.folder) for table in tables],
        _remark(tables, listing.root),
        [(table.path, file_state(table.path)) for table in tables],
    )


def _remark(tables: list[NamingTable], root: str) -> str:
    taken = ", ".join(
        f"{os.path.relpath(table.path, root)} (column {table.column!r}, relative to "
        f"{'its folder' if table.base == os.path.dirname(table.path) else os.path.relpath(table.base, root)})"
        for table in tables
    )
    columns = ", ".join(tables[0].rows.column_names) or "no further column"
    return f"are named by {taken}, with {columns}"
