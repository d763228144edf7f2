"""A copy of an encoder to experiment on, in exact float32 arithmetic, whatever the encoder itself runs in."""

import copy
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from .layout_data2vec_generic import describe

# Attention that runs everywhere, in float32 and with gradients; flash and flex attention need an accelerator.
RUNS_EVERYWHERE = ("eager", "sdpa")
# A weight that is nowhere larger than this hides what it will do once it has been trained. Tables of relative
# positions start at 0 and the scales of layers at 1e-6 to 1e-4; embeddings start with a deviation of 0.02.
HIDING = 1e-2
NOISE = 0.1
NAMED = 3


class EncoderTemplate:
    """The modules of an encoder without the values of its weights, as they are at this moment.

    Taken before blocks are compiled or sharded. A copy that is made later would run the compiled code of the original,
    with the weights of the original, and modules that FSDP2 has sharded can't be copied at all.

    Args:
        encoder: its weights may be on any device, the meta device included.
    """

    def __init__(self, encoder: PreTrainedModel):
        self._modules = copy.deepcopy(encoder, {id(tensor): _on_meta(tensor) for tensor in _tensors(encoder).values()})

    def float32_copy(self, encoder: PreTrainedModel) -> PreTrainedModel:
        """A copy of the encoder that is whole, in float32 and not compiled, to be run and then thrown away.

        What weights that are still about zero do shows in the copy: noise is added to them. Attention that needs an
        accelerator is replaced by torch's own.

        Args:
            encoder: where the values of the weights come from. If it is sharded, all processes must call this.

        Raises:
            ValueError: a weight holds NaN or infinity.
        """
        values = _tensors(encoder)
        encoder_copy: PreTrainedModel = copy.deepcopy(
            self._modules, {id(mine): _in_float32(values[name]) for name, mine in _tensors(self._modules).items()}
        )
        _check_and_stir(encoder_copy)
        config: Any = encoder_copy.config
        if config._attn_implementation not in RUNS_EVERYWHERE:
            encoder_copy.set_attn_implementation("sdpa" if encoder_copy._supports_sdpa else "eager")
        return encoder_copy


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, those with several names under each of them."""
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
    """A parameter if the original is one."""
    return nn.Parameter(values, original.requires_grad) if isinstance(original, nn.Parameter) else values


@torch.no_grad()
def _check_and_stir(encoder_copy: PreTrainedModel) -> None:
    """Raise ValueError if weights hold NaN or infinity; add noise to trainable weights that are about zero."""
    weights = {
        name: weight
        for name, weight in encoder_copy.named_parameters()
        if weight.numel() and weight.is_floating_point()
    }
    largest = {name: float(weight.abs().max()) for name, weight in weights.items()}
    broken = [name for name, size in largest.items() if not size < float("inf")]
    if broken:
        more = f" and {len(broken) - NAMED} more" if len(broken) > NAMED else ""
        raise ValueError(
            f"{len(broken)} of {len(weights)} weights of {describe(encoder_copy)} hold NaN or infinity: "
            f"{', '.join(broken[:NAMED])}{more}. Nothing can be trained from them. Load a checkpoint that was saved "
            "before they became so, or start from new weights."
        )
    generator = torch.Generator().manual_seed(0)
    for name, weight in weights.items():
        if weight.requires_grad and largest[name] <= HIDING:
            weight.add_(NOISE * torch.randn(weight.shape, generator=generator).to(weight))


@contextmanager
def exact_arithmetic(device_type: str) -> Iterator[None]:
    """float32 is float32: no autocast, no TF32 and no bfloat16 within matrix products and convolutions.

    Settings are put back as they were, including those that follow another one. cuDNN's older setting (`allow_tf32`)
    is changed with the newer ones: torch refuses to read it where they differ, and `torch.backends.cudnn.flags`, which
    some encoders call, reads it.

    Args:
        device_type: where the computation runs, such as "cuda"; the CPU is always included.
    """
    backends: Any = torch.backends
    settings = (  # each one in front of those that follow it
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
            if older:  # changes those of convolutions and recurrent layers too, to follow cuDNN's
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
    """False also where it contradicts the newer ones: torch refuses to read it, and it is left alone."""
    try:
        return torch.backends.cudnn.allow_tf32
    except RuntimeError:
        return False


__all__ = ["EncoderTemplate", "exact_arithmetic"]
