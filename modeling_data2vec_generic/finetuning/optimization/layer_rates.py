"""Layer-wise learning rates for any encoder with a stack of blocks."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from ...backbone_data2vec_generic import hooked
from ...layout_data2vec_generic import UnsupportedBackboneError, describe, find_layout, is_within
from ...measurements_data2vec_generic import evaluation_mode


def layer_rates(depths: Mapping[str, int], num_blocks: int, decay: float) -> dict[str, float]:
    """Factor of each parameter's learning rate, decay ** (num_blocks + 1 - depth), as in BEiT (arXiv 2106.08254).

    Args:
        depths, num_blocks: as returned by `layer_depths`.
        decay: --layer_decay.
    """
    return {name: decay ** (num_blocks + 1 - depth) for name, depth in depths.items()}


def layer_depths(encoder: PreTrainedModel, inputs: Mapping[str, Any]) -> tuple[dict[str, int], int]:
    """The depth of each parameter of an encoder, by name, and the number of blocks.

    Block i, counted from 0, has depth i + 1. Modules that run before the first block have depth 0, modules that run
    between two blocks have the depth of the later block, and those that run after the last block have a depth
    one higher than it. If the encoder works in stages, the blocks are those of the last stage. A block that runs
    several times counts once.

    Args:
        inputs: a batch of one or more samples. A forward pass shows in which order the modules run.

    Raises:
        UnsupportedBackboneError: the encoder has no stack of blocks, or does not call one of its blocks.
    """
    blocks = find_layout(encoder).blocks
    order: dict[str, int] = {}
    with ExitStack() as stack, torch.no_grad(), evaluation_mode(encoder):
        for name, module in encoder.named_modules():
            stack.enter_context(hooked(module.register_forward_pre_hook, _noting(name, order)))
        encoder(**inputs)
    if idle := [block for block in blocks if block not in order]:
        raise UnsupportedBackboneError(
            f"{describe(encoder)} did not call {idle[0]}, which by its structure is one of its blocks, so the depth "
            "of its parameters can't be determined."
        )

    def depth(parameter: str) -> int:
        for number, block in enumerate(blocks):
            if is_within(parameter, (block,)):
                return number + 1
        owner = parameter.rpartition(".")[0]
        while owner not in order:  # a module around it reads its weight itself, e.g. DeBERTa's relative positions
            owner = owner.rpartition(".")[0]
        begun = sum(order[block] < order[owner] for block in blocks)
        return begun + 1 if begun else 0

    return {name: depth(name) for name, _ in encoder.named_parameters()}, len(blocks)


def _noting(name: str, order: dict[str, int]) -> Callable[..., None]:
    """A hook that notes the order in which modules run for the first time."""

    def hook(*_: Any) -> None:
        order.setdefault(name, len(order))

    return hook


def grouped_by_rate(optimizer: torch.optim.Optimizer, model: nn.Module, rates: Mapping[str, float]) -> None:
    """Split the parameter groups of a new optimizer by learning rate.

    The groups of the highest rate come first, because Trainer logs the learning rate of the first group.

    Args:
        rates: factors of the group's learning rate, by the names of parameters. Parameters without one have the full
            rate.
    """
    rate_of = {parameter: rates.get(name, 1.0) for name, parameter in model.named_parameters()}
    groups = [
        {**group, "params": chosen, "lr": group["lr"] * rate}
        for group in optimizer.param_groups
        for rate in {rate_of[parameter] for parameter in group["params"]}
        if (chosen := [parameter for parameter in group["params"] if rate_of[parameter] == rate])
    ]
    optimizer.param_groups.clear()
    for group in sorted(groups, key=lambda group: -group["lr"]):
        optimizer.add_param_group(group)
