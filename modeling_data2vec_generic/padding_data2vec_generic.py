"""What is known of a batch's padding, told to an encoder of transformers so that it doesn't ask the device."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Self

import torch
from torch import Tensor
from transformers import PreTrainedModel

# What encoders make of an attention mask before they ask whether it is full, or index by it.
_STAYS_A_MASK = {
    Tensor.to,
    Tensor.bool,
    Tensor.__invert__,
    Tensor.unsqueeze,
    Tensor.repeat,
    Tensor.repeat_interleave,
}
# Methods of transformers: of speech encoders, which makes a mask of frames out of one of samples, and of
# `PreTrainedModel`, which looks for padding tokens if there is no attention mask.
MAKES_FRAME_MASK = "_get_feature_vector_attention_mask"
LOOKS_FOR_PADDING = "warn_if_padding_and_no_attention_mask"


class PaddedMask(Tensor):
    """An attention mask that is known to be neither full nor empty. It differs from a plain one in two places.

    - `.all()` is False, without a look at the values. With it, encoders find out whether they can do without a mask.
    - `hidden[~mask] = 0`, by which speech encoders clear padding, becomes `hidden.masked_fill_(~mask, 0)`. Indexing
      by a bool would wait for the number of its entries.

    What else is computed from it is an ordinary tensor.
    """

    @classmethod
    def of(cls, attention_mask: Tensor) -> Self:
        """The same mask, without a copy."""
        return attention_mask.as_subclass(cls)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.all and len(args) == 1 and not kwargs:
            return False
        with torch._C.DisableTorchFunctionSubclass():
            if func is Tensor.__setitem__ and _clears(*args):
                args[0].masked_fill_(args[1], args[2])
                return None
            result = func(*args, **(kwargs or {}))
            return cls.of(result) if func in _STAYS_A_MASK else result


def _clears(target: Tensor, index: Any, value: Any) -> bool:
    """Whether `target[index] = value` sets all elements where a mask is True to one number."""
    return (
        isinstance(index, PaddedMask)
        and index.dtype == torch.bool
        and index.shape == target.shape
        and isinstance(value, int | float)
    )


def models_within(*encoders: PreTrainedModel) -> list[PreTrainedModel]:
    """The encoders and the models of transformers inside them, all of which may look for padding."""
    return [module for encoder in encoders for module in encoder.modules() if isinstance(module, PreTrainedModel)]


@contextmanager
def known_padding(
    inputs: Mapping[str, Any], padded: bool, models: Sequence[PreTrainedModel]
) -> Iterator[dict[str, Any]]:
    """Inputs whose attention mask the encoders do not have to look at: a `PaddedMask`, or none if nothing is padded.

    As long as the context lasts, the masks of frames that speech encoders make of it are `PaddedMask`s too, and
    encoders that get none do not look for padding tokens, of which they would warn.

    Args:
        inputs: a batch.
        padded: whether its `attention_mask` is 0 anywhere.
        models: `models_within` the encoders that read it.
    """
    known = dict(inputs)
    attention_mask = known.pop("attention_mask", None)
    if attention_mask is None:
        yield known
        return
    with ExitStack() as stack:
        if padded:
            known["attention_mask"] = PaddedMask.of(attention_mask)
        for model in models:
            if not padded:
                stack.enter_context(_instead(model, LOOKS_FOR_PADDING, _do_not_look))
            elif hasattr(model, MAKES_FRAME_MASK):
                made = _made_padded(getattr(model, MAKES_FRAME_MASK))
                stack.enter_context(_instead(model, MAKES_FRAME_MASK, made))
        yield known


@contextmanager
def _instead(module: PreTrainedModel, name: str, function: Callable[..., Any]) -> Iterator[None]:
    """A function in place of a module's method."""
    setattr(module, name, function)
    try:
        yield
    finally:
        delattr(module, name)


def _made_padded(frame_mask: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda *args, **kwargs: PaddedMask.of(frame_mask(*args, **kwargs))


def _do_not_look(input_ids: Tensor, attention_mask: None) -> None:
    pass


__all__ = ["LOOKS_FOR_PADDING", "MAKES_FRAME_MASK", "PaddedMask", "known_padding", "models_within"]
