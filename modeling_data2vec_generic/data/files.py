"""Rows from one file."""

from pathlib import Path

from datasets import Dataset, IterableDataset, load_dataset, load_dataset_builder
from datasets.exceptions import DatasetGenerationError

from .fasta import FASTA_ENDINGS, is_fasta, load_fasta, stream_fasta

EXTENSIONS = {
    "vision": frozenset(
        ".png .apng .jpg .jpeg .jpe .jfif .bmp .gif .tif .tiff .webp .ppm .pgm .pbm .pnm .pfm .jp2 .j2k .jpc .jpf "
        ".jpx .j2c .avif .avifs".split()
    ),
    "speech": frozenset(".wav .flac .ogg .oga .opus .mp3 .aif .aiff .au".split()),
}
_FILE_BUILDERS = {".csv": "csv", ".json": "json", ".jsonl": "json", ".txt": "text", ".parquet": "parquet"}


def load_file(file: str, flag: str) -> Dataset:
    """The rows of a csv, json, jsonl, txt (lines with text, column `text`) or parquet file, or of a FASTA file (column
    `text`, see `fasta`). `flag` is for messages."""
    path, kind = _checked(file, flag)
    if kind == "fasta":
        return load_fasta(path, flag)
    try:
        builder = load_dataset_builder(kind, data_files={"train": escaped(path)})
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
        stream = load_dataset(kind, data_files={"train": escaped(path)}, split="train", streaming=True)
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


def escaped(path: Path) -> str:
    """The absolute path as a pattern that matches it alone."""
    return "".join(f"[{character}]" if character in "*?[" else character for character in str(path.absolute()))


def _not_blank(texts: list[str]) -> list[bool]:
    return [_has_text(text) for text in texts]


def _has_text(text: str) -> bool:
    return bool(text.strip())
