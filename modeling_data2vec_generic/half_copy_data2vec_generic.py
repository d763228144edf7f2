"""Half-precision copies of weights, which save autocast the work of casting them again in every pass."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

# The layers whose weight and bias autocast casts, by the method that reads them. Norms and embeddings keep float32.
_CAST_BY_AUTOCAST = tuple(layer.forward for layer in (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d))

# Attributes of a layer that hold the copies during a pass. Compiled code reads them there, so that it is the same for
# all blocks.
_WEIGHT, _BIAS = "half_precision_weight", "half_precision_bias"


class HalfPrecisionCopy:
    """Copies of the weights of a model's linear layers and convolutions, in the precision of autocast.

    Autocast casts float32 weights in each pass of a model that makes no gradients. In the context `used`, the layers
    read copies that are cast when the weights have changed, and only then. The results are the same to the last bit.
    The model's own weights stay as they are, and its state_dict holds no copies. They take 2 bytes per weight.

    A change is noticed by the version of a weight, which all operations in place raise, `load_state_dict` and `copy_`
    among them, and by its place in memory. What is written to `weight.data` in place is not noticed.

    Layers are left out if their weights are sharded (FSDP2), are already in half precision, or are computed anew in
    each pass (weight norm), or if something else has replaced their `forward`.

    Args:
        model: whose passes are to read copies. Nothing is copied before the first of them.
    """

    def __init__(self, model: nn.Module):
        self._layers = [layer for layer in model.modules() if _is_cast_by_autocast(layer)]
        self._copies: list[Tensor] = []
        self._copied: list[tuple[int, int]] = []  # version and place of each weight when it was cast
        self._attributes: list[dict[str, Any]] = []  # of each layer, during a pass

    @contextmanager
    def used(self) -> Iterator[None]:
        """A context around a pass without gradients, in which the layers read the copies, if autocast is on."""
        both = (layer._parameters[name] for layer in self._layers for name in ("weight", "bias"))
        weights = [weight for weight in both if weight is not None]
        dtype = _autocast_dtype(weights[0].device.type) if weights else None
        if dtype is None:
            yield
            return
        self._refresh(weights, dtype)
        for layer, attributes in zip(self._layers, self._attributes, strict=True):
            vars(layer).update(attributes)  # an assignment by `layer.forward = ` takes ten times as long
        try:
            yield
        finally:
            for layer, attributes in zip(self._layers, self._attributes, strict=True):
                for name in attributes:
                    del vars(layer)[name]

    @torch.no_grad()
    def _refresh(self, weights: list[nn.Parameter], dtype: torch.dtype) -> None:
        """Cast the weights that have changed. The copies stay the same tensors, so that compiled code can go on."""
        if not self._copies or (self._copies[0].dtype, self._copies[0].device) != (dtype, weights[0].device):
            self._copies = [torch.empty_like(weight, dtype=dtype, requires_grad=False) for weight in weights]
            self._copied = [(-1, 0)] * len(weights)
            copies = iter(self._copies)
            self._attributes = [
                {
                    "forward": MethodType(_forward, layer),
                    _WEIGHT: next(copies),
                    _BIAS: None if layer.bias is None else next(copies),
                }
                for layer in self._layers
            ]
        states = [(weight._version, weight.data_ptr()) for weight in weights]
        if states != self._copied:
            changed = [
                i for i, (state, before) in enumerate(zip(states, self._copied, strict=True)) if state != before
            ]
            torch._foreach_copy_([self._copies[i] for i in changed], [weights[i] for i in changed])
            self._copied = states


def _is_cast_by_autocast(layer: nn.Module) -> bool:
    weight = layer._parameters.get("weight")
    return (
        type(layer).forward in _CAST_BY_AUTOCAST
        and "forward" not in vars(layer)
        and weight is not None
        and weight.dtype == torch.float32
        and not isinstance(weight, DTensor)
    )


def _autocast_dtype(device_type: str) -> torch.dtype | None:
    """The type to which autocast casts on devices of this type, `None` if it is off."""
    return torch.get_autocast_dtype(device_type) if torch.is_autocast_enabled(device_type) else None


def _forward(layer: Any, x: Tensor) -> Tensor:
    """What the layer returns, of copies of its weights wherever autocast would cast these."""
    weight, bias = getattr(layer, _WEIGHT), getattr(layer, _BIAS)
    if _autocast_dtype(x.device.type) != weight.dtype:  # an encoder may turn autocast off for some of its layers
        return type(layer).forward(layer, x)
    if isinstance(layer, nn.Linear):
        return nn.functional.linear(x, weight, bias)
    return layer._conv_forward(x, weight, bias)


__all__ = ["HalfPrecisionCopy"]
