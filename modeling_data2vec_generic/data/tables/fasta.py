"""FASTA files of proteins, read as text with one sequence per row."""

import io
from collections.abc import Iterable, Iterator
from pathlib import Path

from .compressed import opened
from .lines import TextTable
from .table import Piece

_LONGEST = 1_000_000  # letters of a sequence; the longest known protein has about 45,000
FASTA_ENDINGS = (".fasta", ".fa", ".faa", ".fas", ".fna")


class FastaTable(TextTable):
    """A FASTA file: its sequences become the column `text`."""

    kind = "FASTA"

    def pieces_of(self, path: Path, count: int) -> list[Piece]:
        return [Piece(path)]

    def texts_of(self, piece: Piece) -> Iterator[str]:
        with opened(piece.path) as content:
            file = io.TextIOWrapper(content, encoding="utf-8-sig")
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
