"""Random numbers that depend on (seed, epoch, sample) alone, and not on the batch that a sample is in.

Making one numpy generator per sample takes 10 microseconds each, longer than drawing the mask of a small image. Here
every number is a hash of the key of its row and its place in that row. A whole batch is therefore drawn in one
vectorised pass, and its rows do not depend on each other. The hash is the finaliser of SplitMix64 (Steele, Lea and
Flood, 2014).
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FACTOR_1 = np.uint64(0xBF58476D1CE4E5B9)
_FACTOR_2 = np.uint64(0x94D049BB133111EB)

# What the numbers are used for. The mask, the replaced tokens and the crop of a sample are drawn independently.
MASK, TOKENS, CROP = 1, 2, 3


class DrawsByEpoch:
    """Base of collators whose random choices differ from epoch to epoch: it holds the number of the epoch.

    The number is in shared memory, so that `set_epoch` in the main process also reaches loader workers that are kept
    alive (`dataloader_persistent_workers`).
    """

    def __init__(self) -> None:
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()

    @property
    def epoch(self) -> int:
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Call this before each pass over the data; otherwise all passes have the same masks and crops."""
        self._epoch.fill_(epoch)


class UniformSource(Protocol):
    """Anything that draws (rows, columns) uniform numbers in [0, 1): a `numpy.random.Generator` or `RowGenerators`."""

    def random(self, size: tuple[int, int], /) -> NDArray[np.float64]: ...


class RowGenerators:
    """One generator of uniform numbers per row.

    A number depends on the key of its row and on how many numbers were drawn before it, and not on other rows.

    Args:
        keys: (rows,) uint64. Rows with the same key draw the same numbers.
    """

    def __init__(self, keys: NDArray[np.uint64]):
        self.keys = keys
        self._drawn = 0

    @classmethod
    def for_samples(
        cls, seed: int, epoch: int, sample_indices: Sequence[int], purpose: int, copies: int = 1
    ) -> "RowGenerators":
        """Generators for `copies` independent draws per sample.

        Args:
            seed: the seed of the run.
            epoch: the number of the epoch.
            sample_indices: numbers of the samples.
            purpose: one of MASK, TOKENS and CROP.
            copies: rows per sample. All rows of the first sample come first, then those of the second, and so on.
        """
        samples = np.repeat(np.asarray(sample_indices, dtype=np.int64), copies)
        copy_numbers = np.tile(np.arange(copies), len(sample_indices))
        keys = np.zeros(len(samples), dtype=np.uint64)
        for part in (seed, epoch, purpose, samples, copy_numbers):
            keys = _mix(_mix(keys + _GOLDEN) ^ np.asarray(part, dtype=np.int64).astype(np.uint64))
        return cls(keys)

    def random(self, size: tuple[int, int], /) -> NDArray[np.float64]:
        """The next numbers of every row, (rows, columns) float64 in [0, 1).

        Raises:
            ValueError: `size` has another number of rows than there are keys.
        """
        rows, columns = size
        if rows != len(self.keys):
            raise ValueError(f"Numbers for {rows} rows were asked for, but there are generators for {len(self.keys)}.")
        counters = np.arange(self._drawn + 1, self._drawn + columns + 1, dtype=np.uint64) * _GOLDEN
        self._drawn += columns
        bits = _mix(self.keys[:, None] + counters)
        bits >>= np.uint64(11)
        return bits.astype(np.float64) * 2.0**-53


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A bijection of 64-bit numbers in which every input bit reaches every output bit."""
    x = x ^ (x >> np.uint64(30))
    x *= _FACTOR_1
    x ^= x >> np.uint64(27)
    x *= _FACTOR_2
    x ^= x >> np.uint64(31)
    return x
