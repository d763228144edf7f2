"""Rows from one file or one folder."""

import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, IterableDataset, List, Value, load_dataset, load_dataset_builder
from datasets.exceptions import DatasetGenerationError
from transformers.utils import logging

from .columns import CONTENT_COLUMN
from .fasta import FASTA_ENDINGS, is_fasta, load_fasta, stream_fasta

logger = logging.get_logger(__name__)

EXTENSIONS = {
    "vision": frozenset(".png .jpg .jpeg .bmp .gif .tif .tiff .webp .ppm .pgm .pbm .jp2 .avif".split()),
    "speech": frozenset(".wav .flac .ogg .oga .opus .mp3 .aif .aiff .au".split()),
}
_NOUNS = {"vision": "images", "speech": "sound", "video": "clips, that is, folders of images"}
_FILE_BUILDERS = {".csv": "csv", ".json": "json", ".jsonl": "json", ".txt": "text", ".parquet": "parquet"}


def load_file(file: str, flag: str) -> Dataset:
    """The rows of a csv, json, jsonl, txt (lines with text, column `text`) or parquet file, or of a FASTA file (column
    `text`, see `fasta`). `flag` is for messages."""
    path, kind = _checked(file, flag)
    if kind == "fasta":
        return load_fasta(path, flag)
    try:
        builder = load_dataset_builder(kind, data_files={"train": _escaped(path)})
        builder.download_and_prepare()
    except (DatasetGenerationError, ValueError) as error:
        raise ValueError(f"{flag}={file!r} cannot be read as {kind}: {error.__cause__ or error}") from error
    if builder.info.splits["train"].num_examples == 0:  # which as_dataset cannot express
        raise ValueError(f"{flag}={file!r} has no rows. Give a file with data.")
    dataset = builder.as_dataset("train")
    if kind == "text":  # empty lines are how a text file parts its paragraphs, not samples gone bad
        lines = len(dataset)
        dataset = dataset.filter(_not_blank, input_columns="text", batched=True, desc="Leaving out empty lines")
        if len(dataset) == 0:
            raise ValueError(f"{flag}={file!r} holds no text: all of its {lines} lines are empty.")
    return dataset


def stream_file(file: str, flag: str) -> IterableDataset:
    """The same rows one after the other, of a file that is neither copied nor read as a whole."""
    path, kind = _checked(file, flag)
    if kind == "fasta":
        return stream_fasta(path)
    try:
        stream = load_dataset(kind, data_files={"train": _escaped(path)}, split="train", streaming=True)
    except (DatasetGenerationError, ValueError) as error:
        raise ValueError(f"{flag}={file!r} cannot be read as {kind}: {error.__cause__ or error}") from error
    return stream.filter(_has_text, input_columns="text") if kind == "text" else stream


def _checked(file: str, flag: str) -> tuple[Path, str]:
    """The file and its kind. ValueError if it is of none, absent or empty."""
    path = Path(file)
    kind = "fasta" if is_fasta(path) else _FILE_BUILDERS.get(path.suffix.lower())
    if kind is None:
        known = ", ".join([*_FILE_BUILDERS, *FASTA_ENDINGS])
        raise ValueError(f"{flag}={file!r} is of an unknown kind: expected one of {known}.")
    if not path.is_file():
        raise ValueError(f"{flag}={file!r} is not a file. Check the path.")
    if path.stat().st_size == 0:
        raise ValueError(f"{flag}={file!r} is empty (0 bytes). Give a file with rows.")
    return path, kind


def _escaped(path: Path) -> str:
    """The absolute path as a pattern that matches it alone."""
    return "".join(f"[{character}]" if character in "*?[" else character for character in str(path.absolute()))


def _not_blank(texts: list[str]) -> list[bool]:
    return [_has_text(text) for text in texts]


def _has_text(text: str) -> bool:
    return bool(text.strip())


