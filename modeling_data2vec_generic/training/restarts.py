"""Training that begins anew with the same trainer: further trials, further calls of `train`, and smaller batches."""

import copy
from typing import Any

from torch import Tensor
from transformers import Trainer, set_seed
from transformers.trainer_utils import TrainOutput


class RestartingTrainer(Trainer):
    """transformers' Trainer, of which each attempt of `--auto_find_batch_size` is a run of its own.

    Trainer goes on with the weights and the optimizer that an attempt which ran out of memory left behind. Here the
    next one begins with those, and the seed, that the first began with, for which the weights are kept in the memory
    of the CPU while `auto_find_batch_size` is set.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._start: tuple[dict[str, Tensor], dict[str, Any] | None] | None = None

    def train(self, *args: Any, **kwargs: Any) -> TrainOutput:
        self._start = None
        try:
            return super().train(*args, **kwargs)
        finally:
            self._start = None

    def begin_anew(self, batch_size: int) -> None:
        """Called before each attempt, before a checkpoint's state is loaded: forget what belongs to an earlier one.

        Args:
            batch_size: samples per micro-batch of this process.
        """

    def _inner_training_loop(self, batch_size: int | None = None, *args: Any, **kwargs: Any) -> TrainOutput:
        assert batch_size is not None  # as `train` calls it
        if self.args.auto_find_batch_size:
            self._keep_or_restore_start()
        self.begin_anew(batch_size)
        return super()._inner_training_loop(batch_size, *args, **kwargs)

    def _keep_or_restore_start(self) -> None:
        model: Any = self.model
        own_optimizer: Any = self.optimizer
        if self._start is None:
            weights = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
            self._start = weights, None if own_optimizer is None else copy.deepcopy(own_optimizer.state_dict())
            return
        weights, optimizer = self._start
        model.load_state_dict(weights)
        if optimizer is None:
            self.optimizer = self.lr_scheduler = None
        else:
            own_optimizer.load_state_dict(optimizer)
        set_seed(self.args.seed)
