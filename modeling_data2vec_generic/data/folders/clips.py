"""The clips of a folder: each folder that directly holds images is one, with the images as its frames."""

import os
import re
from collections.abc import Iterator

import numpy as np
import pyarrow
import pyarrow.compute
from numpy.typing import NDArray

from .listing import Listing, Mask

_FRAMES_AT_ONCE = 1 << 16


class Clips:
    """The clips of a folder, in order.

    Args:
        listing: the files of the folder.
        frames: which of them are frames.
    """

    def __init__(self, listing: Listing, frames: Mask) -> None:
        self.listing, self._files = listing, np.flatnonzero(frames)
        folder = listing.folder[self._files]  # a list has the files of each folder together
        self._starts = np.flatnonzero(np.diff(folder, prepend=-1))
        self._ends = np.append(self._starts[1:], len(folder))
        self.folder = folder[self._starts]

    def __len__(self) -> int:
        return len(self.folder)

    def path(self, number: int) -> str:
        """The absolute path of a clip's folder."""
        return self.listing.folders[self.folder[number]]

    def frames(self, numbers: NDArray[np.int64]) -> Iterator[pyarrow.ListArray]:
        """The paths of the frames of some clips in the order of their numbers, a few clips at a time.

        The number -1 is a clip without frames.
        """
        sizes = np.where(numbers < 0, 0, self._ends[numbers] - self._starts[numbers])
        piece = np.cumsum(sizes) // _FRAMES_AT_ONCE
        for own in np.split(np.arange(len(numbers)), np.flatnonzero(np.diff(piece)) + 1):
            ends = np.concatenate([[0], np.cumsum(sizes[own])])
            files = [self._in_order(number) for number, size in zip(numbers[own], sizes[own], strict=True) if size]
            paths = self.listing.paths(np.concatenate(files)) if files else pyarrow.array([], pyarrow.string())
            yield pyarrow.ListArray.from_arrays(pyarrow.array(ends, pyarrow.int32()), paths)

    def _in_order(self, clip: int) -> NDArray[np.int64]:
        """The numbers of the clip's files in the order of the numbers in their names."""
        files = self._files[self._starts[clip] : self._ends[clip]]
        names = self.listing.files["name"].take(pyarrow.array(files))
        if pyarrow.compute.count_distinct(pyarrow.compute.replace_substring_regex(names, r"[0-9]", "0")).as_py() == 1:
            return files  # numbers of equally many digits, in whose order the list is
        order = sorted(range(len(files)), key=[_by_number(name) for name in names.to_pylist()].__getitem__)
        return files[order]


def _by_number(name: str) -> list[tuple[int, str]]:
    """A key that sorts the numbers in file names by their value."""
    return [(int(part) if part.isdecimal() else -1, part) for part in re.split(r"(\d+)", os.path.basename(name))]
