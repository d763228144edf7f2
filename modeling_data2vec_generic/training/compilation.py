"""`--torch_compile` for a student and a teacher that are reached into by hooks."""

import torch
from accelerate import Accelerator
from accelerate.utils import DynamoBackend

from ..modeling_data2vec_generic import Data2VecGenericForPreTraining
from .arguments import Data2VecTrainingArguments


def compile_student(
    model: Data2VecGenericForPreTraining, accelerator: Accelerator, arguments: Data2VecTrainingArguments
) -> None:
    """Compile the student's blocks and the predictor, one by one, in place of the whole model.

    The whole model can't be compiled: hooks that differ from pass to pass choose what blocks read, and torch.compile
    takes the hooks of its first pass for good. Around a block they stay outside of what is compiled. The teacher runs
    as it is, since its targets are read by hooks inside its blocks, and so do blocks of a student that have such
    hooks.
    """
    accelerator.state.dynamo_plugin.backend = DynamoBackend.NO  # accelerate would compile the whole model
    compile_parts(model, arguments.torch_compile_backend or "inductor", arguments.torch_compile_mode)


def compile_parts(model: Data2VecGenericForPreTraining, backend: str = "inductor", mode: str | None = None) -> None:
    """Compile in place what no hook works within: the student's blocks and the predictor."""
    hooked = model.layout.gathered if model.config.student_input == "visible" else ()
    blocks = [block for block in model.layout.stacks if not any(name.startswith(f"{block}.") for name in hooked)]
    for module in (*map(model.encoder.get_submodule, blocks), model.predictor):
        # Not module.compile(), which takes the hooks along.
        module.forward = torch.compile(module.forward, backend=backend, mode=mode)
