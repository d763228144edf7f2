"""Evaluation in half precision that leaves the weights unchanged."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate.utils.operations import recursively_apply
from torch import Tensor, nn
from transformers import TrainingArguments


def evaluation_dtype(arguments: TrainingArguments) -> torch.dtype | None:
    """The half precision that `--fp16_full_eval` or `--bf16_full_eval` asks for, None without either."""
    if arguments.fp16_full_eval:
        return torch.float16
    return torch.bfloat16 if arguments.bf16_full_eval else None


def rounded(data: Any, dtype: torch.dtype) -> Any:
    """A batch, of nested mappings, lists and tuples, with its floating-point tensors in this type."""
    return recursively_apply(
        lambda tensor: tensor.to(dtype),
        data,
        test_type=lambda value: isinstance(value, Tensor) and value.is_floating_point(),
    )


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
