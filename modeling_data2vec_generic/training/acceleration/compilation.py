"""`--torch_compile` for a student and a teacher inside which hooks run."""

from collections.abc import Callable
from functools import partial, wraps
from types import FunctionType
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DynamoBackend
from torch import nn

from ...feed_forward_data2vec_generic import TappedForward
from ...layout_data2vec_generic import BackboneLayout, is_within
from ...modeling_data2vec_generic import Data2VecGenericForPreTraining
from ..arguments import Data2VecTrainingArguments

# Graphs of one function. torch's own limit, 8, behind which a function is no longer compiled, is too low where blocks
# of several kinds share a function: ModernBERT has three, each for whole and for partial batches.
MOST_GRAPHS = 64


def compile_student(
    model: Data2VecGenericForPreTraining, accelerator: Accelerator, arguments: Data2VecTrainingArguments
) -> None:
    """Compile the parts of the model one by one, in place of the whole model; see `compile_parts`.

    The whole model can't be compiled: hooks that differ from pass to pass choose what blocks read, and torch.compile
    keeps the hooks of its first pass.
    """
    accelerator.state.dynamo_plugin.backend = DynamoBackend.NO  # else accelerate would compile the whole model
    compile_parts(model, arguments.torch_compile_backend or "inductor", arguments.torch_compile_mode)


def compile_parts(
    model: Data2VecGenericForPreTraining, backend: str | Callable[..., Any] = "inductor", mode: str | None = None
) -> None:
    """Compile in place the blocks of student and teacher, the modules in front of the blocks, and the predictor.

    Hooks around these parts stay outside of the compiled code. The hook that reads the feed-forward output inside the
    teacher's blocks becomes a part of it. A student's blocks that have other hooks inside are not compiled, nor are
    single layers, which have nothing to be fused with.
    """
    limits: Any = torch._dynamo.config  # torch.compiler.config has it too, but only since torch 2.7
    limits.recompile_limit = max(limits.recompile_limit, MOST_GRAPHS)
    student, teacher = (Compiler(role, backend, mode) for role in ("student", "teacher"))
    hooked = model.layout.gathered if model.config.student_input == "visible" else ()
    around = modules_before_blocks(model.encoder, model.layout)
    plain = [name for name in model.layout.stacks if not any(is_within(inner, (name,)) for inner in hooked)]
    for module in (*map(model.encoder.get_submodule, (*around, *plain)), model.predictor):
        module.forward = student.compiled(module.forward, module)
    for name in (*around, *model.layout.stacks):
        module = model.teacher.get_submodule(name)
        if name in model.layout.blocks and model.config.target_source == "ffn":
            module.forward = TappedForward(module, model.layout, partial(teacher.compiled, owner=module))
        else:
            module.forward = teacher.compiled(module.forward, module)


def modules_before_blocks(encoder: nn.Module, layout: BackboneLayout) -> list[str]:
    """Names of modules in front of the first block, such as the content module or a positional convolution.

    They hold other modules, without which there is nothing to be fused, and neither the content module nor a block,
    around which hooks run. Where one lies within another, the outer one is named.
    """
    found: list[str] = []
    for name, module in encoder.named_modules():
        if name in layout.stacks:
            break
        holds_hooked = any(is_within(hooked, (name,)) for hooked in (layout.content, *layout.stacks))
        if name and not holds_hooked and not is_within(name, tuple(found)) and any(module.children()):
            found.append(name)
    return found


class Compiler:
    """Compiles functions of one role, which share their graphs where they belong to modules of the same class.

    torch.compile keeps graphs, and which of their dimensions have changed, per code object. Here each role, each
    class, and passes with and without gradients have a code object of their own: else the shapes of an evaluation or
    of the teacher would make the student's graphs those of changing shapes.

    Args:
        role: any name.
        backend, mode: see `torch.compile`.
    """

    def __init__(self, role: str, backend: str | Callable[..., Any], mode: str | None):
        self._role, self._backend, self._mode = role, backend, mode
        self._functions: dict[str, Callable[..., Any]] = {}

    def compiled(self, function: Callable[..., Any], owner: nn.Module) -> Callable[..., Any]:
        """The function, compiled; `owner` is the module that it belongs to."""
        name = f"{self._role}_{type(owner).__name__}"
        learning, looking = self._function(f"{name}_learning"), self._function(f"{name}_looking")

        @wraps(function)  # hooks read the names of its arguments
        def run(*args: Any, **kwargs: Any) -> Any:
            return (learning if torch.is_grad_enabled() else looking)(function, *args, **kwargs)

        return run

    def _function(self, name: str) -> Callable[..., Any]:
        if name not in self._functions:
            own = FunctionType(_call.__code__.replace(co_name=name), _call.__globals__, name)
            self._functions[name] = torch.compile(own, backend=self._backend, mode=self._mode)
        return self._functions[name]


def _call(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return function(*args, **kwargs)
