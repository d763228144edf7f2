"""A folder of images, sound or clips: which files are data, which rows and labels they make, and what is left out.

datasets' own imagefolder and audiofolder are not used: the latter cannot read without torchcodec, and both leave out
whatever they do not know without saying so.
"""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, List, Value, concatenate_datasets
from transformers.utils import logging

from ..arguments import CONTENT_COLUMN
from ..file_types import EXTENSIONS, IMAGE_FORMATS
from ..summary import note
from ..tables.formats import load_file
from .splits_and_classes import Sample, are_few, labelled, named, sample_at, splits_of

logger = logging.get_logger(__name__)

_NOUNS = {"vision": "images", "speech": "sounds", "video": "clips"}
_FILES = {"vision": "images", "speech": "sound"}
_WANTED = {"vision": "images", "speech": "sound", "video": "clips, that is, folders of images"}
_HEIC = (".heic", ".heif")
_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")
# What file servers, archivers and systems put among the files of others, besides names that begin with a dot.
_NO_DATA = {
    name.lower()
    for name in (
        "@eaDir", "#recycle", "@Recycle", "#snapshot", "__MACOSX", "$RECYCLE.BIN", "System Volume Information",
        "lost+found", "Thumbs.db", "ehthumbs.db", "desktop.ini",
    )
}  # fmt: skip
_METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")  # as datasets calls them
_FILE_COLUMN = "file_name"
_NAMED = 5


def walk(folder: str, flag: str) -> list[Path]:
    """Every file below the folder that may be data, in a fixed order.

    Hidden files and those of file servers and systems (thumbnails, `@eaDir`, `__MACOSX`) are not; the summary counts
    them. Links are followed, a folder that several lead to (or that leads back to itself) once.
    """
    if not os.path.isdir(folder):
        raise ValueError(f"{flag}={folder!r} is not a folder. Check the path.")
    found, unreadable, seen = [], [], {os.path.realpath(folder)}
    no_data: Counter[str] = Counter()
    for parent, folders, files in os.walk(os.path.abspath(folder), followlinks=True):
        no_data.update(map(_kind_of_no_data, filter(_is_no_data, [*folders, *files])))
        visible = [name for name in folders if not _is_no_data(name)]
        visible.sort(key=lambda name: os.path.islink(os.path.join(parent, name)))  # its own name before a link's
        folders[:] = sorted(name for name in visible if _is_new(parent, name, seen))
        for name in sorted(files):
            if not _is_text(os.path.join(parent, name)):
                unreadable.append(name)
            elif not _is_no_data(name):
                found.append(Path(parent, name))
    if unreadable:
        logger.warning(
            f"{len(unreadable)} file(s) below {flag}={folder!r} are left out, since their paths are not UTF-8: "
            f"{', '.join(str(os.fsencode(name)) for name in unreadable[:_NAMED])}. Rename them."
        )
    if no_data:
        note(_split_of(flag), f"Hidden, or of a file server or system, and so no data: {_counted(no_data)}.")
    return found


def kinds(paths: Iterable[Path]) -> Counter[str]:
    """How many files have which ending."""
    return Counter(path.suffix.lower() or "without an ending" for path in paths)


def modalities_of(paths: Sequence[Path]) -> list[str]:
    """Those of EXTENSIONS that the files have; of files without an ending that their content has, if nothing else."""
    found = kinds(paths)
    by_ending = [modality for modality, extensions in EXTENSIONS.items() if extensions & found.keys()]
    return by_ending or [
        modality for modality in EXTENSIONS if any(_is_content(path, modality) for path in paths if not path.suffix)
    ]


def nothing_found(folder: str, flag: str, wanted: str, paths: Iterable[Path]) -> str:
    found = kinds(paths)
    listed = _counted(found) or "no files at all"
    return f"{flag}={folder!r} holds no {wanted}. It holds: {listed}.{_remedy(found)}"


def load_folder(folder: str, flag: str, modality: str | None, labels_wanted: bool = False) -> dict[str, Dataset]:
    """Rows of `train` and, if the folder has such a split, of `validation`: column `image` or `audio` with paths, or
    of video `video` with the paths of a clip's frames, sorted by the numbers in their names (frame2 before frame10).

    - Files without an ending are told by their content.
    - Folders called train, validation (val, valid, dev) and test are splits, not classes; test serves as validation
      where there is none.
    - A metadata.csv, .jsonl or .parquet with a column `file_name` gives the rows and all of its other columns.
    - Otherwise files that lie exactly one folder deep have that folder's name as `label` (string).

    A few files (a tenth) that fit neither are left out rather than the labels of all others, with `labels_wanted` any
    number; if there are more, all files are rows without labels. The summary says which, and what else is left out.

    Raises:
        ValueError: there is no such folder or file, or there are no labels that are wanted.
    """
    if modality not in _NOUNS:
        raise ValueError(
            f"{flag}={folder!r} goes with images, sound or video, not with modality={modality!r}: use --train_file."
        )
    everything = walk(folder, flag)
    kind = "vision" if modality == "video" else modality
    files = [path for path in everything if _is_of(path, kind)]
    if not files:
        endings = " ".join(sorted(EXTENSIONS[kind]))
        raise ValueError(nothing_found(folder, flag, f"{_WANTED[modality]} ({endings})", everything))
    note(_split_of(flag), f"{len(files)} files of {_FILES[kind]}: {_counted(kinds(files))}.")
    source, noun, root = _split_of(flag), _NOUNS[modality], Path(os.path.abspath(folder))
    frames = _frames(files) if modality == "video" else None
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
            of = split if source == "train" else source
            found, labels, why_none = labelled(found, root, noun, of, labels_wanted)
            if classes and classes.isdisjoint(labels or ()):
                note(source, "The folder's validation data are not used: they have no class of the training data.")
                continue
            if labels is not None:
                classes.update(labels)
            elif labels_wanted:
                raise ValueError(
                    f"{flag}={folder!r} gives no labels: {why_none}. Give each class a folder of its own, or add a "
                    "metadata.csv with the columns file_name and label."
                )
            else:
                note(of, f"There are no classes: {why_none}.")
        elif "label" not in table.column_names and all(len(sample.folders) == 1 for sample in found):
            labels = [sample.folders[0] for sample in found]
        rows[split] = _rows(found, labels, frames, modality, table)
    return rows


