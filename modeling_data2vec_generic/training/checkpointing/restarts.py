"""The start of a run, kept so that each attempt of `--auto_find_batch_size` begins there."""

import copy
from typing import Any

from torch import Tensor, nn


class StartingPoint:
    """Weights and optimizer state as a run found them, kept in the memory of the CPU.

    Without it, Trainer would continue with the weights and the optimizer state of an attempt that ran out of memory.

    Args:
        model: whose weights are kept.
        optimizer: one that the caller gave to the trainer, or None.
    """

    def __init__(self, model: nn.Module, optimizer: Any):
        self._weights: dict[str, Tensor] = {
            name: value.detach().cpu().clone() for name, value in model.state_dict().items()
        }
        self._optimizer = None if optimizer is None else copy.deepcopy(optimizer.state_dict())

    @property
    def has_optimizer(self) -> bool:
        return self._optimizer is not None

    def restore(self, model: nn.Module, optimizer: Any) -> None:
        """Load the weights, and the optimizer's state where there was one."""
        model.load_state_dict(self._weights)
        if self._optimizer is not None:
            optimizer.load_state_dict(self._optimizer)
