"""Local folders of csv or JSON files given as --dataset_name: which files are read, and as which split."""

import os
from collections import Counter
from pathlib import Path

from datasets.packaged_modules.csv.csv import Csv
from datasets.packaged_modules.folder_based_builder.folder_based_builder import FolderBasedBuilder
from datasets.packaged_modules.json.json import Json

from ..summary import note
from ..tables.opening import open_files
from ..tables.table import Table
from .hub import builder_of
from .opening import VALIDATION_SPLITS, loading_hub

_KINDS = {Csv: "csv", Json: "json"}
_ABOUT_THE_DATA = ("README.md", "dataset_infos.json", "LICENSE")
_NAMED = 5  # files that are named in the summary


def tables_of_folder(name: str, config_name: str | None) -> dict[str, Table] | None:
    """The tables of a folder whose files are csv or JSON: `train` and, if there is one, `validation`.

    datasets decides which files belong to which split, by their names and folders. It reads only the most frequent
    kind of file; the summary says which files are left out.

    Returns:
        None if `name` is not such a folder.

    Raises:
        ValueError: datasets cannot load the folder, or there are no training files.
    """
    if not os.path.isdir(name):
        return None
    with loading_hub(name):
        builder = builder_of(name, config_name)
    files = {str(split): [str(file) for file in found] for split, found in (builder.config.data_files or {}).items()}
    if isinstance(builder, FolderBasedBuilder):
        return None
    _note_left_out(name, {os.path.realpath(file) for found in files.values() for file in found})
    kind = next((kind for of, kind in _KINDS.items() if isinstance(builder, of)), None)
    plain = all(os.path.isfile(file) and file.endswith(_endings(kind)) for found in files.values() for file in found)
    if kind is None or not plain:  # compressed files are left to datasets, which unpacks them
        return None
    if "train" not in files:
        raise ValueError(f"dataset_name={name!r} has no split 'train'. There are: {', '.join(files)}.")
    chosen = {"train": "train"} | next(({"validation": split} for split in VALIDATION_SPLITS if split in files), {})
    return {split: open_files(files[own], kind, f"dataset_name={name!r}") for split, own in chosen.items()}


def _endings(kind: str | None) -> tuple[str, ...]:
    return (".csv", ".tsv") if kind == "csv" else (".json", ".jsonl")


def _note_left_out(folder: str, read: set[str]) -> None:
    found = [path for path in sorted(Path(folder).rglob("*")) if path.is_file() and not path.name.startswith(".")]
    left = [path for path in found if os.path.realpath(path) not in read and path.name not in _ABOUT_THE_DATA]
    if not left:
        return
    kinds = Counter(path.suffix.lower() or "without an extension" for path in left)
    named = ", ".join(str(path.relative_to(folder)) for path in left[:_NAMED]) + (", ..." * (len(left) > _NAMED))
    note(
        "train",
        f"{len(read)} files of {folder!r} are read; {len(left)} are left out "
        f"({', '.join(f'{count} {kind}' for kind, count in kinds.most_common())}): {named}. Files of one kind are "
        "read as a dataset: convert the others, or name one file with --train_file.",
    )
