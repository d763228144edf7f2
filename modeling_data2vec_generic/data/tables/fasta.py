"""Proteins: FASTA files.

A file is read as text, a sequence per row: proteins are then text like any other, of letters in place of words.
"""

import gzip
from collections.abc import Iterable, Iterator
from pathlib import Path

_LONGEST = 1_000_000  # letters of a sequence; the longest protein known has some 45,000
_PLAIN = (".fasta", ".fa", ".faa", ".fas", ".fna")
FASTA_ENDINGS = (*_PLAIN, *(f"{ending}.gz" for ending in _PLAIN))


def is_fasta(path: Path) -> bool:
    """Whether a file's name says that it is FASTA."""
    return path.name.lower().endswith(FASTA_ENDINGS)


def sequences_of(path: Path) -> Iterator[str]:
    """The `sequences` of a FASTA file, plain or gzipped."""
    opener = gzip.open if path.suffix.lower() == ".gz" else open
    with opener(path, "rt", encoding="utf-8-sig") as file:
        # Not whole lines: one of a gzipped file may be a thousand times as long as the file.
        yield from sequences(iter(lambda: file.readline(_LONGEST + 1), ""))


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


def _joined(parts: list[str]) -> str:
    return "".join("".join(parts).split()).upper().removesuffix("*")
