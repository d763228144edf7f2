"""Loads a folder of images, sound or clips: which files are data, their rows and labels, and what is left out.

The imagefolder and audiofolder of datasets are not used, since audiofolder needs torchcodec, and both leave out
unknown files without a message.
"""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, List, Value, concatenate_datasets
from transformers.utils import logging

from ..kinds_of_data import FILE_TYPES, KINDS, FileType
from ..summary import note
from ..tables.opening import load_file
from .splits_and_classes import Sample, are_few, labelled, named, sample_at, splits_of

logger = logging.get_logger(__name__)

_HEIC = (".heic", ".heif")
_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")
# Files and folders that file servers, archivers and operating systems create, besides those whose names begin with a
# dot.
_SYSTEM_FILES = {
    name.lower()
    for name in (
        "@eaDir", "#recycle", "@Recycle", "#snapshot", "__MACOSX", "$RECYCLE.BIN", "System Volume Information",
        "lost+found", "Thumbs.db", "ehthumbs.db", "desktop.ini",
    )
}  # fmt: skip
_METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")  # the names that datasets uses
_FILE_COLUMN = "file_name"
_NAMED = 5  # files or extensions that are named in a message


def walk(folder: str, flag: str) -> list[Path]:
    """All files below the folder that may be data, in a fixed order.

    Hidden files and files of file servers and systems (thumbnails, `@eaDir`, `__MACOSX`) are left out; the summary
    counts them. Links are followed, but each folder is read only once.

    Args:
        folder: its path.
        flag: the flag that gave it, for messages.

    Raises:
        ValueError: there is no such folder.
    """
    if not os.path.isdir(folder):
        raise ValueError(f"{flag}={folder!r} is not a folder. Check the path.")
    found, unreadable, seen = [], [], {os.path.realpath(folder)}
    ignored: Counter[str] = Counter()
    for parent, folders, files in os.walk(os.path.abspath(folder), followlinks=True):
        ignored.update(map(_kind_of_ignored, filter(_is_ignored, [*folders, *files])))
        visible = [name for name in folders if not _is_ignored(name)]
        visible.sort(key=lambda name: os.path.islink(os.path.join(parent, name)))  # folders before links to them
        folders[:] = sorted(name for name in visible if _is_new(parent, name, seen))
        for name in sorted(files):
            if not _is_utf8(os.path.join(parent, name)):
                unreadable.append(name)
            elif not _is_ignored(name):
                found.append(Path(parent, name))
    if unreadable:
        logger.warning(
            f"{len(unreadable)} file(s) below {flag}={folder!r} are left out, since their paths are not UTF-8: "
            f"{', '.join(str(os.fsencode(name)) for name in unreadable[:_NAMED])}. Rename them."
        )
    if ignored:
        note(_split_of(flag), f"Hidden files, and files of file servers or systems, are no data: {_counted(ignored)}.")
    return found


def kinds(paths: Iterable[Path]) -> Counter[str]:
    """The number of files with each extension."""
    return Counter(path.suffix.lower() or "without an extension" for path in paths)


def modalities_of(paths: Sequence[Path]) -> list[str]:
    """The modalities (keys of FILE_TYPES) of the files, by their extensions.

    If no extension is known, files without an extension count by their content.
    """
    found = kinds(paths)
    by_ending = [modality for modality, file_type in FILE_TYPES.items() if file_type.extensions & found.keys()]
    return by_ending or [
        modality
        for modality, file_type in FILE_TYPES.items()
        if any(_is_content(path, file_type) for path in paths if not path.suffix)
    ]


def nothing_found(folder: str, flag: str, wanted: str, paths: Iterable[Path]) -> str:
    """The message if a folder has no files of the wanted kind. `paths`: the files that it has."""
    found = kinds(paths)
    listed = _counted(found) or "no files at all"
    return f"{flag}={folder!r} holds no {wanted}. It holds: {listed}.{_remedy(found)}"


