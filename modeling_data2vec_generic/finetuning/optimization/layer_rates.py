"""Layer-wise learning rates for any encoder that is made of blocks."""

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
    """Factor of the learning rate of each parameter: decay ** (num_blocks + 1 - depth), as BEiT (arXiv 2106.08254)."""
    return {name: decay ** (num_blocks + 1 - depth) for name, depth in depths.items()}


def layer_depths(encoder: PreTrainedModel, inputs: Mapping[str, Any]) -> tuple[dict[str, int], int]:
    """Where each parameter of an encoder lies, and how many blocks there are.

    What runs before the first block has depth 0, block i, counted from 0, i + 1, what runs between two blocks that of
    the later one, and what runs after the last one more. Of an encoder in stages the blocks are those of the last
    stage. A block that runs several times is one.

    Args:
        inputs: a batch that the encoder reads, of one sample or more: which modules run first is seen in a forward
            pass.

    Raises:
        UnsupportedBackboneError: the encoder has no stack of blocks, or one that it does not run as such.
    """
    blocks = find_layout(encoder).blocks
    order: dict[str, int] = {}
    with ExitStack() as stack, torch.no_grad(), evaluation_mode(encoder):
        for name, module in encoder.named_modules():
            stack.enter_context(hooked(module.register_forward_pre_hook, _noting(name, order)))
        encoder(**inputs)
    if idle := [block for block in blocks if block not in order]:
        raise UnsupportedBackboneError(
            f"{describe(encoder)} did not call {idle[0]}, which looks like one of its blocks, so how deep each of its "
            "parameters lies can't be told."
        )

    def depth(parameter: str) -> int:
        for number, block in enumerate(blocks):
            if is_within(parameter, (block,)):
                return number + 1
        owner = parameter.rpartition(".")[0]
        while owner not in order:  # a module around it reads its weight, as DeBERTa's encoder does relative positions
            owner = owner.rpartition(".")[0]
        begun = sum(order[block] < order[owner] for block in blocks)
        return begun + 1 if begun else 0

    return {name: depth(name) for name, _ in encoder.named_parameters()}, len(blocks)


def _noting(name: str, order: dict[str, int]) -> Callable[..., None]:
    """A hook that takes down when a module first runs."""

    def hook(*_: Any) -> None:
        order.setdefault(name, len(order))

    return hook


def grouped_by_rate(optimizer: torch.optim.Optimizer, model: nn.Module, rates: Mapping[str, float]) -> None:
    """Split the groups of a new optimizer so that each parameter has its rate times the group's learning rate.

    Parameters that `rates` does not name keep the full rate. The groups of the highest rate come first: the first is
    the one whose learning rate Trainer logs.
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
