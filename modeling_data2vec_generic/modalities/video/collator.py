"""Makes batches of clips: crops and normalises them, and draws masks of patches."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ...masking.sample_rng import CROP, RowGenerators
from ...masking.sampler import MaskSampler, draw_grid_masks
from ..base_collator import Batch, Example, MaskingCollator, column

if TYPE_CHECKING:
    from ..vision.pixels import RandomResizedCrop


@dataclass
class DataCollatorForData2VecVideo(MaskingCollator):
    """Turns samples with `video` (a list of F PIL images) and `sample_index` into batches.

    A batch has `pixel_values` (B, F, C, H, W) float32 and `mask` (B, M, T) bool, with T = steps * rows * columns, with
    its `mask_positions`. `finished_on_device` leaves rescaling and normalising to the device, as for images.

    Masks are tubes, as in VideoMAE (arXiv 2203.12602): one mask of the rows and columns, drawn as for an image, is
    used for all steps of a clip. Otherwise masked patches could be copied from the frames before and after.

    Args:
        image_processor: an image or video processor of transformers.
        grid: the number of steps in time, and of rows and columns of patches.
        mask: how masks are drawn.
        num_masks: M, masks per sample.
        seed: of masks and crops.
        augment: a random crop for each sample and epoch, the same for all frames. None: what the processor does.

    Raises:
        ValueError: masks would cover nothing or everything, or the processor cannot be used (see `PixelPipeline`).
    """

    image_processor: Any
    grid: tuple[int, int, int]
    mask: MaskSampler
    num_masks: int = 1
    seed: int = 0
    augment: "RandomResizedCrop | None" = None

    def __post_init__(self) -> None:
        from .clips import ClipPipeline  # Pillow is an optional dependency

        super().__post_init__()
        self.mask.check(self.grid[1:])
        self._pixels = ClipPipeline(self.image_processor)

    def __call__(self, examples: Sequence[Example]) -> Batch:
        indices = self._sample_indices(examples)
        steps, rows, columns = self.grid
        masks = draw_grid_masks(self.mask, (rows, columns), self.num_masks, self.seed, self.epoch, indices)
        clips = column(examples, "video")
        if self.augment is None:
            pixel_values = self._pixels.plain(clips, normalised=False)
        else:
            rng = RowGenerators.for_samples(self.seed, self.epoch, indices, CROP)
            pixel_values = self._pixels.cropped(clips, self.augment, rng, normalised=False)
        batch = self._with_masks({"pixel_values": pixel_values}, np.tile(masks, steps))
        return self._finished(batch, self._pixels.normalisation.finish)

    def plain(self, examples: Sequence[Example]) -> Batch:
        """The encoder's input without crop or mask, as the image processor gives it: `pixel_values`."""
        pixel_values = self._pixels.plain(column(examples, "video"), normalised=False)
        return self._finished({"pixel_values": pixel_values}, self._pixels.normalisation.finish)

    def for_evaluation(self) -> Self:
        """A copy of the collator whose epoch stays 0, as in the base class, and that does not crop."""
        return dataclasses.replace(self, augment=None)
