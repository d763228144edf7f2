"""Optimizer steps that met NaN or infinity: they are not taken, they are counted, and their samples are named."""

import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.utils import gather_object
from torch import Tensor
from transformers import TrainerCallback
from transformers.utils import logging

from ...data.quality.reading import RowsRead
from ..acceleration.late_values import LateValues
from ..checkpointing.output_dir import last_checkpoint
from ..teacher import whole
from .row_counts import bad_of, count_of
from .step_notes import SAMPLE_INDEX, KeptBuffers, MicroBatch, file_of

logger = logging.get_logger(__name__)

_NAMED = 16  # samples that are named in a message; the rest are only counted


@dataclass
class WithSampleIndex:
    """A collator whose batches also hold `sample_index`, (B,) int64, where the examples have it."""

    collator: Callable[..., dict[str, Any]]

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        batch = self.collator(examples)
        if all(SAMPLE_INDEX in example for example in examples):
            batch[SAMPLE_INDEX] = torch.tensor([int(example[SAMPLE_INDEX]) for example in examples])
        return batch


@dataclass
class _Step:
    """An optimizer step of which the host does not know yet how it went.

    Args:
        batches: its micro-batches.
        rows: what this process has read for it.
        flags: (5,): on how many processes it met NaN or infinity in a batch, in the gradients, how many have been
            asked to stop, and the rows that all of them have read, and the bad ones among these.
        overflow: whether fp16's loss scaling explains its gradients.
        refused: whether accelerate says that the optimizer did not take it.
    """

    batches: list[MicroBatch]
    rows: list[RowsRead]
    flags: LateValues
    overflow: bool = False
    refused: bool = False

    @property
    def bad_batch(self) -> bool:
        return self.flags.read()[0] > 0

    @property
    def bad_grads(self) -> bool:
        return self.flags.read()[1] > 0

    @property
    def skipped(self) -> bool:
        return self.bad_batch or self.bad_grads or self.refused


