"""Evaluation in half precision that leaves the weights as they were."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Trainer
from transformers.trainer_utils import EvalLoopOutput


class FullEvaluationTrainer(Trainer):
    """transformers' Trainer, which for `--bf16_full_eval` and `--fp16_full_eval` rounds the weights in place and never
    back: what is saved after an evaluation, and what is trained after it, would have lost two thirds of its digits.

    Here weights and buffers are afterwards the tensors that they were before, bit for bit, for which both versions are
    kept as long as the evaluation lasts. Encoders that do not round their inputs by themselves get them rounded.
    """

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> EvalLoopOutput:
        """As ever; the model is as it was before."""
        if self._evaluation_dtype is None:
            return super().evaluation_loop(*args, **kwargs)
        model: Any = self.model
        if not self.is_model_parallel:
            self._move_model_to_device(model, self.args.device)  # Trainer leaves it where it is until it trains
        with kept_weights(model):
            return super().evaluation_loop(*args, **kwargs)

    @property
    def _evaluation_dtype(self) -> torch.dtype | None:
        """Half precision if Trainer is going to round the weights, which it does outside of training only."""
        if self.is_in_train:
            return None
        if self.args.fp16_full_eval:
            return torch.float16
        return torch.bfloat16 if self.args.bf16_full_eval else None

    def _prepare_input(self, data: Any) -> Any:
        data = super()._prepare_input(data)
        if self._evaluation_dtype is not None and isinstance(data, Tensor) and data.is_floating_point():
            return data.to(self._evaluation_dtype)
        return data


@contextmanager
def kept_weights(model: nn.Module) -> Iterator[None]:
    """Whatever `model.to` does within, all parameters and buffers are the same tensors again when the context ends."""
    parameters = [(parameter, parameter.data) for parameter in model.parameters()]
    buffers = [(module, dict(module._buffers)) for module in model.modules()]
    try:
        yield
    finally:
        for parameter, data in parameters:
            parameter.data = data
        for module, kept in buffers:
            module._buffers.update(kept)