def _split_of(flag: str) -> str:
    """The split whose notes are those on what the flag names."""
    return "validation" if flag.startswith("validation") else "train"


# Files


def _is_no_data(name: str) -> bool:
    return name.startswith(".") or name.lower() in _NO_DATA


def _kind_of_no_data(name: str) -> str:
    return "._ files" if name.startswith("._") else name


def _is_new(parent: str, name: str, seen: set[str]) -> bool:
    """Whether a folder is none of those seen, to which it is added."""
    real = os.path.realpath(os.path.join(parent, name))
    is_new = real not in seen
    seen.add(real)
    return is_new


def _is_text(path: str) -> bool:
    """Whether a path can be written as UTF-8: others hold bytes that Python stands lone surrogates for."""
    return not any("\ud800" <= character <= "\udfff" for character in path)


def _is_of(path: Path, kind: str) -> bool:
    return path.suffix.lower() in EXTENSIONS[kind] or (not path.suffix and _is_content(path, kind))


def _is_content(path: Path, kind: str) -> bool:
    """Whether a file's header is that of an image ("vision") or of sound ("speech") that can be read."""
    if not path.is_file():  # a pipe would be waited for
        return False
    if kind == "speech":
        import soundfile  # an extra, as Pillow is

        try:
            soundfile.info(str(path))
        except soundfile.LibsndfileError:
            return False
        return True
    import PIL.Image

    try:
        PIL.Image.open(path, formats=IMAGE_FORMATS).close()
    except Exception:  # decoders of broken files raise about anything
        return False
    return True


def _frames(files: list[Path]) -> dict[Path, list[str]]:
    """The images of each folder that has some, in the order of their numbers."""
    found: dict[Path, list[str]] = {}
    for path in files:
        found.setdefault(path.parent, []).append(str(path))
    return {folder: sorted(paths, key=_by_number) for folder, paths in found.items()}


def _by_number(path: str) -> list[tuple[int, str]]:
    """A sorting key by which the numbers in a file's name count as numbers."""
    return [(int(part) if part.isdecimal() else -1, part) for part in re.split(r"(\d+)", Path(path).name)]


# Metadata


def _metadata(everything: list[Path], root: Path, flag: str) -> tuple[Dataset | None, list[Sample], list[Path]]:
    """The rows of all metadata files without `file_name`, the sample that each is on, and these files.

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
    """Whether the samples are those that metadata list: all others are then left out, which have to be few beside the
    metadata files, unless labels are `wanted`."""
    known = {entry.path for entry in entries}
    unlisted = [sample for sample in samples if sample.path not in known]
    described = {table.parent for table in tables}
    beside = [sample for sample in samples if not described.isdisjoint(sample.path.parents)]
    lacking = [sample for sample in beside if sample.path not in known]
    if wanted or are_few(lacking, beside):
        if unlisted:
            found = named(unlisted, root)
            note(split, f"{len(unlisted)} {noun} that the metadata file has no row on are left out: {found}.")
        return True
    found = named(lacking, root)
    note(split, f"The metadata file is not used: it has no row on {len(lacking)} of {len(beside)} {noun} ({found}).")
    return False


# What is left out


def note_others(paths: Iterable[Path], split: str) -> None:
    """Say in the summary how many files of which endings are left out."""
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
    modality: str,
    table: Dataset | None,
) -> Dataset:
    column = CONTENT_COLUMN[modality]
    content: list[Any] = [str(sample.path) for sample in samples]
    features: dict[str, Any] = {column: Value("string")}
    if frames is not None:
        content = [frames.get(sample.path, []) for sample in samples]
        features = {column: List(Value("string"))}
    columns = {column: content}
    if labels is not None:
        features["label"], columns["label"] = Value("string"), labels
    # A generator rather than from_dict: rows on the disk have a key, so that a second run finds all that was made of
    # them (the check of every file) in the cache.
    rows = Dataset.from_generator(_each, features=Features(features), gen_kwargs={"columns": columns})
    if table is not None:
        further = table.select([sample.entry for sample in samples if sample.entry is not None])
        further = further.select_columns([name for name in table.column_names if name != column])
        rows = concatenate_datasets([rows, further], axis=1) if further.column_names else rows
    return rows


def _each(columns: dict[str, list[Any]]) -> Iterator[dict[str, Any]]:
    for values in zip(*columns.values(), strict=True):
        yield dict(zip(columns, values, strict=True))
