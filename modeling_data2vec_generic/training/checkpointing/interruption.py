"""The callbacks by which a run resumes where its checkpoint was saved, and stops when a signal asks it to."""

import weakref
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from ..acceleration.late_values import LateValues
from .signals import StopSignals
from .staging import clear


class ResumeCallback(TrainerCallback):
    """Removes what a killed run left unfinished, and restores the trainer's own state when training begins.

    Args:
        trainer: a `ResumableTrainer`.
    """

    def __init__(self, trainer: Any):
        # Not a cycle: dataloaders with workers must be freed with the trainer, not by the garbage collector.
        self.trainer: Any = weakref.proxy(trainer)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        with args.main_process_first(local=False, desc="removing unfinished files"):
            if args.local_process_index == 0:
                clear(Path(args.output_dir))
        self.trainer.restore_own_state()


class StopCallback(TrainerCallback):
    """Saves a checkpoint and stops after the step in which a signal arrived; saves at the end of an epoch, not before.

    Several processes stop after the same step, one or two later.

    Args:
        trainer: a `ResumableTrainer`, whose `asked_to_stop` says when.

    Attributes:
        signals: what records the signals; the trainer opens its context.
        stopped: whether a signal has stopped this run.
    """

    def __init__(self, trainer: Any):
        self.trainer: Any = weakref.proxy(trainer)  # not a cycle: see ResumeCallback
        self.signals = StopSignals()
        self.stopped = False
        self._save_at_epoch_end = False
        self._told: LateValues | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.stopped = self._save_at_epoch_end = False
        self._told = None

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.trainer.asked_to_stop() and state.global_step < state.max_steps:
            self.stopped = True
            control.should_save = control.should_training_stop = True
        # A checkpoint saved before the end of an epoch would lack what is logged and evaluated there.
        epoch_ends = state.epoch == int(state.epoch) or state.global_step >= state.max_steps
        if control.should_save and epoch_ends:
            control.should_save, self._save_at_epoch_end = False, True

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._save_at_epoch_end:
            control.should_save, self._save_at_epoch_end = True, False
        elif self.stopped:  # the epoch was cut short
            control.should_log = control.should_evaluate = control.should_save = False

    @property
    def asked(self) -> bool:
        """Whether this process has received a signal."""
        return self.signals.received is not None

    def any_asked(self) -> bool:
        """Whether any process had received a signal at the last call; all processes must call this in each step.

        Processes must stop at the same step, and a signal need not reach all of them within one step. What they tell
        each other is read at the next call, when it has long been there.
        """
        asked = torch.full((1,), float(self.asked), device=self.trainer.args.device)
        earlier, self._told = self._told, LateValues(self.trainer.accelerator.reduce(asked, "sum"))
        return earlier is not None and earlier.read()[0] > 0
