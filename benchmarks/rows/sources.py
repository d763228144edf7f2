"""Sources of any number of rows, made by repeating some hundred: folders, parquet files, text files and tar shards."""

import io
import itertools
import os
import pydoc_data.topics
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import datasets
import numpy as np
import PIL.Image
import pyarrow
import pyarrow.parquet
import soundfile
from datasets import Features, Value

from modeling_data2vec_generic.modalities.text.tokenizer import train_tokenizer

CLASSES = 10
FILES_PER_FOLDER = 1000
ROWS_PER_GROUP = 10_000
SHARDS = 10
RATE = 8000


def images() -> list[bytes]:
    """PNG files of 8 x 8 pixels: the digits that come with scikit-learn."""
    from sklearn.datasets import load_digits

    encoded = []
    for pixels in load_digits().images:
        file = io.BytesIO()
        PIL.Image.fromarray((pixels * 15).astype(np.uint8)).save(file, "png")
        encoded.append(file.getvalue())
    return encoded


def write_images(folder: Path, count: int) -> Path:
    """JPEG files of 500 x 375 pixels: views of two photographs that come with scikit-learn."""
    from sklearn.datasets import load_sample_images

    rng = np.random.default_rng(0)
    photographs = [PIL.Image.fromarray(pixels) for pixels in load_sample_images().images]
    for number in range(count):
        photograph = photographs[number % 2]
        width = int(rng.integers(400, 560))
        left, top = (int(rng.integers(0, rest + 1)) for rest in (640 - width, 427 - width * 3 // 4))
        view = photograph.resize((500, 375), box=(left, top, left + width, top + width * 3 // 4))
        view.save(folder / f"{number:03d}.jpg", quality=90)
    return folder


def photographs() -> list[bytes]:
    """JPEG files of 500 x 375 pixels."""
    with tempfile.TemporaryDirectory() as folder:
        return [path.read_bytes() for path in sorted(write_images(Path(folder), 64).iterdir())]


def sounds() -> list[bytes]:
    """Wav files of half a second of noise, 8 bits (mu-law) at 8 kHz, as telephones have them."""
    rng, encoded = np.random.default_rng(0), []
    for _ in range(200):
        sound = rng.normal(0, 0.1, RATE // 2).cumsum()
        file = io.BytesIO()
        soundfile.write(file, sound / np.abs(sound).max(), RATE, format="wav", subtype="ULAW")
        encoded.append(file.getvalue())
    return encoded


def lines() -> list[str]:
    """Lines of Python's own documentation."""
    texts = "\n".join(pydoc_data.topics.topics.values()).splitlines()
    return [line.strip() for line in texts if len(line.split()) > 3]


def write_tokenizer(folder: Path) -> Path:
    """A tokenizer that knows the words of `lines`."""
    train_tokenizer(lines(), 2000).save_pretrained(folder)
    return folder


def write_folder(folder: Path, rows: int, files: list[bytes], ending: str) -> Path:
    """CLASS/PART/NUMBER.ending: hard links to the files, which take no room on the disk."""
    originals = folder / "originals"
    originals.mkdir()
    for number, content in enumerate(files):
        (originals / str(number)).write_bytes(content)
    root = folder / "rows"
    for first in range(0, rows, FILES_PER_FOLDER):
        part = root / str(first // FILES_PER_FOLDER % CLASSES) / f"{first:08d}"
        part.mkdir(parents=True)
        for row in range(first, min(first + FILES_PER_FOLDER, rows)):
            os.link(originals / str(row % len(files)), part / f"{row:08d}.{ending}")
    return root


def write_parquet(folder: Path, rows: int, values: list[bytes] | list[str], column: str) -> Path:
    """One file with a column of files or texts and, beside files, labels."""
    kinds = {"image": datasets.Image(), "audio": datasets.Audio(), "text": Value("string")}
    labels = {} if column == "text" else {"label": Value("int64")}
    schema = Features({column: kinds[column]} | labels).arrow_schema
    repeated = itertools.cycle(values)
    with pyarrow.parquet.ParquetWriter(folder / "rows.parquet", schema) as writer:
        for first in range(0, rows, ROWS_PER_GROUP):
            numbers = range(first, min(first + ROWS_PER_GROUP, rows))
            content = list(itertools.islice(repeated, len(numbers)))
            cells = content if column == "text" else [{"bytes": value, "path": None} for value in content]
            table = {column: cells} | {name: [number % CLASSES for number in numbers] for name in labels}
            writer.write_table(pyarrow.table(table, schema=schema))
    return folder / "rows.parquet"


def write_text(folder: Path, rows: int) -> Path:
    """One text file."""
    with (folder / "rows.txt").open("w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in itertools.islice(itertools.cycle(lines()), rows))
    return folder / "rows.txt"


def write_tar(folder: Path, rows: int, files: list[bytes], ending: str) -> Path:
    """WebDataset shards; returns the pattern that finds them."""
    for shard in range(SHARDS):
        with (folder / f"rows-{shard:05d}.tar").open("wb") as file:
            for row in range(rows * shard // SHARDS, rows * (shard + 1) // SHARDS):
                file.writelines(_member(f"{row:08d}.{ending}", files[row % len(files)]))
                file.writelines(_member(f"{row:08d}.cls", str(row % CLASSES).encode()))
            file.write(bytes(2 * tarfile.BLOCKSIZE))
    return folder / "rows-*.tar"


def _member(name: str, content: bytes) -> Iterator[bytes]:
    header = tarfile.TarInfo(name)
    header.size = len(content)
    yield header.tobuf(tarfile.USTAR_FORMAT)
    yield content
    yield bytes(-len(content) % tarfile.BLOCKSIZE)


Write = Callable[[Path, int], Path]
SOURCES: dict[str, tuple[str, str, Write]] = {
    # name: (modality, flag, how it is written)
    "vision-folder": ("vision", "--train_dir", lambda folder, rows: write_folder(folder, rows, images(), "png")),
    "vision-parquet": ("vision", "--train_file", lambda folder, rows: write_parquet(folder, rows, images(), "image")),
    "vision-tar": ("vision", "--train_file", lambda folder, rows: write_tar(folder, rows, images(), "png")),
    "text-txt": ("text", "--train_file", write_text),
    "text-parquet": ("text", "--train_file", lambda folder, rows: write_parquet(folder, rows, lines(), "text")),
    "speech-folder": ("speech", "--train_dir", lambda folder, rows: write_folder(folder, rows, sounds(), "wav")),
    "speech-parquet": ("speech", "--train_file", lambda folder, rows: write_parquet(folder, rows, sounds(), "audio")),
    "speech-tar": ("speech", "--train_file", lambda folder, rows: write_tar(folder, rows, sounds(), "wav")),
}
