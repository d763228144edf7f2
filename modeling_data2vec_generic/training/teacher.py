"""The teacher's weights: an exponential moving average of the student's, accumulated in float32."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from ..modeling_data2vec_generic import Data2VecGenericForPreTraining

TEACHER_STATE_NAME = "teacher.safetensors"
_ACCUMULATOR = "accumulator."  # before the names of the float32 average


def ema_decay_at(update: int, start: float, end: float, anneal_steps: int) -> float:
    """The teacher's decay at optimizer update `update`, counted from 1: linear from `start`, `end` once annealed.

    data2vec, section 3.3.
    """
    return end if update >= anneal_steps else start + (end - start) * update / anneal_steps


class EMATeacher:
    """Moves a teacher towards its student, `teacher = decay * teacher + (1 - decay) * student`, one call per update.

    Where the teacher's weights are not float32, the average is kept in float32 accumulators, and the weights are their
    rounded copy: in half precision a step of 1 - decay is lost to rounding, and the teacher would not move.

    Where weights are sharded (FSDP2), each process averages its own shards, without communication. Both models must
    already be sharded, in the same way.

    Args:
        teacher, student: models of the same structure; the average starts from the teacher's present weights.
        copied: names of parameters that are copied instead of averaged. Parameters that are not trained are copied
            too, and so are buffers.
    """

    def __init__(self, teacher: nn.Module, student: nn.Module, copied: frozenset[str] = frozenset()):
        self._averaged: dict[str, tuple[Tensor, Tensor]] = {}
        self._copied: list[tuple[Tensor, Tensor]] = []
        pairs = zip(teacher.named_parameters(), student.named_parameters(), strict=True)
        for (name, target), (student_name, source) in pairs:
            if name != student_name:
                raise ValueError(f"The teacher's parameter {name!r} stands where the student has {student_name!r}.")
            if name in copied or not source.requires_grad:
                self._copied.append((target.detach(), source.detach()))
            else:
                self._averaged[name] = (target.detach(), source.detach())
        self._copied += zip(teacher.buffers(), student.buffers(), strict=True)
        self._accumulators = {
            name: target if target.dtype == torch.float32 else target.float()
            for name, (target, _) in self._averaged.items()
        }

    @torch.no_grad()
    def step(self, decay: float, skipped: Tensor | None = None) -> None:
        """One update with this decay.

        Args:
            skipped: scalar on the device of the weights, 1 if the teacher must stay as it is, or else 0; the host need
                not know which. Default: 0.
        """
        if self._averaged:
            accumulators = list(map(_local, self._accumulators.values()))
            targets, sources = (
                [_local(weight) for weight in side] for side in zip(*self._averaged.values(), strict=True)
            )
            weight: Any = 1 - decay if skipped is None else [(1 - skipped) * (1 - decay)] * len(sources)
            torch._foreach_lerp_(accumulators, [source.float() for source in sources], weight)
            _copy([(t, a) for t, a in zip(targets, accumulators, strict=True) if t is not a])
        _copy(self._copied)

    def state_dict(self) -> dict[str, Tensor]:
        """Accumulators that differ from the teacher's own weights: none for a float32 teacher.

        They are gathered: where they are sharded, each process must call this and needs memory for all of them.
        """
        return {
            name: whole(self._accumulators[name])
            for name, (target, _) in self._averaged.items()
            if target.dtype != torch.float32
        }

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what `state_dict` returned.

        Raises:
            ValueError: the state belongs to another teacher.
        """
        expected = {name for name, (target, _) in self._averaged.items() if target.dtype != torch.float32}
        if set(state) != expected:
            raise ValueError(
                f"The saved teacher accumulates {len(state)} parameters in float32, this one {len(expected)}. Resume "
                "with the precision and the encoder that the checkpoint was made with."
            )
        for name in expected:
            accumulator, saved = self._accumulators[name], state[name]
            if isinstance(accumulator, DTensor):  # every process has read all of it, so none needs to send it
                mesh, placements = accumulator.device_mesh, accumulator.placements
                saved = distribute_tensor(saved.to(accumulator.device), mesh, placements, src_data_rank=None)
            _local(accumulator).copy_(_local(saved))


class TeacherProgress:
    """How far the teacher of a run has come: the number of its updates and, in half precision, its float32 average.

    Attributes:
        updates: updates of the whole run, also before it was resumed.
        ema: what updates the teacher; None before the first update.
    """

    def __init__(self) -> None:
        self.updates = 0
        self.ema: EMATeacher | None = None
        self._loaded: dict[str, Tensor] = {}

    def step(self, model: Data2VecGenericForPreTraining, decay: float, skipped: Tensor | None = None) -> None:
        """One update of the model's teacher towards its student. It is counted even if it is `skipped` (see
        `EMATeacher.step`)."""
        if self.ema is None:  # not earlier: a forward pass shows what "copy" covers, and weights are on their devices
            self.ema = EMATeacher(model.teacher, model.encoder, model.copied_parameters())
            if self._loaded:
                self.ema.load_state_dict(self._loaded)
                self._loaded = {}
        self.updates += 1
        self.ema.step(decay, skipped)
        if model.shared_content is not None:
            model.shared_content.note_copied()

    def save(self, checkpoint: Path, should_save: bool) -> None:
        """Write `teacher.safetensors` on processes that `should_save`. All processes must call this where weights are
        sharded."""
        accumulators = self._loaded if self.ema is None else self.ema.state_dict()
        if should_save:
            state = {f"{_ACCUMULATOR}{name}": tensor for name, tensor in accumulators.items()}
            save_file(state | {"updates": torch.tensor(self.updates)}, checkpoint / TEACHER_STATE_NAME)

    def load(self, checkpoint: Path) -> None:
        """Read what `save` wrote; the average goes into the teacher at its next update.

        Raises:
            FileNotFoundError: the checkpoint was saved with `save_only_model`.
        """
        path = checkpoint / TEACHER_STATE_NAME
        if not path.is_file():
            raise FileNotFoundError(
                f"{checkpoint} has no {TEACHER_STATE_NAME}, so how far the teacher's decay had risen is unknown. "
                "Resume from a checkpoint that was saved without save_only_model."
            )
        state = load_file(path)
        self.updates = int(state.pop("updates"))
        self.ema = None
        self._loaded = {name.removeprefix(_ACCUMULATOR): tensor for name, tensor in state.items()}


def _local(tensor: Tensor) -> Tensor:
    """The part of a tensor that this process holds."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor. Where it is sharded, each process must call this."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _copy(pairs: list[tuple[Tensor, Tensor]]) -> None:
    """Copy each pair's second tensor into its first, rounding where the types differ."""
    if pairs:
        targets, sources = (list(map(_local, side)) for side in zip(*pairs, strict=True))
        torch._foreach_copy_(targets, sources)
