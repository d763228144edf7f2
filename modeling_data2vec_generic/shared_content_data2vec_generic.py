"""Content that is computed once, where student and teacher make the same of the raw input."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.utils._pytree import tree_map_only
from transformers import PreTrainedModel

from .backbone_data2vec_generic import content_of, first, hooked
from .layout_data2vec_generic import BackboneLayout, is_within


class SharedContent:
    """The modules that make the content of the raw input, in a student and in its teacher.

    In the teacher's pass, the student's modules take the place of the teacher's, with gradients, and the teacher goes
    on with the values of what they return. In the student's pass they return the same again without being run. Loss
    and gradients are those of two passes, as long as student and teacher have equal weights in these modules.

    Whether they are equal is known by the versions of the weights, which all operations in place raise: they were
    compared, or copied, when the weights had the versions that they have now. Sharded weights (FSDP2) are never known
    to be equal.

    Args:
        student, teacher: encoders of the same structure.
        names: of the modules, in the order in which they run. The last one is the content module.
    """

    def __init__(self, student: nn.Module, teacher: nn.Module, names: tuple[str, ...]):
        self._modules = {name: (student.get_submodule(name), teacher.get_submodule(name)) for name in names}
        self._content = names[-1]
        self._equal_at: list[tuple[int, int]] = []
        self._compared_at: list[tuple[int, int]] = []

    def note_copied(self) -> None:
        """Say that the teacher's weights have just been copied from the student's."""
        self._equal_at = self._states()

    def compare(self) -> None:
        """Find out whether the weights are equal, unless they have been compared or copied since they changed."""
        states = self._states()
        if states and states not in (self._equal_at, self._compared_at):
            self._compared_at = states
            if all(torch.equal(mine, its) for mine, its in self._weights()):
                self._equal_at = states

    @property
    def is_equal(self) -> bool:
        """Whether student and teacher are known to have equal weights here. It does not wait for the device."""
        return bool(self._equal_at) and self._states() == self._equal_at

    def _weights(self) -> list[tuple[Tensor, Tensor]]:
        return [
            pair
            for student, teacher in self._modules.values()
            for weights in ("parameters", "buffers")
            for pair in zip(getattr(student, weights)(), getattr(teacher, weights)(), strict=True)
        ]

    def _states(self) -> list[tuple[int, int]]:
        """Version and place in memory of each weight; nothing if weights are sharded."""
        weights = [weight for pair in self._weights() for weight in pair]
        if any(isinstance(weight, DTensor) for weight in weights):
            return []
        return [(weight._version, weight.data_ptr()) for weight in weights]

    @contextmanager
    def computed(self, outputs: dict[str, Any]) -> Iterator[None]:
        """A context around the teacher's pass, in which the student's modules compute the content with gradients.

        Args:
            outputs: an empty dictionary, which is filled with what each module returns, by name.
        """

        def compute(name: str, own: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            if name in outputs:  # LED embeds its padding separately
                return own(*args, **kwargs)
            student, _ = self._modules[name]
            outputs[name] = student(*args, **kwargs)
            if name != self._content:
                return outputs[name]
            torch.set_grad_enabled(False)
            # A copy, because some encoders change their content in place.
            return tree_map_only(Tensor, lambda tensor: tensor.detach().clone(), outputs[name])

        with ExitStack() as stack:
            for name, (_, teacher) in self._modules.items():
                stack.enter_context(_replaced_forward(teacher, partial(compute, name)))
            # What lies between the modules must keep their gradients. The teacher's own weights have none.
            stack.enter_context(torch.enable_grad())
            yield

    @contextmanager
    def replayed(self, outputs: dict[str, Any]) -> Iterator[None]:
        """A context around the student's pass, in which its modules return these outputs instead of being run."""
        waiting = dict(outputs)

        def replay(name: str, own: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            if name not in waiting:
                return own(*args, **kwargs)
            output = waiting.pop(name)
            # What lies between the modules runs again, to no effect but where it changes its input in place.
            return output if name == self._content else tree_map_only(Tensor, torch.clone, output)

        with ExitStack() as stack:
            for name, (student, _) in self._modules.items():
                stack.enter_context(_replaced_forward(student, partial(replay, name)))
            yield


class _ContentMade(BaseException):
    """Ends a forward pass at the content module and carries its output.

    It is not an `Exception`, so that no `except Exception` in the encoder's code catches it.
    """


@torch.enable_grad()
def find_content_modules(
    encoder: PreTrainedModel,
    layout: BackboneLayout,
    inputs: Mapping[str, Any],
    content: Tensor,
    started: Mapping[str, int],
    ended: Mapping[str, int],
) -> tuple[str, ...]:
    """Names of the modules that make the content, in the order in which they run, if `SharedContent` can share them.

    It can if a pass in training mode returns the same content as one in evaluation mode to the last bit, draws no
    random numbers and changes no buffers; if each of the modules runs once and the content depends on what it returns;
    and if the content depends on no weights but theirs. Otherwise there are none.

    Args:
        encoder: a float32 copy. It is left in training mode.
        layout: of the encoder.
        inputs: one sample.
        content: (1, n, E), what the content module returns in evaluation mode.
        started, ended: by name, the order in which modules first start and end in a pass.
    """
    before = tuple(
        name
        for name, start in started.items()
        if start < ended[layout.content] and not layout.content.startswith(f"{name}.")
    )
    names = sorted((name for name in before if not is_within(name, before)), key=started.__getitem__)
    buffers = [(buffer, buffer.clone()) for buffer in encoder.buffers()]
    state = _random_state(content.device)
    try:
        outputs, made = _content_in_training(encoder, layout, inputs, names)
        unchanged = all(torch.equal(buffer, values) for buffer, values in buffers)
        with torch.no_grad():
            for buffer, values in buffers:
                buffer.copy_(values)
        if not unchanged or not torch.equal(_random_state(content.device), state) or not torch.equal(made, content):
            return ()
        weights = {name: weight for name, weight in encoder.named_parameters() if weight.requires_grad}
        sources = [*weights.values(), *map(first, outputs.values())]
        gradients = torch.autograd.grad(made.sum(), sources, allow_unused=True)
    except torch.OutOfMemoryError:  # it says nothing about the encoder
        raise
    except Exception:  # the code of an unknown encoder may raise anything
        return ()
    used = [name for name, gradient in zip(weights, gradients, strict=False) if gradient is not None]
    depends_on_all = all(gradient is not None for gradient in gradients[len(weights) :])
    return tuple(names) if depends_on_all and all(is_within(name, tuple(names)) for name in used) else ()


def _content_in_training(
    encoder: PreTrainedModel, layout: BackboneLayout, inputs: Mapping[str, Any], names: list[str]
) -> tuple[dict[str, Any], Tensor]:
    """What each of these modules returns in training mode, by name, and the content, (1, n, E).

    Raises:
        RuntimeError: one of them runs more than once.
    """
    outputs: dict[str, Any] = {}

    def keep(name: str, module: nn.Module, args: Any, output: Any) -> None:
        if name in outputs:
            raise RuntimeError(f"{name} runs more than once.")
        outputs[name] = output
        if not first(output).requires_grad:  # of a module whose weights are not trained
            first(output).requires_grad_()
        if name == layout.content:
            raise _ContentMade

    encoder.train()
    with ExitStack() as stack:
        for name in names:
            module = encoder.get_submodule(name)
            stack.enter_context(hooked(module.register_forward_hook, partial(keep, name)))
        try:
            encoder(**inputs)
        except _ContentMade:
            pass
    return outputs, content_of(encoder.get_submodule(layout.content), outputs[layout.content])[0]


def _random_state(device: torch.device) -> Tensor:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


@contextmanager
def _replaced_forward(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """In this context, the module's hooks run around `forward`, which is also given the module's own forward."""
    replaced = vars(module).get("forward")  # of a compiled module, for instance
    vars(module)["forward"] = partial(forward, module.forward)
    try:
        yield
    finally:
        if replaced is None:
            del vars(module)["forward"]
        else:
            vars(module)["forward"] = replaced


__all__ = ["SharedContent", "find_content_modules"]
