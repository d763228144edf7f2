"""FASTA files of proteins, read as text with one sequence per row."""

import gzip
from collections.abc import Iterable, Iterator
from pathlib import Path

_LONGEST = 1_000_000  # letters of a sequence; the longest known protein has about 45,000
_PLAIN = (".fasta", ".fa", ".faa", ".fas", ".fna")
FASTA_ENDINGS = (*_PLAIN, *(f"{ending}.gz" for ending in _PLAIN))


def is_fasta(path: Path) -> bool:
    """Whether a file is FASTA, by its extension."""
    return path.name.lower().endswith(FASTA_ENDINGS)


def sequences_of(path: Path) -> Iterator[str]:
    """The sequences of a FASTA file, plain or gzipped; see `sequences`."""
    opener = gzip.open if path.suffix.lower() == ".gz" else open
    with opener(path, "rt", encoding="utf-8-sig") as file:
        # Long lines are read in parts: a line of a gzipped file may be a thousand times as long as the file.
        yield from sequences(iter(lambda: file.readline(_LONGEST + 1), ""))


def sequences(lines: Iterable[str]) -> Iterator[str]:
    """The sequence below each header (a line that begins with `>`), in upper case, without its stop codon (`*`).

    Lines that begin with `;` are comments. An entry without residues is an empty string.

    Raises:
        ValueError: there is no header, or a sequence has more than a million letters.
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