def load_folder(folder: str, flag: str, modality: str | None, labels_wanted: bool = False) -> dict[str, Dataset]:
    """Makes rows of the files in a folder.

    - Files without an extension are recognised by their content.
    - Folders called train, validation (val, valid, dev) and test are splits, not classes. Without a validation split,
      test is used as validation data.
    - A metadata.csv, .jsonl or .parquet with a column `file_name` gives the rows and all of its other columns.
    - Otherwise files that are exactly one folder deep have the name of that folder as `label` (string).

    If at most a tenth of the files fit neither of the last two rules, they are left out. If there are more, all files
    are rows without labels; with `labels_wanted` they are left out then, too. The summary says what was left out.

    Args:
        folder: its path.
        flag: the flag that gave it, for messages.
        modality: a kind of data whose rows are files.
        labels_wanted: whether the user asked for labels.

    Returns:
        `train` and, if there is such a split, `validation`. The columns are `image` or `audio` with a path, or `video`
        with the paths of a clip's frames, sorted by the numbers in their names (frame2 before frame10); and `label`
        and the columns of the metadata, if there are any.

    Raises:
        ValueError: there is no such folder, it has no suitable file, or labels are wanted and there are none.
    """
    kind = None if modality is None else KINDS[modality]
    if kind is None or kind.file_type is None:
        raise ValueError(
            f"{flag}={folder!r} goes with images, sound or video, not with modality={modality!r}: use --train_file."
        )
    everything = walk(folder, flag)
    files = [path for path in everything if _is_of(path, kind.file_type)]
    if not files:
        wanted = kind.file_type.noun
        if kind.several_files:
            wanted = f"{kind.noun}, that is, folders of {wanted}"
        endings = " ".join(sorted(kind.file_type.extensions))
        raise ValueError(nothing_found(folder, flag, f"{wanted} ({endings})", everything))
    note(_split_of(flag), f"{len(files)} files of {kind.file_type.noun}: {_counted(kinds(files))}.")
    source, noun, root = _split_of(flag), kind.noun, Path(os.path.abspath(folder))
    frames = _frames(files) if kind.several_files else None
    samples = [sample_at(path, root) for path in frames or files]
    table, entries, tables = _metadata(everything, root, flag)
    if table is not None and _are_used(entries, samples, tables, root, noun, source, labels_wanted):
        columns = ", ".join(table.column_names) or "no column"
        note(source, f"{len(entries)} {noun} with {columns} of the metadata file.")
        samples = entries
    else:
        table = None
    note_others(set(everything) - {*files, *tables, *(sample.path for sample in samples)}, source)
    rows: dict[str, Dataset] = {}
    classes: set[str] = set()  # of the training data
    for split, found in splits_of(samples, root, noun, source).items():
        labels: list[str] | None = None
        if table is None:
            noted_split = split if source == "train" else source
            found, labels, why_none = labelled(found, root, noun, noted_split, labels_wanted)
            if classes and classes.isdisjoint(labels or ()):
                note(source, "The folder's validation data are not used: they share no class with the training data.")
                continue
            if labels is not None:
                classes.update(labels)
            elif labels_wanted:
                raise ValueError(
                    f"{flag}={folder!r} gives no labels: {why_none}. Give each class a folder of its own, or add a "
                    "metadata.csv with the columns file_name and label."
                )
            else:
                note(noted_split, f"There are no classes: {why_none}.")
        elif "label" not in table.column_names and all(len(sample.folders) == 1 for sample in found):
            labels = [sample.folders[0] for sample in found]
        rows[split] = _rows(found, labels, frames, kind.column, table)
    return rows


def _split_of(flag: str) -> str:
    """The split under which the summary lists notes on what the flag names."""
    return "validation" if flag.startswith("validation") else "train"


# Files


def _is_ignored(name: str) -> bool:
    return name.startswith(".") or name.lower() in _SYSTEM_FILES


def _kind_of_ignored(name: str) -> str:
    return "._ files" if name.startswith("._") else name


def _is_new(parent: str, name: str, seen: set[str]) -> bool:
    """Whether a folder was not seen yet. Adds it to `seen`."""
    real = os.path.realpath(os.path.join(parent, name))
    is_new = real not in seen
    seen.add(real)
    return is_new


