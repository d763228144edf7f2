"""The feed-forward output inside a block: which layers may make it, and how a compiled block hands it over."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import update_wrapper
from typing import Any

from torch import Tensor, nn

from .layout_data2vec_generic import BackboneLayout


def feed_forward_layers(block: nn.Module, layout: BackboneLayout) -> list[nn.Linear]:
    """The linear layers of a block of which the last one that runs makes the feed-forward output."""
    return [
        module
        for name, module in block.named_modules()
        if isinstance(module, nn.Linear) and layout.quirks.feed_forward in (None, name)
    ]


class TappedForward:
    """A compiled `forward` of a block, from which the feed-forward output can be read.

    What is compiled is a function that returns both outputs: hooks that come and go would not be seen in the compiled
    code. The hooks that are registered here are a part of it, and they stay.

    Args:
        block: not compiled yet.
        layout: of its encoder.
        compiled: compiles a function.
    """

    def __init__(self, block: nn.Module, layout: BackboneLayout, compiled: Callable[..., Any]):
        self._forward = block.forward
        self._outputs: list[Tensor] = []  # empty again whenever `_both` ends
        self._receiver: list[Tensor] | None = None
        for layer in feed_forward_layers(block, layout):
            layer.register_forward_hook(self._keep)
        self._both_compiled = compiled(self._both)
        update_wrapper(self, self._forward)  # hooks read the names of its arguments

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The output of the block; the feed-forward output is kept only where `handing_over` wants it."""
        output, feed_forward = self._both_compiled(*args, **kwargs)
        if self._receiver is not None:
            self._receiver[:] = feed_forward
        return output

    @contextmanager
    def handing_over(self, receiver: list[Tensor]) -> Iterator[None]:
        """A context in which each pass leaves the feed-forward output in a list, alone; none if no layer ran."""
        self._receiver = receiver
        try:
            yield
        finally:
            self._receiver = None

    def _keep(self, module: nn.Module, args: Any, output: Tensor) -> None:
        self._outputs.append(output)

    def _both(self, *args: Any, **kwargs: Any) -> tuple[Any, list[Tensor]]:
        output = self._forward(*args, **kwargs)
        last = self._outputs[-1:]
        self._outputs.clear()
        return output, last


__all__ = ["TappedForward", "feed_forward_layers"]
