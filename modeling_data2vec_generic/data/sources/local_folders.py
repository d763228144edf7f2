"""Local folders of tables and data sets saved by `save_to_disk`: which files are read, and as which split."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from datasets import Dataset, DatasetDict, load_from_disk
from datasets.packaged_modules.arrow.arrow import Arrow
from datasets.packaged_modules.csv.csv import Csv
from datasets.packaged_modules.json.json import Json
from datasets.packaged_modules.parquet.parquet import Parquet
from datasets.packaged_modules.text.text import Text
from datasets.packaged_modules.webdataset.webdataset import WebDataset

from ...errors import as_value_error
from ..folders.listing import listing_of
from ..kinds_of_data import FILE_TYPES
from ..summary import note
from ..tables.finding import without_empty
from ..tables.joined import kind_of
from ..tables.lines import TextTable
from ..tables.opening import table_of
from ..tables.table import Table
from .hub import builder_of, loading_hub, train_and_validation

_BUILDERS = (Arrow, Csv, Json, Parquet, Text, WebDataset)
_ABOUT_THE_DATA = ("README.md", "dataset_infos.json", "LICENSE")
_NAMED = 5  # files that are named in the summary


def local_splits(folder: str, flag: str, config_name: str | None = None) -> dict[str, Dataset | Table] | None:
    """The splits of a folder of tables, or of a data set that was saved by `save_to_disk`.

    A saved data set is mapped into memory and not copied. Of other folders, datasets decides which files belong to
    which split, by their names and folders. Files of the most frequent kind are read; the summary says which others
    are left out.

    Args:
        folder: its path, or another value of the flag.
        flag: the flag that names it. A folder given as `train_file` is looked through elsewhere, unless it is saved.
        config_name: a configuration that the README of the folder defines.

    Returns:
        `train` and, if there is one, `validation`; None if `folder` is not such a folder.

    Raises:
        ValueError: the folder cannot be loaded, or there are no training rows.
    """
    name = f"{flag}={folder!r}"
    if is_saved(folder):
        with as_value_error(f"{name} cannot be loaded as a data set saved by save_to_disk", "Save it again."):
            saved = load_from_disk(folder)
        splits = dict(saved) if isinstance(saved, DatasetDict) else {"train": saved}
        splits = {str(split): rows.with_format(None) for split, rows in splits.items()}
        return train_and_validation(splits, name)
    if not os.path.isdir(folder) or flag.endswith("_file") or (flag.endswith("_dir") and not _holds_tables(folder)):
        return None
    with loading_hub(name):
        builder = builder_of(folder, config_name)
    files = {str(split): [Path(file) for file in found] for split, found in (builder.config.data_files or {}).items()}
    every = [file for found in files.values() for file in found]
    if not isinstance(builder, _BUILDERS) or not all(file.is_file() and kind_of(file) for file in every):
        return None
    _note_left_out(folder, {os.path.realpath(file) for file in every})
    root = Path(folder).absolute() if flag == "dataset_name" else None
    return {
        split: table_of(without_empty([file.absolute() for file in found], name), name, root)
        for split, found in train_and_validation(files, name).items()
    }


def is_saved(folder: str) -> bool:
    """Whether a folder was written by `save_to_disk`."""
    path = Path(folder)
    return (path / "dataset_dict.json").is_file() or all(
        (path / file).is_file() for file in ("dataset_info.json", "state.json")
    )


def holds_rows(folder: str) -> bool:
    """Whether a folder is read by `local_splits`, and not as one of images or sound."""
    return is_saved(folder) or _holds_tables(folder)


def _holds_tables(folder: str) -> bool:
    """Whether a folder has tables, and no images or sound, which a table may describe. A txt file may be a note."""
    listing = listing_of(folder, "train_dir")
    if any(listing.with_ending(file_type.extensions).any() for file_type in FILE_TYPES.values()):
        return False
    return any(kind_of(Path(str(name))) not in (None, TextTable) for name in listing.files["name"])


def _visible(folder: str) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(parent, name) for name in files if not name.startswith("."))


def _note_left_out(folder: str, read: set[str]) -> None:
    left = [
        path
        for path in sorted(_visible(folder))
        if os.path.realpath(path) not in read and path.name not in _ABOUT_THE_DATA
    ]
    if not left:
        return
    kinds = Counter(path.suffix.lower() or "without an extension" for path in left)
    named = ", ".join(str(path.relative_to(folder)) for path in left[:_NAMED]) + (", ..." * (len(left) > _NAMED))
    note(
        "train",
        f"{len(read)} files of {folder!r} are read; {len(left)} are left out "
        f"({', '.join(f'{count} {kind}' for kind, count in kinds.most_common())}): {named}. Files of one kind are "
        "read as a dataset: convert the others, or name the files with --train_file.",
    )
