"""A float32 copy of an encoder for measurements, and the context in which float32 arithmetic is exact.

What is measured on the copy does not depend on the precision, the compilation or the sharding of the original.
"""

import copy
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from .layout_data2vec_generic import describe

# Attention that runs on every device, in float32 and with gradients. Flash and flex attention need an accelerator.
RUNS_EVERYWHERE = ("eager", "sdpa")
# Weights that are all at most this large have no visible effect yet, but will have one once they are trained: tables
# of relative positions start at 0 and the scales of layers at 1e-6 to 1e-4. Embeddings start with a standard deviation
# of 0.02.
ABOUT_ZERO = 1e-2
NOISE_STD = 0.1  # of the noise that is added to such weights
MOST_NAMED = 3  # weights that an error names


def float32_copy(encoder: PreTrainedModel) -> PreTrainedModel:
    """A copy of the encoder in float32, on which it can be measured.

    In the copy, noise is added to trainable weights that are still about zero, so that their effect can be measured.
    Attention that needs an accelerator is replaced by "sdpa" or "eager".

    Args:
        encoder: neither compiled nor sharded; see `EncoderTemplate`.

    Raises:
        ValueError: a weight holds NaN or infinity.
    """
    return _with_values(encoder, _tensors(encoder))


class EncoderTemplate:
    """The modules of an encoder as they are now, without the values of its weights.

    It must be made before the blocks are compiled or sharded. `copy.deepcopy` of a compiled encoder would run the
    compiled code with the weights of the original, and modules that FSDP2 has sharded can't be copied at all.

    Args:
        encoder: its weights may be on any device, including the meta device.
    """

    def __init__(self, encoder: PreTrainedModel):
        self._modules = copy.deepcopy(encoder, {id(tensor): _on_meta(tensor) for tensor in _tensors(encoder).values()})

    def float32_copy(self, encoder: PreTrainedModel) -> PreTrainedModel:
        """A copy as by `float32_copy` that is neither sharded nor compiled.

        Args:
            encoder: the encoder of this template, from which the values of the weights are taken. If it is sharded,
                all processes must call this.

        Raises:
            ValueError: a weight holds NaN or infinity.
        """
        return _with_values(self._modules, _tensors(encoder))


def _with_values(modules: PreTrainedModel, values: dict[str, Tensor]) -> PreTrainedModel:
    """A copy of the modules that holds these values, in float32, and can be measured."""
    encoder_copy: PreTrainedModel = copy.deepcopy(
        modules, {id(tensor): _in_float32(values[name]) for name, tensor in _tensors(modules).items()}
    )
    _check_and_add_noise(encoder_copy)
    config: Any = encoder_copy.config
    if config._attn_implementation not in RUNS_EVERYWHERE:
        encoder_copy.set_attn_implementation("sdpa" if encoder_copy._supports_sdpa else "eager")
    return encoder_copy


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name. A tensor that has several names is listed under each of them."""
    return {
        **dict(module.named_parameters(remove_duplicate=False)),
        **dict(module.named_buffers(remove_duplicate=False)),
    }


def _on_meta(tensor: Tensor) -> Tensor:
    return _as(tensor, tensor.detach().to("meta"))


def _in_float32(tensor: Tensor) -> Tensor:
    values = tensor.detach()
    if isinstance(values, DTensor):
        values = values.full_tensor()
    return _as(tensor, values.to(torch.float32, copy=True) if values.is_floating_point() else values.clone())


def _as(original: Tensor, values: Tensor) -> Tensor:
    """The values as a parameter if the original is one, else as they are."""
    return nn.Parameter(values, original.requires_grad) if isinstance(original, nn.Parameter) else values


@torch.no_grad()
def _check_and_add_noise(encoder_copy: PreTrainedModel) -> None:
    """Raise a `ValueError` if weights hold NaN or infinity, and add noise to trainable weights that are about zero."""
    weights = {
        name: weight
        for name, weight in encoder_copy.named_parameters()
        if weight.numel() and weight.is_floating_point()
    }
    largest = {name: float(weight.abs().max()) for name, weight in weights.items()}
    broken = [name for name, size in largest.items() if not size < float("inf")]
    if broken:
        more = f" and {len(broken) - MOST_NAMED} more" if len(broken) > MOST_NAMED else ""
        raise ValueError(
            f"{len(broken)} of {len(weights)} weights of {describe(encoder_copy)} hold NaN or infinity: "
            f"{', '.join(broken[:MOST_NAMED])}{more}. Nothing can be trained from them. Load a checkpoint that was "
            "saved before this happened, or start from new weights."
        )
    generator = torch.Generator().manual_seed(0)
    for name, weight in weights.items():
        if weight.requires_grad and largest[name] <= ABOUT_ZERO:
            weight.add_(NOISE_STD * torch.randn(weight.shape, generator=generator).to(weight))


@contextmanager
def exact_arithmetic(device_type: str) -> Iterator[None]:
    """Compute in full float32: without autocast, and without TF32 or bfloat16 in matrix products and convolutions.

    All settings are restored when the context ends, including those that take their value from another one. cuDNN's
    older setting (`allow_tf32`) is changed together with the newer ones, because torch raises an error if it is read
    while they differ, and `torch.backends.cudnn.flags`, which some encoders call, reads it.

    Args:
        device_type: type of the device on which the computation runs, such as "cuda"; the CPU is always included.
    """
    backends: Any = torch.backends
    settings = (  # each one before those that take their value from it
        backends,
        backends.cudnn,
        backends.cuda.matmul,
        backends.cudnn.conv,
        backends.cudnn.rnn,
        backends.mkldnn.matmul,
        backends.mkldnn.conv,
        backends.mkldnn.rnn,
    )
    before = [(setting, setting.fp32_precision) for setting in settings]
    older = _older_setting_allows_tf32()
    with ExitStack() as stack:
        for kind in {"cpu", device_type}:
            if torch.amp.is_autocast_available(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        try:
            for setting in settings:
                if setting.fp32_precision != "ieee":
                    setting.fp32_precision = "ieee"
            if older:  # then convolutions and recurrent layers take their value from cuDNN's setting
                backends.cudnn.allow_tf32 = False
            yield
        finally:
            if older:
                backends.cudnn.allow_tf32 = True
                backends.cudnn.conv.fp32_precision = backends.cudnn.rnn.fp32_precision = "none"
            for setting, precision in before:
                if setting.fp32_precision != precision:
                    setting.fp32_precision = precision


def _older_setting_allows_tf32() -> bool:
    """Whether cuDNN's older setting allows TF32. If it contradicts the newer ones, torch can't read it: False."""
    try:
        return torch.backends.cudnn.allow_tf32
    except RuntimeError:
        return False


__all__ = ["EncoderTemplate", "exact_arithmetic", "float32_copy"]
