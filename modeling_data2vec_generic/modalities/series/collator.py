"""Makes batches of time series: stacks them, and draws masks of patches."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ...masking.sampler import MaskSampler, draw_grid_masks
from ..base_collator import Batch, Example, MaskingCollator, column


@dataclass
class DataCollatorForData2VecSeries(MaskingCollator):
    """Turns samples with `series` (float32 (S, channels)) and `sample_index` into batches.

    A batch has `past_values` (B, S, channels) float32, and `mask` (B, M, T) bool with its `mask_positions`. T is
    sequences * patches, counted sequence by sequence.

    Args:
        grid: the number of sequences, and of patches in each. Encoders that keep channels apart have a sequence for
            each channel, and others one sequence. The masks of sequences are independent.
        mask: how masks are drawn.
        num_masks: M, masks per sample.
        seed: of the masks.

    Raises:
        ValueError: masks would cover nothing or everything.
    """

    grid: tuple[int, int]
    mask: MaskSampler
    num_masks: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.mask.check(self.grid[1:])

    def __call__(self, examples: Sequence[Example]) -> Batch:
        indices = self._sample_indices(examples)
        sequences, patches = self.grid
        masks = draw_grid_masks(self.mask, (patches,), self.num_masks * sequences, self.seed, self.epoch, indices)
        masks = masks.reshape(len(examples), self.num_masks, -1)
        return self._with_masks(self.plain(examples), masks)

    def plain(self, examples: Sequence[Example]) -> Batch:
        """The encoder's input without masks: `past_values` (B, S, channels) float32."""
        return {"past_values": torch.from_numpy(np.stack(column(examples, "series")).astype(np.float32))}
