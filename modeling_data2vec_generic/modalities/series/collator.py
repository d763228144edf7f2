"""Time series to batches: stack, and draw the masks of patches."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ...masking.sampler import MaskSampler, draw_grid_masks
from ..base_collator import Batch, Example, MaskingCollator, column


@dataclass
class DataCollatorForData2VecSeries(MaskingCollator):
    """Time series (`series`, float32 (S, channels)) to `past_values` (B, S, channels) float32 and `mask` (B, M, T)
    bool.

    `grid`: sequences and patches of each, T = sequences * patches, counted sequence by sequence. Encoders that keep
    channels apart have a sequence per channel. Each is masked by itself: masks of the same kind, drawn independently.
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
        return {**self.plain(examples), "mask": torch.from_numpy(masks)}

    def plain(self, examples: Sequence[Example]) -> Batch:
        """The encoder's input without masks: `past_values`."""
        return {"past_values": torch.from_numpy(np.stack(column(examples, "series")).astype(np.float32))}
