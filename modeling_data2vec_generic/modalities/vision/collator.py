"""Makes batches of images: crops and normalises them, and draws masks of patches."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from ...masking.sample_rng import CROP, RowGenerators
from ...masking.sampler import MaskSampler, draw_grid_masks
from ..base_collator import Batch, Example, MaskingCollator, column

if TYPE_CHECKING:
    from .pixels import RandomResizedCrop


@dataclass
class DataCollatorForData2VecVision(MaskingCollator):
    """Turns samples with `image` (PIL) and `sample_index` into batches.

    A batch has `pixel_values` (B, C, H, W) float32 and `mask` (B, M, rows * columns) bool with its `mask_positions`.
    `finished_on_device` leaves rescaling and normalising to the device: uint8 pixels then leave a loader's worker.

    Args:
        image_processor: an image processor of transformers.
        grid: the number of rows and columns of patches.
        mask: how masks are drawn.
        num_masks: M, masks per sample.
        seed: of masks and crops.
        augment: a random crop for each sample and epoch. None: what the processor does.

    Raises:
        ValueError: masks would cover nothing or everything, or the processor cannot be used (see `PixelPipeline`).
    """

    image_processor: Any
    grid: tuple[int, int]
    mask: MaskSampler
    num_masks: int = 1
    seed: int = 0
    augment: "RandomResizedCrop | None" = None

    def __post_init__(self) -> None:
        from .pixels import PixelPipeline  # Pillow is an optional dependency

        super().__post_init__()
        self.mask.check(self.grid)
        self._pixels = PixelPipeline(self.image_processor)

    def __call__(self, examples: Sequence[Example]) -> Batch:
        indices = self._sample_indices(examples)
        images = column(examples, "image")
        if self.augment is None:
            pixel_values = self._pixels.plain(images, normalised=False)
        else:
            rng = RowGenerators.for_samples(self.seed, self.epoch, indices, CROP)
            pixel_values = self._pixels.cropped(images, self.augment, rng, normalised=False)
        masks = draw_grid_masks(self.mask, self.grid, self.num_masks, self.seed, self.epoch, indices)
        batch = self._with_masks({"pixel_values": pixel_values}, masks)
        return self._finished(batch, self._pixels.normalisation.finish)

    def plain(self, examples: Sequence[Example]) -> Batch:
        """The encoder's input without crop or mask, as the image processor gives it: `pixel_values`."""
        pixel_values = self._pixels.plain(column(examples, "image"), normalised=False)
        return self._finished({"pixel_values": pixel_values}, self._pixels.normalisation.finish)

    def for_evaluation(self) -> Self:
        """A copy of the collator whose epoch stays 0, as in the base class, and that does not crop."""
        return dataclasses.replace(self, augment=None)
