"""Images to batches: crop, normalise, and draw the masks of patches."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import torch

from ...masking.sample_rng import CROP, RowGenerators
from ...masking.sampler import MaskSampler, draw_grid_masks
from ..base_collator import Batch, Example, MaskingCollator, column

if TYPE_CHECKING:
    from .pixels import RandomResizedCrop


@dataclass
class DataCollatorForData2VecVision(MaskingCollator):
    """Images (PIL, key `image`) to `pixel_values` (B, C, H, W) float32 and `mask` (B, M, rows * columns) bool.

    `grid`: rows and columns of patches. `augment`: a random crop for each sample and epoch; None = as the processor
    does it.
    """

    image_processor: Any
    grid: tuple[int, int]
    mask: MaskSampler
    num_masks: int = 1
    seed: int = 0
    augment: "RandomResizedCrop | None" = None

    def __post_init__(self) -> None:
        from .pixels import PixelPipeline  # Pillow is an extra

        super().__post_init__()
        self.mask.check(self.grid)
        self._pixels = PixelPipeline(self.image_processor)

    def __call__(self, examples: Sequence[Example]) -> Batch:
        indices = self._sample_indices(examples)
        images = column(examples, "image")
        if self.augment is None:
            pixel_values = self._pixels.plain(images)
        else:
            streams = RowGenerators.for_samples(self.seed, self.epoch, indices, CROP)
            pixel_values = self._pixels.cropped(images, self.augment, streams)
        masks = draw_grid_masks(self.mask, self.grid, self.num_masks, self.seed, self.epoch, indices)
        return {"pixel_values": pixel_values, "mask": torch.from_numpy(masks)}

    def plain(self, examples: Sequence[Example]) -> Batch:
        """The encoder's inputs without crop or mask, equal to what the image processor gives."""
        return {"pixel_values": self._pixels.plain(column(examples, "image"))}

    def for_evaluation(self) -> Self:
        """The same collator with its epoch fixed at 0 and no crops, so that evaluations see and mask the same."""
        return dataclasses.replace(self, augment=None)
