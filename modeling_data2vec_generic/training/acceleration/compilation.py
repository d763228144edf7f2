"""`--torch_compile` for a student and a teacher inside which hooks run."""

import torch
from accelerate import Accelerator
from accelerate.utils import DynamoBackend

from ...modeling_data2vec_generic import Data2VecGenericForPreTraining
from ..arguments import Data2VecTrainingArguments


def compile_student(
    model: Data2VecGenericForPreTraining, accelerator: Accelerator, arguments: Data2VecTrainingArguments
) -> None:
    """Compile the student's blocks and the predictor, one by one, in place of the whole model.

    The whole model can't be compiled: hooks that differ from pass to pass choose what blocks read, and torch.compile
    keeps the hooks of its first pass. Hooks around a block stay outside of the compiled code. The teacher is not
    compiled, because hooks inside its blocks read its targets. Blocks of a student that have such hooks are not
    compiled either.
    """
    accelerator.state.dynamo_plugin.backend = DynamoBackend.NO  # else accelerate would compile the whole model
    compile_parts(model, arguments.torch_compile_backend or "inductor", arguments.torch_compile_mode)


def compile_parts(model: Data2VecGenericForPreTraining, backend: str = "inductor", mode: str | None = None) -> None:
    """Compile in place the student's blocks inside which no hook runs, and the predictor."""
    hooked = model.layout.gathered if model.config.student_input == "visible" else ()
    blocks = [block for block in model.layout.stacks if not any(name.startswith(f"{block}.") for name in hooked)]
    for module in (*map(model.encoder.get_submodule, blocks), model.predictor):
        # Not module.compile(), which would compile the hooks too.
        module.forward = torch.compile(module.forward, backend=backend, mode=mode)
