"""The base class of the collators of all kinds of data.

Every random choice depends on (seed, epoch, sample_index, number of the mask) alone. A sample therefore has the same
masks and the same crop in any batch, with any number of loader workers and of processes.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch

from ..masking.sample_rng import DrawsByEpoch

Example = Mapping[str, Any]
Batch = dict[str, torch.Tensor]


class MaskingCollator(DrawsByEpoch):
    """Base class of the collators: checks `num_masks`, holds the epoch and reads the numbers of samples."""

    num_masks: int

    def __post_init__(self) -> None:
        if self.num_masks < 1:
            raise ValueError(f"num_masks={self.num_masks} must be at least 1.")
        super().__init__()

    def for_evaluation(self) -> Self:
        """A copy of the collator whose epoch stays 0, so that all evaluations have the same masks."""
        return dataclasses.replace(self)  # type: ignore[type-var]  # each subclass is a dataclass

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
