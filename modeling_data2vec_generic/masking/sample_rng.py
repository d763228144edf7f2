"""Random numbers that belong to a sample: the same for the same (seed, epoch, sample), whatever the batch around it.

A numpy generator per sample costs 10 microseconds before it draws anything, which on small images is more than the
whole budget of masking. Here every number is a hash of (key of its row, place in the row): a batch is drawn in one
vectorised pass and no row knows of the others. The hash is the finaliser of SplitMix64 (Steele, Lea, Flood, 2014).
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FACTOR_1 = np.uint64(0xBF58476D1CE4E5B9)
_FACTOR_2 = np.uint64(0x94D049BB133111EB)

# What the numbers are for: one sample's mask, replaced tokens and crop must not depend on one another.
MASK, TOKENS, CROP = 1, 2, 3


class DrawsByEpoch:
    """Of a collator whose random choices differ from epoch to epoch: which one it is.

    It lies in shared memory, so that `set_epoch` in the main process reaches workers that live on
    (`dataloader_persistent_workers`).
    """

    def __init__(self) -> None:
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()

    @property
    def epoch(self) -> int:
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Call it before each pass over the data, or every pass repeats the masks and crops of the first."""
        self._epoch.fill_(epoch)


class UniformSource(Protocol):
    """Anything that draws (rows, columns) numbers from [0, 1): a `numpy.random.Generator`, or `RowGenerators`."""

    def random(self, size: tuple[int, int], /) -> NDArray[np.float64]: ...


class RowGenerators:
    """A stream of uniform numbers per row: they depend on the row's key and on how many it drew before."""

    def __init__(self, keys: NDArray[np.uint64]):
        self.keys = keys
        self._drawn = 0

    @classmethod
    def for_samples(
        cls, seed: int, epoch: int, sample_indices: Sequence[int], purpose: int, copies: int = 1
    ) -> "RowGenerators":
        """Streams for `copies` draws per sample: rows s0c0, s0c1, ..., s1c0, ..."""
        samples = np.repeat(np.asarray(sample_indices, dtype=np.int64), copies)
        copy_numbers = np.tile(np.arange(copies), len(sample_indices))
        keys = np.zeros(len(samples), dtype=np.uint64)
        for part in (seed, epoch, purpose, samples, copy_numbers):
            keys = _mix(_mix(keys + _GOLDEN) ^ np.asarray(part, dtype=np.int64).astype(np.uint64))
        return cls(keys)

    def random(self, size: tuple[int, int], /) -> NDArray[np.float64]:
        """The next `columns` numbers of every row, (rows, columns) float64 in [0, 1)."""
        rows, columns = size
        if rows != len(self.keys):
            raise ValueError(f"{rows} rows were asked of streams for {len(self.keys)} rows.")
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
