"""Masks as users choose them: the flags, a checked `MaskSampler`, and the draw for the samples of a batch.

True = masked, that is, to be predicted. The shapes themselves are in `mask_shapes`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .sample_rng import MASK, RowGenerators, UniformSource
from .shapes import BoolArray, beit_block_mask, block_mask, exact_span_mask, random_mask, span_mask

STRATEGIES = ("random", "span", "block", "inverse_block")

# BEiT's smallest rectangle, 16 patches, was chosen for 14 x 14 patches; smaller grids get the same share of the image.
_BEIT_MIN_AREA, _BEIT_GRID_SIZE = 16, 196


@dataclass
class MaskArguments:
    """The flags about masks. A field left out takes the value of the recipe for the modality and objective."""

    mask_strategy: str | None = field(
        default=None,
        metadata={
            "help": "What shape masks have. random: single positions, nothing structured. span: spans that may "
            "overlap. block: with mask_length, blocks of that side cut to an exact count; without it, BEiT's "
            "rectangles (images). inverse_block: everything is masked but blocks of side mask_length. Larger shapes "
            "make a harder task.",
            "choices": list(STRATEGIES),
        },
    )
    mask_ratio: float | None = field(
        default=None,
        metadata={
            "help": "Share of the positions that may be masked (no padding, no special tokens) that are. Between 0 "
            "and 1. Higher: a harder task, and cheaper steps where the student reads visible positions only. With "
            "spans that overlap, fewer end up masked: about 1 - exp(-mask_ratio)."
        },
    )
    mask_length: int | None = field(
        default=None,
        metadata={"help": "Length of a span, or side of a block, in tokens, frames or patches. Not used by `random`."},
    )
    mask_adjust: float | None = field(
        default=None,
        metadata={
            "help": "Added to the ratio when blocks of side mask_length are counted out, to make up for their "
            "overlap: higher, fewer single positions are needed to reach the exact number. Changes no count."
        },
    )
    mask_exact: bool = field(
        default=False,
        metadata={
            "help": "Strategy span only: go on adding spans until exactly mask_ratio of the positions are masked, "
            "in place of the published union of a fixed number of spans. The other strategies are always exact."
        },
    )


@dataclass(frozen=True)
class MaskSampler:
    """A checked choice of strategy. `exact` is for spans: the other strategies always mask `count(T)` positions."""

    strategy: str
    ratio: float
    length: int | None = None
    adjust: float = 0.0
    exact: bool = False

    def __post_init__(self) -> None:
        if self.strategy not in STRATEGIES:
            raise ValueError(f"mask_strategy={self.strategy!r} is not known. Choose one of: {', '.join(STRATEGIES)}.")
        if not 0 < self.ratio < 1:
            raise ValueError(
                f"mask_ratio={self.ratio} would mask nothing or everything. It is a share: choose it between 0 and 1."
            )
        if self.length is None and self.strategy in ("span", "inverse_block"):
            raise ValueError(
                f"mask_strategy={self.strategy!r} needs mask_length, the length of a span or side of a block in "
                "positions."
            )
        if self.length is not None and self.length < 1:
            raise ValueError(f"mask_length={self.length} must be at least 1 position.")
        if self.adjust < 0:
            raise ValueError(f"mask_adjust={self.adjust} must not be negative: it makes up for blocks that overlap.")

    def count(self, size: int) -> int:
        """How many of `size` positions are masked (by spans: if `exact`). As published, hence two ways to round."""
        if self.strategy in ("random", "inverse_block"):
            return size - int(size * (1 - self.ratio))
        return int(size * self.ratio)

    @property
    def min_positions(self) -> int:
        """The shortest sequence that can be masked. Samples with fewer positions to mask must be left out."""
        size = 2
        while not self._is_possible(size):
            size += 1
        return size

    def check(self, grid: Sequence[int]) -> None:
        """ValueError if a mask of a sequence (T,) or grid (rows, columns) would cover nothing or everything."""
        size = math.prod(grid)
        if self.strategy == "block" and self.length is None and len(grid) != 2:
            raise ValueError(
                "mask_strategy='block' without mask_length draws rectangles, which need a 2-d grid of patches. Set "
                "mask_length to mask blocks of a sequence."
            )
        if self._is_possible(size):
            return
        reason = (
            f"a span of {self.length} leaves nothing visible"
            if self.strategy == "span" and self.length is not None and self.length >= size
            else f"{self.count(size)} would be masked"
        )
        raise ValueError(
            f"mask_ratio={self.ratio}, mask_length={self.length} cannot mask {size} positions ({self.strategy}): "
            f"{reason}. At least one position must be masked and one visible: change the ratio or length, or leave "
            f"out what has fewer than {self.min_positions} positions."
        )

    def _is_possible(self, size: int) -> bool:
        if self.strategy == "span":
            assert self.length is not None
            return self.length < size and (not self.exact or 0 < self.count(size) < size)
        return 0 < self.count(size) < size

    def __call__(self, grid: tuple[int, ...], rows: int, rng: UniformSource) -> BoolArray:
        """`rows` independent masks of a sequence (T,) or grid (height, width), bool (rows, T)."""
        self.check(grid)
        size = math.prod(grid)
        if self.strategy == "random":
            return random_mask(rows, size, self.ratio, rng)
        if self.length is None:
            min_area = min(_BEIT_MIN_AREA, max(1, round(size * _BEIT_MIN_AREA / _BEIT_GRID_SIZE)))
            return beit_block_mask(rows, (grid[0], grid[1]), self.count(size), rng, min_area=min_area, exact=True)
        if self.strategy != "span":
            inverse = self.strategy == "inverse_block"
            return block_mask(rows, grid, self.ratio, self.length, rng, adjust=self.adjust, inverse=inverse)
        if self.exact:
            return exact_span_mask(rows, size, self.count(size), self.length, rng)
        mask = span_mask(rows, size, self.ratio, self.length, rng)
        # On very short rows the spans can meet from both ends; one position then stays visible.
        full = mask.all(axis=1)
        mask[full, (rng.random((rows, 1))[full, 0] * size).astype(np.int64)] = False
        return mask


def draw_grid_masks(
    sampler: MaskSampler, grid: tuple[int, ...], num_masks: int, seed: int, epoch: int, sample_indices: Sequence[int]
) -> BoolArray:
    """`num_masks` masks for each sample, bool (B, M, T), each a function of (seed, epoch, sample, m) alone."""
    streams = RowGenerators.for_samples(seed, epoch, sample_indices, MASK, copies=num_masks)
    return sampler(grid, len(sample_indices) * num_masks, streams).reshape(len(sample_indices), num_masks, -1)


def draw_sequence_masks(
    sampler: MaskSampler,
    allowed: BoolArray,
    num_masks: int,
    seed: int,
    epoch: int,
    sample_indices: Sequence[int],
    content: BoolArray | None = None,
) -> BoolArray:
    """`num_masks` masks over the `allowed` positions (B, T) of each sample, bool (B, M, T).

    The content of a sample is masked as if it were a sequence of its own, so its mask depends neither on the padding
    the batch gave it nor on the special tokens around it.

    Args:
        content: (B, T), the allowed positions and those among them that are never masked, such as separators; others
            are masked in their place, so that samples of one length have as many masked. `None`: the allowed ones.
    """
    content = allowed if content is None else content
    streams = RowGenerators.for_samples(seed, epoch, sample_indices, MASK, copies=num_masks)
    keys = streams.keys.reshape(-1, num_masks)
    masks = np.zeros((allowed.shape[0], num_masks, allowed.shape[1]), dtype=bool)
    sizes = content.sum(axis=1)
    for size in np.unique(sizes).tolist():
        members = np.flatnonzero(sizes == size)
        numbers = RowGenerators(keys[members].ravel())
        try:
            drawn = sampler((size,), len(members) * num_masks, numbers)
        except ValueError as error:
            sample_index = sample_indices[int(members[0])]
            raise ValueError(
                f"sample_index={sample_index} has {size} positions that may be masked. {error}"
            ) from error
        places = np.nonzero(content[members])[1].reshape(-1, 1, size)
        may_be = np.repeat(np.take_along_axis(allowed[members], places[:, 0], axis=1), num_masks, axis=0)
        if not may_be.all():
            drawn = _moved(drawn, may_be, numbers.random(drawn.shape))
        masks[members[:, None, None], np.arange(num_masks)[:, None], places] = drawn.reshape(-1, num_masks, size)
    return masks


def _moved(masks: BoolArray, allowed: BoolArray, order: NDArray[np.float64]) -> BoolArray:
    """Masks (rows, T) whose positions that are not `allowed` have moved to allowed ones, which by random `order`; as
    many as there are."""
    kept = masks & allowed
    missing = masks.sum(axis=1) - kept.sum(axis=1)
    free = allowed & ~kept
    place = np.argsort(np.argsort(np.where(free, order, np.inf), axis=1), axis=1)
    return kept | (free & (place < missing[:, None]))