def _is_utf8(path: str) -> bool:
    """Whether a path is valid UTF-8. Python represents bytes that are not as lone surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in path)


def _is_of(path: Path, file_type: FileType) -> bool:
    return path.suffix.lower() in file_type.extensions or (not path.suffix and _is_content(path, file_type))


def _is_content(path: Path, file_type: FileType) -> bool:
    return path.is_file() and file_type.can_read(path)  # opening a pipe would block


def _frames(files: list[Path]) -> dict[Path, list[str]]:
    """The images of each folder that directly holds some, in the order of their numbers."""
    found: dict[Path, list[str]] = {}
    for path in files:
        found.setdefault(path.parent, []).append(str(path))
    return {folder: sorted(paths, key=_by_number) for folder, paths in found.items()}


def _by_number(path: str) -> list[tuple[int, str]]:
    """A key that sorts the numbers in file names by their value."""
    return [(int(part) if part.isdecimal() else -1, part) for part in re.split(r"(\d+)", Path(path).name)]


# Metadata


def _metadata(everything: list[Path], root: Path, flag: str) -> tuple[Dataset | None, list[Sample], list[Path]]:
    """Reads all metadata files.

    Returns:
        Their rows without `file_name` (None if there are no metadata files), the sample of each row, and their paths.

    Raises:
        ValueError: they have different columns.
    """
    tables: list[Dataset] = []
    entries: list[Sample] = []
    read = []
    for path in everything:
        if path.name.lower() not in _METADATA:
            continue
        table = load_file(str(path), flag)
        if _FILE_COLUMN not in table.column_names:
            note(_split_of(flag), f"{path.name} is not read: it has no column {_FILE_COLUMN}.")
            continue
        for name in table[_FILE_COLUMN][:]:
            entries.append(sample_at(Path(os.path.normpath(path.parent / str(name))), root, len(entries)))
        tables.append(table.remove_columns(_FILE_COLUMN))
        read.append(path)
    if not tables:
        return None, [], []
    if len({tuple(table.features) for table in tables}) > 1:
        columns = "; ".join(f"{path}: {', '.join(t.features)}" for path, t in zip(read, tables, strict=True))
        raise ValueError(f"The metadata files below {flag} have different columns ({columns}). Give them the same.")
    return concatenate_datasets(tables), entries, read


def _are_used(
    entries: list[Sample],
    samples: list[Sample],
    tables: list[Path],
    root: Path,
    noun: str,
    split: str,
    wanted: bool,
) -> bool:
    """Whether the metadata files are used, so that only samples with an entry in them are rows.

    They are used if labels are `wanted`, or if they have no entry for at most a tenth of the samples in their folders.
    """
    known = {entry.path for entry in entries}
    unlisted = [sample for sample in samples if sample.path not in known]
    described = {table.parent for table in tables}
    beside = [sample for sample in samples if not described.isdisjoint(sample.path.parents)]
    lacking = [sample for sample in beside if sample.path not in known]
    if wanted or are_few(lacking, beside):
        if unlisted:
            found = named(unlisted, root)
            note(split, f"{len(unlisted)} {noun} without a row in the metadata file are left out: {found}.")
        return True
    found = named(lacking, root)
    note(split, f"The metadata file is not used: it has no row for {len(lacking)} of {len(beside)} {noun} ({found}).")
    return False


# What is left out


def note_others(paths: Iterable[Path], split: str) -> None:
    """Notes in the summary how many files are left out, by their extensions."""
    found = kinds(paths)
    if not found:
        return
    note(split, f"{found.total()} other files are left out: {_counted(found)}.{_remedy(found)}")


def _remedy(found: Counter[str]) -> str:
    heic = " Pillow reads no HEIC: convert it to JPEG or PNG." if found.keys() & set(_HEIC) else ""
    archives = " Unpack archives, or give the folder as --dataset_name." if found.keys() & set(_ARCHIVES) else ""
    return heic + archives


def _counted(kinds: Counter[str]) -> str:
    listed = [f"{count} {kind}" for kind, count in kinds.most_common(_NAMED)]
    return ", ".join([*listed, f"and {len(kinds) - _NAMED} more kinds"] if len(kinds) > _NAMED else listed)


# Rows


def _rows(
    samples: list[Sample],
    labels: list[str] | None,
    frames: dict[Path, list[str]] | None,
    column: str,
    table: Dataset | None,
) -> Dataset:
    content: list[Any] = [str(sample.path) for sample in samples]
    features: dict[str, Any] = {column: Value("string")}
    if frames is not None:
        content = [frames.get(sample.path, []) for sample in samples]
        features = {column: List(Value("string"))}
    columns = {column: content}
    if labels is not None:
        features["label"], columns["label"] = Value("string"), labels
    # A generator, since its rows are stored on the disk under a key, unlike those of from_dict. A second run therefore
    # finds what was made of them, such as the checks of all files, in the cache.
    rows = Dataset.from_generator(_each, features=Features(features), gen_kwargs={"columns": columns})
    if table is not None:
        further = table.select([sample.entry for sample in samples if sample.entry is not None])
        further = further.select_columns([name for name in table.column_names if name != column])
        rows = concatenate_datasets([rows, further], axis=1) if further.column_names else rows
    return rows


def _each(columns: dict[str, list[Any]]) -> Iterator[dict[str, Any]]:
    for values in zip(*columns.values(), strict=True):
        yield dict(zip(columns, values, strict=True))
