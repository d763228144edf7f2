"""Optimizer steps that met NaN or infinity: they are not taken, they are counted, and their samples are named."""

import weakref
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import datasets
import torch
from torch import Tensor
from transformers import TrainerCallback
from transformers.utils import logging

from ..checkpointing.output_dir import last_checkpoint
from ..teacher import whole

logger = logging.get_logger(__name__)

SAMPLE_INDEX = "sample_index"
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
class _MicroBatch:
    """What is noted of one forward and backward pass; the flags are scalars that stay on their device."""

    samples: Tensor | None
    inputs: list[Tensor]
    finite_inputs: Tensor
    finite_loss: Tensor

    def suspects(self) -> tuple[str, list[int] | None]:
        """Where the first NaN or infinity is, "" if not in this batch, and the `sample_index` of its samples."""
        if not self.finite_inputs:
            finite = torch.stack([value.isfinite().flatten(1).all(1) for value in self.inputs]).all(0)
            return "input", None if self.samples is None else self.samples[~finite].tolist()
        return "" if self.finite_loss else "loss", self.all_samples()

    def all_samples(self) -> list[int] | None:
        return None if self.samples is None else self.samples.tolist()


class BadSteps(TrainerCallback):
    """Keeps a [`Data2VecTrainer`] from taking an optimizer step on NaN or infinity.

    A step is bad if an input, the loss or a gradient of any of its micro-batches, on any process, is not finite. Then
    weights, optimizer state, teacher and the student's buffers (batch norm's statistics) stay bit for bit as they
    were, the step is left out of the logged losses, and a warning names its samples. The learning rate's schedule
    continues. An overflow that fp16's loss scaling caused is not bad: Trainer skips it, and it is not counted.

    Attributes:
        total: bad steps of the whole run, also before it was resumed; logged as `bad_steps`.
        in_a_row: bad steps since the last good one.
        step_was_taken: whether the latest optimizer step moved the weights.

    Raises (while training):
        FloatingPointError: `max_bad_steps` in a row were bad, or an optimizer step made weights that are not finite.
    """

    def __init__(self, trainer: Any):
        self.trainer: Any = weakref.proxy(trainer)  # not a cycle: see ResumeCallback
        self.total = 0
        self.in_a_row = 0
        self._skipped = False
        self._cause = ""
        self._batches: list[_MicroBatch] = []
        self._buffers: list[tuple[Tensor, Tensor]] = []
        self._loss_before: Tensor

    @property
    def step_was_taken(self) -> bool:
        # Accelerate's flag alone misses overflows with a fused optimizer, which the scaler calls and lets skip.
        return not self._skipped and not self.trainer.accelerator.optimizer_step_was_skipped

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.total = max((entry.get("bad_steps", 0) for entry in state.log_history), default=0)
        self.trainer._initial_global_step += self.total  # see `check`
        self.in_a_row, self._skipped, self._cause = 0, False, ""

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._batches = []
        self._loss_before = self.trainer._tr_loss.clone()
        self._buffers = [(buffer, buffer.clone()) for buffer in self.trainer.model.encoder.buffers()]

    def note(self, inputs: Mapping[str, Any], samples: Tensor | None, loss: Tensor) -> None:
        """Note a micro-batch after its backward pass, without waiting for the device.

        Args:
            inputs: what the model read.
            samples: (B,) `sample_index`, if known.
            loss: scalar.
        """
        floats = [value for value in inputs.values() if isinstance(value, Tensor) and value.is_floating_point()]
        finite = [value.isfinite().all().to(loss.device) for value in floats]
        finite_inputs = torch.stack(finite).all() if finite else torch.ones_like(loss, dtype=torch.bool)
        self._batches.append(_MicroBatch(samples, floats, finite_inputs, loss.isfinite()))

    def check(self, grad_norm: Tensor | float | None) -> None:
        """Right before the optimizer step: drop the gradients if any of them, or of what led to them, is not finite.

        Args:
            grad_norm: norm of all gradients, reduced over processes and unscaled; None if it is not known (DeepSpeed).
        """
        trainer = self.trainer
        device = self._batches[0].finite_loss.device
        passed = torch.stack([flag for batch in self._batches for flag in (batch.finite_inputs, batch.finite_loss)])
        norm = torch.as_tensor(0.0 if grad_norm is None else grad_norm, device=device)
        finite_grads = whole(norm).isfinite()
        failed = (~torch.stack([passed.all(), finite_grads])).float()
        # All processes must decide alike, and one that read good data cannot see another's. To know before the step,
        # this must wait for the device; in exchange Trainer's logging_nan_inf_filter, which waits twice for each
        # micro-batch, is off.
        bad_batch, bad_grads = (count > 0 for count in trainer.accelerator.reduce(failed, "sum").tolist())
        self._skipped = bad_batch or bad_grads
        if self._skipped:
            # No optimizer moves a weight without a gradient. The scaler made its checks when the norm was computed.
            trainer.optimizer.zero_grad(set_to_none=True)
        if not bad_batch and (not bad_grads or self._is_overflow()):
            self.in_a_row = self.in_a_row if bad_grads else 0
            self._cause = ""
            return
        self.total += 1
        self.in_a_row += 1
        for buffer, before in self._buffers:
            buffer.copy_(before)
        trainer._tr_loss.copy_(self._loss_before)
        # Neither of Trainer's means, the logged one and that of the run, must count this step.
        trainer._globalstep_last_logged += 1
        trainer._initial_global_step += 1
        self._cause = self._find_cause(bad_batch)
        logger.warning(
            f"Optimizer step {trainer.state.global_step + 1} is skipped: NaN or infinity in {self._cause}. "
            f"{self.in_a_row} in a row; the run stops at max_bad_steps={trainer.args.max_bad_steps}."
        )

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Make sure that the new weights are finite, before the teacher and any checkpoint take them over."""
        trained = {name: weight for name, weight in self.trainer.model.named_parameters() if weight.requires_grad}
        # Finite gradients do not make finite weights. Norms are in float32, since half precision could overflow; one
        # kernel for all, and one wait for the device.
        total = torch.linalg.vector_norm(
            torch.stack(torch._foreach_norm([weight.detach() for weight in trained.values()], 2, dtype=torch.float32))
        )
        if not whole(total).isfinite():
            name = next((name for name, weight in trained.items() if not weight.isfinite().all()), "another process's")
            raise FloatingPointError(
                f"Optimizer step {state.global_step + 1} made weights that are not finite ({name}), though its "
                f"gradients were: the update itself was too large. {self._last_checkpoint()} Lower learning_rate or "
                "lengthen warmup_steps; with weights in float16, load them in float32 and train with --bf16 or --fp16."
            )

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if not self._cause:
            return
        should_log = control.should_log
        self.trainer.log({"bad_steps": self.total})
        control.should_log = should_log  # the means since the last log are still to be logged
        if self.in_a_row >= args.max_bad_steps:
            raise FloatingPointError(
                f"{self.in_a_row} optimizer steps in a row met NaN or infinity, up to step {state.global_step}: "
                f"max_bad_steps={args.max_bad_steps}. The last one was in {self._cause}. Weights and teacher are as "
                f"step {state.global_step - self.in_a_row} left them. {self._last_checkpoint()} Look at the samples "
                "that the warnings above name. If they differ from step to step, the training itself diverged: lower "
                "learning_rate, set max_grad_norm, lengthen warmup_steps, or use --bf16 in place of --fp16."
            )

    def _is_overflow(self) -> bool:
        """Whether fp16's loss scaling explains the gradients: it does as long as the scale is above 1."""
        scaler = self.trainer.accelerator.scaler
        return scaler is not None and scaler.get_scale() > 1

    def _find_cause(self, bad_batch: bool) -> str:
        for batch in self._batches:
            place, samples = batch.suspects()
            if place:
                return f"the {place} of {self._names(samples)}"
        if bad_batch:
            return "a batch of another process"
        batches = [batch.all_samples() for batch in self._batches]
        samples = None if None in batches else [sample for batch in batches for sample in batch or ()]
        return f"the gradients of {self._names(samples)}"

    def _names(self, samples: list[int] | None) -> str:
        if samples is None:
            return "samples without sample_index"
        files = [_file_of(self.trainer.train_dataset, sample) for sample in samples[:_NAMED]]
        named = [f"{sample} ({file})" if file else str(sample) for sample, file in zip(samples, files, strict=False)]
        more = f" and {len(samples) - _NAMED} more" if len(samples) > _NAMED else ""
        return f"sample_index {', '.join(named)}{more}"

    def _last_checkpoint(self) -> str:
        last = last_checkpoint(self.trainer.args)
        if last is None:
            return "No checkpoint has been saved yet."
        return f"The last good checkpoint is {last} (--resume_from_checkpoint {last})."


def _file_of(dataset: Any, sample: int) -> str:
    """Path of the file that a sample was read from, "" where the data set does not say."""
    if not isinstance(dataset, datasets.Dataset) or SAMPLE_INDEX not in dataset.column_names:
        return ""
    rows = dataset.with_format(None)
    position = bisect_left(rows[SAMPLE_INDEX], sample)  # ascending, and read only where it is compared
    row = rows[position] if position < len(rows) else {}
    if row.get(SAMPLE_INDEX) != sample:
        return ""
    paths = [value["path"] for value in row.values() if isinstance(value, dict) and value.get("path")]
    return paths[0] if paths else ""