def walk(folder: str, flag: str) -> list[tuple[Path, tuple[float, int]]]:
    """Every visible file below the folder in a fixed order, with what tells whether it has changed (time, size).

    Links are followed, a folder that several lead to (or that leads back to itself) once.
    """
    if not os.path.isdir(folder):
        raise ValueError(f"{flag}={folder!r} is not a folder. Check the path.")
    found, unreadable, seen = [], [], {os.path.realpath(folder)}
    for parent, folders, files in os.walk(os.path.abspath(folder), followlinks=True):
        visible = [name for name in folders if not name.startswith(".")]
        visible.sort(key=lambda name: os.path.islink(os.path.join(parent, name)))  # its own name before a link's
        folders[:] = sorted(name for name in visible if _is_new(parent, name, seen))
        for name in sorted(files):
            if not _is_text(os.path.join(parent, name)):
                unreadable.append(name)
            elif not name.startswith("."):
                path = Path(parent, name)
                status = path.stat() if path.exists() else path.lstat()  # a link to nothing is a broken file
                found.append((path, (status.st_mtime, status.st_size)))
    if unreadable:
        logger.warning(
            f"{len(unreadable)} file(s) below {flag}={folder!r} are left out, since their paths are not UTF-8: "
            f"{', '.join(str(os.fsencode(name)) for name in unreadable[:5])}. Rename them."
        )
    return found


def _is_new(parent: str, name: str, seen: set[str]) -> bool:
    """Whether a folder is none of those seen, to which it is added."""
    real = os.path.realpath(os.path.join(parent, name))
    is_new = real not in seen
    seen.add(real)
    return is_new


def _is_text(path: str) -> bool:
    """Whether a path can be written as UTF-8: others hold bytes that Python stands lone surrogates for."""
    return not any("\ud800" <= character <= "\udfff" for character in path)


def load_folder(folder: str, flag: str, modality: str | None) -> Dataset:
    """Columns `image` or `audio` with paths, and `label` (string) if every file lies exactly one folder deep.

    Of video, each folder that holds images is a clip: column `video` with the paths of its frames, sorted by the
    numbers in their names (frame2 before frame10), and `label` if every clip's folder lies exactly one folder deep.

    datasets' own imagefolder and audiofolder are not used: the latter cannot read without torchcodec, and both take
    folders called train or test for splits.
    """
    if modality not in _NOUNS:
        raise ValueError(
            f"{flag}={folder!r} goes with images, sound or video, not with modality={modality!r}: use --train_file."
        )
    everything = walk(folder, flag)
    extensions = EXTENSIONS["vision" if modality == "video" else modality]
    files = [entry for entry in everything if entry[0].suffix.lower() in extensions]
    if not files:
        kinds = Counter(path.suffix.lower() for path, _ in everything)
        raise ValueError(nothing_found(folder, flag, f"{_NOUNS[modality]} ({' '.join(sorted(extensions))})", kinds))
    root = Path(os.path.abspath(folder))
    features: dict[str, Any] = {CONTENT_COLUMN[modality]: Value("string")}
    samples = [path for path, _ in files]
    if modality == "video":
        features = {"video": List(Value("string"))}
        samples = list(dict.fromkeys(path.parent for path in samples))
    if all(len(path.relative_to(root).parts) == 2 for path in samples):
        features["label"] = Value("string")
    # A generator rather than from_dict: it is kept on disk under a key of these very files, their times and sizes, so
    # that a second run finds all that was made of it (the check of every file) in the cache.
    return Dataset.from_generator(
        _clip_rows if modality == "video" else _folder_rows,
        features=Features(features),
        gen_kwargs={"files": tuple((str(path), *state) for path, state in files), "columns": tuple(features)},
    )


def _folder_rows(files: tuple[tuple[str, float, int], ...], columns: tuple[str, ...]) -> Iterator[dict[str, str]]:
    for path, *_ in files:
        yield dict(zip(columns, (path, Path(path).parent.name), strict=False))


def _clip_rows(files: tuple[tuple[str, float, int], ...], columns: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    frames: dict[Path, list[str]] = {}
    for path, *_ in files:
        frames.setdefault(Path(path).parent, []).append(path)
    for folder, paths in frames.items():
        yield dict(zip(columns, (sorted(paths, key=_by_number), folder.parent.name), strict=False))


def _by_number(path: str) -> list[tuple[int, str]]:
    """A sorting key by which the numbers in a file's name count as numbers."""
    return [(int(part) if part.isdecimal() else -1, part) for part in re.split(r"(\d+)", Path(path).name)]


def nothing_found(folder: str, flag: str, wanted: str, kinds: Counter[str]) -> str:
    listed = ", ".join(f"{count} {kind or 'without extension'}" for kind, count in kinds.most_common(5))
    return f"{flag}={folder!r} holds no {wanted}. It holds: {listed or 'no files at all'}."
