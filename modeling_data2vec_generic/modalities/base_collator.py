"""The base class of the collators of all kinds of data.

Every random choice depends on (seed, epoch, sample_index, number of the mask) alone. A sample therefore has the same
masks and the same crop in any batch, with any number of loader workers and of processes.
"""

import copy
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from accelerate.utils import send_to_device
from numpy.typing import NDArray
from torch import Tensor

from ..mask_positions_data2vec_generic import MaskPositions
from ..masking.sample_rng import DrawsByEpoch

Example = Mapping[str, Any]
Batch = dict[str, Any]


class UnfinishedBatch(dict[str, Any]):
    """A batch whose last step is left to the device: `to` moves it and returns the finished batch, a plain dict.

    accelerate calls `to` on the batches of the loaders that it prepares, as on a `BatchFeature` of transformers.

    Args:
        batch: what leaves the loader's worker.
        last_step: makes the finished batch, on the device that the batch is on. It goes through the worker's queue
            with the batch, so it is small and can be pickled.
    """

    def __init__(self, batch: Mapping[str, Any], last_step: Callable[[dict[str, Any]], dict[str, Any]]):
        super().__init__(batch)
        self.last_step = last_step

    def to(self, device: torch.device | str, non_blocking: bool = False) -> dict[str, Any]:
        return self.last_step(send_to_device(dict(self), device, non_blocking=non_blocking))


class MaskingCollator(DrawsByEpoch):
    """Base class of the collators: checks `num_masks`, holds the epoch and reads the numbers of samples.

    Attributes:
        finishes: whether batches are finished, or leave their last step to the device (see `finished_on_device`).
    """

    num_masks: int
    finishes = True

    def __post_init__(self) -> None:
        if self.num_masks < 1:
            raise ValueError(f"num_masks={self.num_masks} must be at least 1.")
        super().__init__()

    def for_evaluation(self) -> Self:
        """A copy of the collator whose epoch stays 0, so that all evaluations have the same masks."""
        return dataclasses.replace(self)  # type: ignore[type-var]  # each subclass is a dataclass

    def positions(self, lengths: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many positions the encoder makes of samples of these lengths; as many, if a subclass doesn't say."""
        return lengths

    def finished_on_device(self) -> Self:
        """A collator of the same batches, whose last step is left to the device if it has one (`UnfinishedBatch`).

        Both have the same epoch. Subclasses outside of this package with a `__call__` of their own, which may expect
        finished batches, are returned as they are.
        """
        if type(self).__call__.__module__.partition(".")[0] != __name__.partition(".")[0]:
            return self
        unfinished = copy.copy(self)
        unfinished.finishes = False
        return unfinished

    def _finished(self, batch: Batch, last_step: Callable[[Batch], Batch]) -> Batch:
        return last_step(batch) if self.finishes else UnfinishedBatch(batch, last_step)

    @staticmethod
    def _with_masks(
        batch: Batch, masks: NDArray[np.bool_], real: Tensor | None = None, documents: Tensor | None = None
    ) -> Batch:
        """The batch with `mask` and with its `mask_positions`, so that the model does not have to look for them.

        Args:
            batch: may have an `attention_mask`.
            masks: (B, M, T).
            real: (B, T) bool, False at padding; needed with an `attention_mask`.
            documents: (B, T), see `MaskPositions.of`.
        """
        mask = torch.from_numpy(masks)
        padded = "attention_mask" in batch and not batch["attention_mask"].all()
        return {**batch, "mask": mask, "mask_positions": MaskPositions.of(mask, real if padded else None, documents)}

    @staticmethod
    def _sample_indices(examples: Sequence[Example]) -> list[int]:
        if any("sample_index" not in example for example in examples):
            raise ValueError(
                f"An example without sample_index (it has: {', '.join(examples[0])}). Masks belong to samples: give "
                "each row its position, dataset.map(lambda row, i: {'sample_index': i}, with_indices=True), and keep "
                "the column (remove_unused_columns=False)."
            )
        return [int(example["sample_index"]) for example in examples]


def column(examples: Sequence[Example], name: str) -> list[Any]:
    """One field of all examples."""
    return [example[name] for example in examples]