class BadSteps(TrainerCallback):
    """Keeps a [`Data2VecTrainer`] from taking an optimizer step on NaN or infinity.

    A step is bad if an input, the loss or a gradient of any of its micro-batches, on any process, is not finite. Then
    weights, optimizer state, teacher and the student's buffers (batch norm's statistics) stay bit for bit as they
    were, the step is left out of the logged losses, and a warning names its samples. The learning rate's schedule
    continues. An overflow that fp16's loss scaling caused is not bad: Trainer skips it, and it is not counted.

    The device itself decides whether it takes a step: torch's fused Adam and AdamW, the teacher and the buffers follow
    one flag. The host reads it when it checks the next step (`settle`), or before anything is logged, evaluated or
    saved, and counts and warns then. For other optimizers, and with loss scaling, the host waits for the flag and
    takes the gradients away.

    Attributes:
        total: bad steps of the whole run, also before it was resumed; logged as `bad_steps`.
        in_a_row: bad steps since the last good one.
        skipped: scalar on the device, 1 if the latest optimizer step must not move anything, or else 0.
        asked_to_stop: whether any process had been asked to stop by the latest step that is settled.

    Raises (while training):
        FloatingPointError: `max_bad_steps` in a row were bad, or an optimizer step made weights that are not finite.
    """

    skipped: Tensor

    def __init__(self, trainer: Any):
        self.trainer: Any = weakref.proxy(trainer)  # not a cycle: see ResumeCallback
        self.total = 0
        self.in_a_row = 0
        self.asked_to_stop = False
        self._batches: list[MicroBatch] = []
        self._rows: list[RowsRead] = []
        self._unsettled: _Step | None = None
        self._finite_at = 0  # the step after which weights were last seen to be finite
        self._buffers: KeptBuffers
        self._loss_before: Tensor

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.total = max((entry.get("bad_steps", 0) for entry in state.log_history), default=0)
        self.trainer._initial_global_step += self.total  # see `_count`
        self.in_a_row, self.asked_to_stop, self._unsettled = 0, False, None
        self._finite_at = state.global_step
        self._buffers = KeptBuffers(self.trainer.model.encoder)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._batches, self._rows = [], []
        self._loss_before = self.trainer._tr_loss.clone()
        self._buffers.keep()

    def note(self, inputs: Mapping[str, Any], samples: Tensor | None, rows: Sequence[RowsRead], loss: Tensor) -> None:
        """Note a micro-batch after its backward pass, without waiting for the device.

        Args:
            inputs: what the model read.
            samples: (B,) `sample_index`, if known.
            rows: what was read for the samples, if known.
            loss: scalar.
        """
        self._batches.append(MicroBatch.noted(inputs, samples, loss))
        self._rows += rows

    def check(self, grad_norm: Tensor | float | None) -> None:
        """Right before the optimizer step: let nothing move if a gradient, or what led to it, is not finite.

        Args:
            grad_norm: norm of all gradients, reduced over processes and unscaled; None if it is not known (DeepSpeed).
        """
        self.settle()
        trainer, batches, rows = self.trainer, self._batches, self._rows
        self._batches, self._rows = [], []
        # All processes must decide alike, and one that read good data cannot see another's.
        flags = trainer.accelerator.reduce(self._flags(batches, rows, grad_norm), "sum")
        bad = flags[:2].any()
        self.skipped = bad.float()
        self._unsettled = step = _Step(batches, rows, LateValues(flags))
        optimizer = _innermost(trainer.optimizer)
        if trainer.accelerator.scaler is None and _skips_by_itself(optimizer):
            optimizer.grad_scale, optimizer.found_inf = None, self.skipped
        elif step.bad_batch or step.bad_grads:  # the one wait of such a step
            # No optimizer moves a weight without a gradient. The scaler made its checks when the norm was computed.
            trainer.optimizer.zero_grad(set_to_none=True)
            step.overflow = not step.bad_batch and self._is_overflow()
        if not step.overflow:
            self._buffers.put_back(bad)
            trainer._tr_loss.copy_(torch.where(bad, self._loss_before, trainer._tr_loss))

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        optimizer = _innermost(self.trainer.optimizer)
        if hasattr(optimizer, "found_inf"):
            del optimizer.grad_scale, optimizer.found_inf
        if self._unsettled is not None and self.trainer.accelerator.optimizer_step_was_skipped:
            self._unsettled.refused = True  # an overflow, which DeepSpeed finds by itself
            self.skipped.fill_(1)

    @property
    def unsettled_skips(self) -> int:
        """1 if the latest step is not settled yet and was not taken, or else 0. Waits for the device."""
        return int(self._unsettled is not None and self._unsettled.skipped)

    def settle(self) -> None:
        """Learn how the latest step went, count it, and warn. All processes must call this at the same places."""
        step, self._unsettled = self._unsettled, None
        if step is None:
            return
        _, _, asked, rows, bad_rows = step.flags.read()
        self.asked_to_stop = asked > 0
        if rows:
            # Only where there are bad rows do the processes tell one another which.
            self.trainer.count_rows("train", int(rows), gather_object(bad_of(step.rows)) if bad_rows else [])
        if step.skipped:
            self.trainer.teacher_progress.updates -= 1  # it was counted before this was known
        if step.bad_batch or (step.bad_grads and not step.overflow):
            self._count(step)
        elif not step.bad_grads:
            self.in_a_row = 0

    def check_weights(self) -> None:
        """Make sure that weights are finite, which finite gradients do not make sure. Waits for the device."""
        state = self.trainer.state
        if state.global_step == self._finite_at:  # and FSDP2 may have gathered some of them for an evaluation since
            return
        trained = {name: weight for name, weight in self.trainer.model.named_parameters() if weight.requires_grad}
        # Norms are in float32, since half precision could overflow; one kernel for all, and one wait for the device.
        total = torch.linalg.vector_norm(
            torch.stack(torch._foreach_norm([weight.detach() for weight in trained.values()], 2, dtype=torch.float32))
        )
        if not whole(total).isfinite():
            name = next((name for name, weight in trained.items() if not weight.isfinite().all()), "another process's")
            raise FloatingPointError(
                f"Weights are not finite ({name}) after optimizer step {state.global_step - self.in_a_row}, and were "
                f"after step {self._finite_at}. The gradients in between were finite: an update itself was too large. "
                f"{self._last_checkpoint()} Lower learning_rate or lengthen warmup_steps; with weights in float16, "
                "load them in float32 and train with --bf16 or --fp16."
            )
        self._finite_at = state.global_step

    def _flags(self, batches: list[MicroBatch], rows: list[RowsRead], grad_norm: Tensor | float | None) -> Tensor:
        """(5,), 1 where this process has met NaN or infinity in a batch, in the gradients, or was asked to stop, and
        the numbers of rows that it has read, and of the bad ones among these."""
        values = torch.cat([batch.values() for batch in batches])
        norm = whole(grad_norm) if isinstance(grad_norm, Tensor) else values.new_full((), grad_norm or 0.0)
        # Numbers of the host become tensors by `new_full`, which does not wait for the device.
        known = [self.trainer.stop.asked, count_of(rows), len(bad_of(rows))]
        found = [values.new_full((), number, dtype=torch.float32) for number in known]
        return torch.stack([(~values.isfinite().all()).float(), (~norm.isfinite()).float(), *found])

    def _count(self, step: _Step) -> None:
        trainer = self.trainer
        args, state = trainer.args, trainer.state
        self.total += 1
        self.in_a_row += 1
        # Neither of Trainer's means, the logged one and that of the run, must count this step.
        trainer._globalstep_last_logged += 1
        trainer._initial_global_step += 1
        cause = self._cause(step)
        logger.warning(
            f"Optimizer step {state.global_step} is skipped: NaN or infinity in {cause}. {self.in_a_row} in a row; "
            f"the run stops at max_bad_steps={args.max_bad_steps}."
        )
        should_log = trainer.control.should_log
        trainer.log({"bad_steps": self.total})
        trainer.control.should_log = should_log  # the means since the last log are still to be logged
        self.check_weights()  # or all further steps are bad
        if self.in_a_row >= args.max_bad_steps:
            raise FloatingPointError(
                f"{self.in_a_row} optimizer steps in a row met NaN or infinity, up to step {state.global_step}: "
                f"max_bad_steps={args.max_bad_steps}. The last one was in {cause}. Weights and teacher are as step "
                f"{state.global_step - self.in_a_row} left them. {self._last_checkpoint()} Look at the samples that "
                "the warnings above name. If they differ from step to step, the training itself diverged: lower "
                "learning_rate, set max_grad_norm, lengthen warmup_steps, or use --bf16 in place of --fp16."
            )

    def _is_overflow(self) -> bool:
        """Whether fp16's loss scaling explains the gradients: it does as long as the scale is above 1."""
        scaler = self.trainer.accelerator.scaler
        return scaler is not None and scaler.get_scale() > 1

    def _cause(self, step: _Step) -> str:
        for batch in step.batches:
            place, samples = batch.suspects()
            if place:
                return f"the {place} of {self._names(samples)}"
        if step.bad_batch:
            return "a batch of another process"
        batches = [batch.all_samples() for batch in step.batches]
        samples = None if None in batches else [sample for batch in batches for sample in batch or ()]
        return f"the gradients of {self._names(samples)}"

    def _names(self, samples: list[int] | None) -> str:
        if samples is None:
            return "samples without sample_index"
        files = [file_of(self.trainer.train_dataset, sample) for sample in samples[:_NAMED]]
        named = [f"{sample} ({file})" if file else str(sample) for sample, file in zip(samples, files, strict=False)]
        more = f" and {len(samples) - _NAMED} more" if len(samples) > _NAMED else ""
        return f"sample_index {', '.join(named)}{more}"

    def _last_checkpoint(self) -> str:
        last = last_checkpoint(self.trainer.args)
        if last is None:
            return "No checkpoint has been saved yet."
        return f"The last good checkpoint is {last} (--resume_from_checkpoint {last})."


def _innermost(optimizer: Any) -> Any:
    """The optimizer that accelerate has wrapped."""
    while isinstance(optimizer, AcceleratedOptimizer):
        optimizer = optimizer.optimizer
    return optimizer


def _skips_by_itself(optimizer: Any) -> bool:
    """Whether the optimizer takes no step where its `found_inf` is 1, as fused ones do for `torch.amp.GradScaler`.

    A fused SGD with momentum does not: where it skips its first step, its momentum is left uninitialized (torch 2.13).
    """
    known = type(optimizer) in (torch.optim.Adam, torch.optim.AdamW)
    return known and all(group["fused"] for group in optimizer.param_groups)
