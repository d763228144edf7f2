"""Masks as users choose them: the flags, the `MaskSampler` made from them, and the masks of a batch.

True means masked: the student has to predict this position. The functions that draw the masks are in `shapes.py`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .sample_rng import MASK, RowGenerators, UniformSource
from .shapes import BoolArray, beit_block_mask, block_mask, exact_span_mask, random_mask, span_mask

STRATEGIES = ("random", "span", "block", "inverse_block")

# BEiT's smallest rectangle has 16 of 14 x 14 patches. On smaller grids it covers the same share of the image.
_BEIT_MIN_AREA, _BEIT_GRID_SIZE = 16, 196


@dataclass
class MaskArguments:
    """The flags about masks. A flag that is left out takes the value of `--objective` for the modality."""

    mask_strategy: str | None = field(
        default=None,
        metadata={
            "help": "The shape of masks. random: single positions. span: spans of mask_length positions, which may "
            "overlap. block: blocks whose side is mask_length; without mask_length, BEiT's rectangles (images only). "
            "inverse_block: everything is masked except blocks whose side is mask_length. Larger shapes make a "
            "harder task.",
            "choices": list(STRATEGIES),
        },
    )
    mask_ratio: float | None = field(
        default=None,
        metadata={
            "help": "Share of the positions that are masked, between 0 and 1. Padding and special tokens do not "
            "count. A higher share makes a harder task, and cheaper steps where the student reads visible positions "
            "only. Strategy span masks fewer, since its spans overlap: about 1 - exp(-mask_ratio)."
        },
    )
    mask_length: int | None = field(
        default=None,
        metadata={
            "help": "Length of a span, or side of a block, in tokens, frames or patches. Strategy random ignores it."
        },
    )
    mask_adjust: float | None = field(
        default=None,
        metadata={
            "help": "Added to the ratio when the number of blocks is computed, to make up for blocks that overlap. "
            "The number of masked positions stays the same: if the blocks cover too few or too many, single positions "
            "are added or removed."
        },
    )
    mask_exact: bool = field(
        default=False,
        metadata={
            "help": "Strategy span only: add spans until exactly mask_ratio of the positions are masked. By default "
            "the number of spans is fixed, as published, and they may overlap. The other strategies are always exact."
        },
    )


@dataclass(frozen=True)
class MaskSampler:
    """Draws masks with one strategy. The fields are the flags of `MaskArguments` without `mask_`.

    All strategies mask exactly `count(T)` of T positions, except "span" without `exact`.

    Raises:
        ValueError: the settings cannot mask anything, or do not go together.
    """

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
        """How many of `size` positions are masked. Spans mask this number only if `exact`.

        The strategies round differently, each as in the published code.
        """
        if self.strategy in ("random", "inverse_block"):
            return size - int(size * (1 - self.ratio))
        return int(size * self.ratio)

    @property
    def min_positions(self) -> int:
        """The shortest sequence that can be masked, in positions. Shorter samples must be left out."""
        size = 2
        while not self._is_possible(size):
            size += 1
        return size

    def check(self, grid: Sequence[int]) -> None:
        """Checks that masks of a sequence (T,) or of a grid (rows, columns) have masked and visible positions.

        Raises:
            ValueError: a mask would cover nothing or everything, or the strategy needs a grid.
        """
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
        """Draws `rows` independent masks, bool (rows, T), of a sequence (T,) or of a grid (height, width).

        Raises:
            ValueError: as `check`.
        """
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
        # In very short rows the spans can cover everything. One random position then stays visible.
        full = mask.all(axis=1)
        mask[full, (rng.random((rows, 1))[full, 0] * size).astype(np.int64)] = False
        return mask


def draw_grid_masks(
    sampler: MaskSampler, grid: tuple[int, ...], num_masks: int, seed: int, epoch: int, sample_indices: Sequence[int]
) -> BoolArray:
    """Masks for samples that all have the same grid of positions.

    Returns:
        bool (B, M, T), with M = `num_masks`. Mask m of a sample depends on (seed, epoch, sample, m) alone.

    Raises:
        ValueError: as `MaskSampler.check`.
    """
    rng = RowGenerators.for_samples(seed, epoch, sample_indices, MASK, copies=num_masks)
    return sampler(grid, len(sample_indices) * num_masks, rng).reshape(len(sample_indices), num_masks, -1)


def draw_sequence_masks(
    sampler: MaskSampler,
    allowed: BoolArray,
    num_masks: int,
    seed: int,
    epoch: int,
    sample_indices: Sequence[int],
    content: BoolArray | None = None,
) -> BoolArray:
    """Masks for samples of different lengths.

    The content of a sample is masked as if it were a sequence of its own. Its mask depends neither on the padding that
    the batch adds nor on the special tokens around it.

    Args:
        allowed: bool (B, T), the positions that may be masked.
        content: bool (B, T), the positions that a mask is drawn over: the allowed ones and those between them that
            must not be masked, such as separators. If a drawn mask covers one of the latter, an allowed position is
            masked instead, so that samples of the same length have the same number of masked positions. Default: the
            allowed positions.

    Returns:
        bool (B, M, T), with M = `num_masks`.

    Raises:
        ValueError: a sample has too few positions to be masked.
    """
    content = allowed if content is None else content
    keys = RowGenerators.for_samples(seed, epoch, sample_indices, MASK, copies=num_masks).keys.reshape(-1, num_masks)
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
    """Moves masked positions that are not `allowed` to visible positions that are, as long as there are any.

    Args:
        masks, allowed: bool (rows, T).
        order: (rows, T), random numbers. Visible positions with the smallest numbers are masked first.
    """
    kept = masks & allowed
    missing = masks.sum(axis=1) - kept.sum(axis=1)
    free = allowed & ~kept
    place = np.argsort(np.argsort(np.where(free, order, np.inf), axis=1), axis=1)
    return kept | (free & (place < missing[:, None]))
