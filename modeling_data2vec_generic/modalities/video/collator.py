"""Clips to batches: crop, normalise, and draw the masks of patches."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch

from ...masking.sample_rng import CROP, RowGenerators
from ...masking.sampler import MaskSampler, draw_grid_masks
from ..base_collator import Batch, Example, MaskingCollator, column

if TYPE_CHECKING:
    from ..vision.pixels import RandomResizedCrop


@dataclass
class DataCollatorForData2VecVideo(MaskingCollator):
    """Clips (`video`, lists of F PIL images) to `pixel_values` (B, F, C, H, W) float32 and `mask` (B, M, T) bool.

    `grid`: steps in time, rows and columns of patches, T = steps * rows * columns. Masks are tubes, as in VideoMAE
    (arXiv 2203.12602): one mask of the rows and columns, drawn as for an image, holds for all of a clip, or what is
    masked could be read off the frames before and after. `augment`: a random crop for each sample and epoch, the same
    for all frames; None = as the processor does it.
    """

    image_processor: Any
    grid: tuple[int, int, int]
    mask: MaskSampler
    num_masks: int = 1
    seed: int = 0
    augment: "RandomResizedCrop | None" = None

    def __post_init__(self) -> None:
        from .clips import ClipPipeline  # Pillow is an extra

        super().__post_init__()
        self.mask.check(self.grid[1:])
        self._pixels = ClipPipeline(self.image_processor)

    def __call__(self, examples: Sequence[Example]) -> Batch:
        indices = self._sample_indices(examples)
        steps, rows, columns = self.grid
        masks = draw_grid_masks(self.mask, (rows, columns), self.num_masks, self.seed, self.epoch, indices)
        if self.augment is None:
            batch = self.plain(examples)
        else:
            streams = RowGenerators.for_samples(self.seed, self.epoch, indices, CROP)
            batch = {"pixel_values": self._pixels.cropped(column(examples, "video"), self.augment, streams)}
        return {**batch, "mask": torch.from_numpy(np.tile(masks, steps))}

    def plain(self, examples: Sequence[Example]) -> Batch:
        """The encoder's input without crop or mask, equal to what the image processor gives."""
        return {"pixel_values": self._pixels.plain(column(examples, "video"))}

    def for_evaluation(self) -> Self:
        """The same collator with its epoch fixed at 0 and no crops, so that evaluations see and mask the same."""
        return dataclasses.replace(self, augment=None)
