"""Cuts files of lines into pieces, each of which can be read on its own."""

import io
from pathlib import Path

from .compressed import is_compressed, opened
from .table import Piece

_CHUNK = 1 << 20  # bytes


def pieces_of_lines(path: Path, count: int) -> list[Piece]:
    """Cuts a file at ends of lines into at most `count` pieces of about the same size, one if it is compressed."""
    if is_compressed(path):
        return [Piece(path)]
    size = path.stat().st_size
    starts = [0]
    with path.open("rb") as file:
        for number in range(1, count):
            file.seek(max(number * size // count - 1, starts[-1]))
            while (line := file.readline(_CHUNK)) and not line.endswith(b"\n"):
                pass
            if starts[-1] < file.tell() < size:
                starts.append(file.tell())
    return [Piece(path, start, stop) for start, stop in zip(starts, [*starts[1:], None], strict=True)]


def lines_before(piece: Piece) -> int:
    """The number of lines of the file before the piece."""
    left, found = piece.start, 0
    with opened(piece.path) as file:
        while left and (chunk := file.read(min(left, _CHUNK))):
            found += chunk.count(b"\n")
            left -= len(chunk)
    return found


class PartOfFile(io.RawIOBase):
    """The bytes of a piece, as a file of its own."""

    def __init__(self, file: io.BufferedIOBase, piece: Piece) -> None:
        self.file = file
        self.left = None if piece.stop is None else piece.stop - piece.start
        if piece.start:
            file.seek(piece.start)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        wanted = len(buffer) if self.left is None else min(len(buffer), self.left)
        found = self.file.read(wanted)
        buffer[: len(found)] = found
        if self.left is not None:
            self.left -= len(found)
        return len(found)
