"""The callbacks by which a run resumes where its checkpoint was saved, and stops when a signal asks it to."""

import weakref
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

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

    Args:
        trainer: any Trainer; with several processes its accelerator tells all of them to stop.

    Attributes:
        signals: what records the signals; the trainer opens its context.
        stopped: whether a signal has stopped this run.
    """

    def __init__(self, trainer: Any):
        self.trainer: Any = weakref.proxy(trainer)  # not a cycle: see ResumeCallback
        self.signals = StopSignals()
        self.stopped = False
        self._save_at_epoch_end = False

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.stopped = self._save_at_epoch_end = False

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._any_process_was_asked_to_stop() and state.global_step < state.max_steps:
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

    def _any_process_was_asked_to_stop(self) -> bool:
        """Processes must stop at the same step, and a signal need not reach all of them within one step."""
        accelerator = self.trainer.accelerator
        asked = self.signals.received is not None
        if accelerator.num_processes == 1:
            return asked
        # This waits for the device, as has just been done to check the weights (see `BadSteps`).
        if asked:
            accelerator.set_trigger()
        return accelerator.check_trigger()
