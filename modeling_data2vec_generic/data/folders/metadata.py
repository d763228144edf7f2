"""Tables in a folder that name its files, and give further columns for them."""

import os
from dataclasses import dataclass

import numpy as np
import pyarrow
import pyarrow.compute
from datasets import Dataset, concatenate_datasets
from numpy.typing import NDArray

from ..cache_keys import file_state
from ..summary import note
from ..tables.opening import load_file
from .listing import Listing, split_of
from .splits_and_classes import Folders, Samples, are_few

_METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")  # the names that datasets uses
_FILE_COLUMN = "file_name"


@dataclass(frozen=True)
class Metadata:
    """The rows of all tables that name files of a folder.

    Args:
        rows: their columns without that of the names.
        paths: the absolute path of each row's file or clip, (N,).
        files: the tables, by their numbers in the list of files.
        folders: the subfolders that the tables are in.
        state: what shows that a table has changed.
    """

    rows: Dataset
    paths: pyarrow.Array
    files: list[int]
    folders: list[Folders]
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


def metadata_of(listing: Listing, flag: str) -> Metadata | None:
    """Reads all metadata files; None if there are none.

    Raises:
        ValueError: they have different columns.
    """
    names = pyarrow.compute.utf8_lower(listing.files["name"])
    tables: list[Dataset] = []
    files: list[int] = []
    entries: list[str] = []
    for number in np.flatnonzero(pyarrow.compute.is_in(names, pyarrow.array(_METADATA)).to_numpy()).tolist():
        path = listing.path(number)
        table = load_file(path, flag)
        if _FILE_COLUMN not in table.column_names:
            note(split_of(flag), f"{os.path.basename(path)} is not read: it has no column {_FILE_COLUMN}.")
            continue
        entries += [os.path.normpath(f"{os.path.dirname(path)}/{name}") for name in table[_FILE_COLUMN][:]]
        tables.append(table.remove_columns(_FILE_COLUMN))
        files.append(number)
    if not tables:
        return None
    if len({tuple(table.features) for table in tables}) > 1:
        columns = "; ".join(
            f"{listing.path(file)}: {', '.join(table.features)}" for file, table in zip(files, tables, strict=True)
        )
        raise ValueError(f"The metadata files below {flag} have different columns ({columns}). Give them the same.")
    return Metadata(
        concatenate_datasets(tables),
        pyarrow.array(entries, pyarrow.string()),
        files,
        [folders_below(listing.root, listing.folders[listing.folder[file]]) for file in files],
        [(listing.path(file), file_state(listing.path(file))) for file in files],
    )
