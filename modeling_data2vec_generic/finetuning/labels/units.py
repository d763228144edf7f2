"""A head that is trained on standardised numbers and saved in the units of the labels."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel

from ...measurements_data2vec_generic import undisturbed


@dataclass(frozen=True)
class Units:
    """Converts between labels and standardised numbers: label = `offset` + `scale` * standardised number.

    With the mean and the standard deviation of the training labels, the default learning rate suits labels of any
    size, and predicting the mean gives a loss of 1.
    """

    offset: float = 0.0
    scale: float = 1.0

    def standardised(self, values: Any) -> NDArray[np.float64]:
        """Standardised numbers of labels."""
        return (np.asarray(values, dtype=np.float64) - self.offset) / self.scale

    def restored(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Labels of standardised numbers."""
        return values.astype(np.float64) * self.scale + self.offset


def output_layers(model: PreTrainedModel, encoder: nn.Module, inputs: Mapping[str, Tensor]) -> list[nn.Linear]:
    """The linear layers at the end of the head: scaling and shifting their outputs does the same to the model's.

    This is tested on some samples. In most heads it is the last layer; some heads average the outputs of two.

    Args:
        model: returns one number for each sample.
        encoder: the sub-module of `model` that is not part of the head.
        inputs: the model's inputs for some samples.

    Returns:
        The layers; an empty list if the output is not a linear function of such layers.
    """
    inside = set(encoder.modules())
    candidates = [
        module
        for module in model.modules()
        if isinstance(module, nn.Linear) and module.out_features == 1 and module not in inside
    ]
    used: list[nn.Linear] = []

    def outputs(layers: list[nn.Linear], hook: Any) -> Tensor:
        torch.manual_seed(0)  # some encoders draw random numbers in evaluation mode too
        with _hooked(layers, hook):
            return model(**inputs)[0]

    with torch.no_grad(), undisturbed(model):
        expected = 3 * outputs(candidates, lambda module, args, output: used.append(module)) + 2
        for layers in (used[-1:], list(dict.fromkeys(used))):
            changed = outputs(layers, lambda module, args, output: 3 * output + 2)
            if layers and torch.allclose(changed, expected, rtol=1e-4, atol=1e-4):
                return layers
    return []


def save_in_units(layers: list[nn.Linear], units: Units) -> None:
    """Have the state dicts of layers that return standardised numbers hold weights that return labels.

    Weights that are loaded into these layers are converted back.
    """

    def to_units(module: Any, state: dict[str, Any], prefix: str, metadata: Any) -> None:
        state[f"{prefix}weight"] = _in_float(state[f"{prefix}weight"], lambda weight: weight * units.scale)
        if module.bias is not None:
            state[f"{prefix}bias"] = _in_float(state[f"{prefix}bias"], lambda bias: bias * units.scale + units.offset)

    def from_units(module: Any, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        if (name := f"{prefix}weight") in state:
            state[name] = _in_float(state[name], lambda weight: weight / units.scale)
        if (name := f"{prefix}bias") in state:
            state[name] = _in_float(state[name], lambda bias: (bias - units.offset) / units.scale)

    for layer in layers:
        layer.register_state_dict_post_hook(to_units)
        layer.register_load_state_dict_pre_hook(from_units)


def _in_float(values: Tensor, change: Any) -> Tensor:
    """Apply a change in float32 and return the values in the dtype that they had before."""
    return change(values.float()).to(values.dtype)


@contextmanager
def _hooked(modules: list[nn.Linear], hook: Any) -> Iterator[None]:
    handles = [module.register_forward_hook(hook) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
