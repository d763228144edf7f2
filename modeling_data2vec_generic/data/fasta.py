"""Proteins: FASTA files, and one token per amino acid.

A file is read as text, a sequence per row: proteins are then text like any other, of letters in place of words.
"""

import gzip
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from datasets import Dataset, Features, IterableDataset, Value
from datasets.exceptions import DatasetGenerationError
from transformers import EsmTokenizer
from transformers.models.esm.configuration_esm import get_default_vocab_list

_LONGEST = 1_000_000  # letters of a sequence; the longest protein known has some 45,000
FASTA_ENDINGS = (".fasta", ".fa", ".faa", ".fasta.gz", ".fa.gz", ".faa.gz")


def is_fasta(path: Path) -> bool:
    """Whether a file's name says that it is FASTA."""
    return path.name.lower().endswith(FASTA_ENDINGS)


def load_fasta(path: Path, flag: str) -> Dataset:
    """Column `text` with the sequences of a FASTA file, plain or gzipped. `flag` is for messages.

    Raises:
        ValueError: the file does not begin with a header, is damaged, or has no entry.
    """
    state = path.stat()
    try:
        # A generator rather than from_dict: it is kept on disk under a key of the file, its time and size.
        return Dataset.from_generator(
            _rows,
            features=Features({"text": Value("string")}),
            gen_kwargs={"file": str(path.absolute()), "state": (state.st_mtime, state.st_size)},
        )
    except DatasetGenerationError as error:  # which wraps what the generator raises
        raise ValueError(f"{flag}={str(path)!r} cannot be read as FASTA: {error.__cause__ or error}") from error


def stream_fasta(path: Path) -> IterableDataset:
    """The same, one sequence after the other."""
    return IterableDataset.from_generator(
        _rows,
        features=Features({"text": Value("string")}),
        gen_kwargs={"file": str(path.absolute()), "state": (0.0, 0)},
    )


def sequences(lines: Iterable[str]) -> Iterator[str]:
    """The sequence below each header (a line that begins with `>`), in capitals, without its stop codon (`*`).

    Lines that begin with `;` are comments. An entry without residues is an empty sequence.
    """
    parts: list[str] | None = None
    length = 0
    for number, line in enumerate(lines, start=1):
        line = line.strip()
        if line.startswith(">"):
            if parts is not None:
                yield _joined(parts)
            parts, length = [], 0
        elif line and not line.startswith(";"):
            if parts is None:
                raise ValueError(f"line {number} is {line[:40]!r}, but an entry begins with a line `>name`")
            parts.append(line)
            length += len(line)
            if length > _LONGEST:
                raise ValueError(f"the sequence at line {number} has more than {_LONGEST} letters: it is no protein")
    if parts is None:
        raise ValueError("there is no entry, that is, no line `>name`")
    yield _joined(parts)


def amino_acid_tokenizer() -> EsmTokenizer:
    """The tokenizer of ESM-2 and its kin: 33 tokens, one per amino acid, with <cls> and <eos> around a sequence.

    Letters that it does not know become <unk>.
    """
    with tempfile.TemporaryDirectory() as folder:
        vocabulary = Path(folder, "vocab.txt")
        vocabulary.write_text("\n".join(get_default_vocab_list()), encoding="utf-8")
        return EsmTokenizer(str(vocabulary))


def _rows(file: str, state: tuple[float, int]) -> Iterator[dict[str, str]]:
    opener = gzip.open if file.lower().endswith(".gz") else open
    with opener(file, "rt", encoding="utf-8-sig") as file_of_lines:
        # Not whole lines: one of a gzipped file may be a thousand times as long as the file.
        for sequence in sequences(iter(lambda: file_of_lines.readline(_LONGEST + 1), "")):
            yield {"text": sequence}


def _joined(parts: list[str]) -> str:
    return "".join("".join(parts).split()).upper().removesuffix("*")
