"""A Trainer that may be killed at any moment: what it saves is whole, and a resumed run is the run itself."""

import json
import os
import time
import weakref
from collections.abc import Iterator, Sized
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import TrainerCallback
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, TrainOutput, has_length, sort_checkpoints
from transformers.utils import logging

from .arguments import RunArguments
from .checkpointing.same_run import describe_arguments, describe_collator, describe_data, require_same_run, write_run
from .checkpointing.staging import clear, discard, place_files, place_folder, rotate, staging
from .checkpointing.stop_signals import STOPPED, StopSignals
from .checkpointing.worker_signals import leave_signals_to_the_parent
from .devices import refuse_several_devices
from .full_evaluation import FullEvaluationTrainer
from .restarts import RestartingTrainer

RUNNING_STATE_NAME = "running_state"

logger = logging.get_logger(__name__)


class _InterruptionCallback(TrainerCallback):
    """Takes up where a checkpoint left off, decides when one is saved, and stops when a signal has come."""

    def __init__(self, trainer: "InterruptibleTrainer"):
        self.trainer = weakref.proxy(trainer)  # see _StepCallback
        self.stop_signals = StopSignals()
        self.stopped = False
        self._save_at_epoch_end = False

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        with args.main_process_first(local=False, desc="removing what was left unfinished"):
            if args.local_process_index == 0:
                clear(Path(args.output_dir))
        self.trainer.restore_running_state()
        self.stopped = self._save_at_epoch_end = False

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        # What is logged and evaluated at the end of an epoch would be missing in a checkpoint saved before it.
        epoch_ends = state.epoch == int(state.epoch) or state.global_step >= state.max_steps
        if self._all_asked_to_stop() and state.global_step < state.max_steps:
            self.stopped = True
            control.should_save = control.should_training_stop = True
        if control.should_save and epoch_ends:
            control.should_save, self._save_at_epoch_end = False, True

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._save_at_epoch_end:
            control.should_save, self._save_at_epoch_end = True, False
        elif self.stopped:  # it is no real end of an epoch
            control.should_log = control.should_evaluate = control.should_save = False

    def _all_asked_to_stop(self) -> bool:
        """Whether any process was: a launcher's signal need not reach all of them within the same step."""
        accelerator = self.trainer.accelerator
        asked = self.stop_signals.received is not None
        if accelerator.num_processes == 1:
            return asked
        # Waits for the device, as has just been done to look at the weights (see `BadSteps`).
        if asked:
            accelerator.set_trigger()
        return accelerator.check_trigger()


class InterruptibleTrainer(RestartingTrainer, FullEvaluationTrainer):
    """transformers' Trainer with saves that are whole or not there, and runs that can be stopped and resumed.

    - A checkpoint is written to `_unfinished/` in the output directory and renamed to `checkpoint-N` when all of it is
      on the disk; older ones beyond `save_total_limit` are deleted after that. So are the files of `save_model`. A run
      removes what a killed one left in `_unfinished/`.
    - A checkpoint holds what is summed up between two logs and for `train_loss` (`running_state.safetensors`, with
      several processes one for each, `running_state_0.safetensors`), so a resumed run logs what the uninterrupted one
      would have. `train_runtime` is the time of all attempts.
    - At SIGTERM or SIGUSR1 the step at hand is finished, a checkpoint is saved, and `train` raises `SystemExit(143)`,
      or `SystemExit(0)` with `exit_zero_on_sigterm`. With several processes all stop at the same step. Handlers are
      those from before as soon as `train` ends, however it does. SIGINT raises `KeyboardInterrupt` at once, as ever.

    Raises:
        DiskFullError: the disk is full; see there.
        ValueError: the process sees several GPUs, or there is no step to take, or none was taken.
    """

    args: RunArguments

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        refuse_several_devices(self.args)
        self._staging: Path | None = None
        self._resumed_from: str | None = None
        self._data_description: dict[str, Any] | None = None
        self._train_began = 0.0
        self._interruption = _InterruptionCallback(self)
        self.add_callback(self._interruption)

    # --- whole saves

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        run_dir = self._get_output_dir(trial)
        name = f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        final = os.path.join(run_dir, name)
        with staging(Path(run_dir), name) as folder:
            with self._saving_to(folder):
                super()._save_checkpoint(model, trial)
            if self.state.best_model_checkpoint == str(folder / name):
                self.state.best_model_checkpoint = final
                if self.args.should_save:
                    self.state.save_to_json(str(folder / name / TRAINER_STATE_NAME))
            self.accelerator.wait_for_everyone()  # each process writes its own random state
            # Nodes that share no disk each have a part of it; where they share one, the first renames for all.
            with self.args.main_process_first(local=False, desc="renaming a checkpoint"):
                if self.args.local_process_index == 0 and folder.is_dir():
                    place_folder(folder / name, Path(final))
                    keep = {final} | {path for path in [self.state.best_model_checkpoint] if path is not None}
                    rotate(Path(run_dir), self.args.save_total_limit, keep)
                    clear(Path(run_dir))
        if self.args.push_to_hub:
            self._push_from_checkpoint(final)

    @contextmanager
    def _saving_to(self, folder: Path) -> Iterator[None]:
        self._staging = folder
        try:
            yield
        finally:
            self._staging = None

    def _get_output_dir(self, trial: Any) -> str:
        return super()._get_output_dir(trial) if self._staging is None else str(self._staging)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        if self._staging is None:  # not before it has its name
            super()._push_from_checkpoint(checkpoint_folder)

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        if self._staging is not None or not self.args.should_save:
            super()._save(output_dir, state_dict)
            return
        with self.whole_files("The model", output_dir or str(self.args.output_dir)) as folder:
            super()._save(folder, state_dict)

    @contextmanager
    def whole_files(self, what: str, directory: str | os.PathLike) -> Iterator[str]:
        """A folder whose files are moved to `directory` once all are written: none ever replaces an older one in part.

        Raises:
            DiskFullError: the disk is full; the older files are as they were.
        """
        output_dir, directory = Path(str(self.args.output_dir)), Path(directory)
        nearby = (
            output_dir if directory.is_relative_to(output_dir) else directory
        )  # files can't be renamed across disks
        with staging(nearby, what) as folder:
            (folder / "files").mkdir()
            yield str(folder / "files")
            place_files(folder / "files", directory)
        clear(nearby)

    def save_state(self) -> None:
        if self.is_world_process_zero():
            with self.whole_files("The state of the trainer", str(self.args.output_dir)) as folder:
                self.state.save_to_json(os.path.join(folder, TRAINER_STATE_NAME))

    def save_metrics(self, split: str, metrics: dict[str, float], combined: bool = True) -> None:
        if not self.is_world_process_zero():
            return
        files = {f"{split}_results.json": metrics}
        if combined:
            path = Path(str(self.args.output_dir), "all_results.json")
            earlier = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
            files[path.name] = earlier | metrics
        with self.whole_files(f"The metrics of {split}", str(self.args.output_dir)) as folder:
            for name, values in files.items():
                Path(folder, name).write_text(json.dumps(values, indent=4, sort_keys=True), encoding="utf-8")

    # --- stopping

    def train(self, *args: Any, **kwargs: Any) -> TrainOutput:
        """As ever; signals that ask to stop are heeded meanwhile."""
        with self._interruption.stop_signals.heeded():
            return super().train(*args, **kwargs)

    def _get_dataloader(self, *args: Any, **kwargs: Any) -> Any:
        loader = super()._get_dataloader(*args, **kwargs)
        if self.args.dataloader_num_workers > 0:
            leave_signals_to_the_parent(loader)
        return loader

    # --- resuming

    def running_state(self) -> dict[str, Tensor]:
        """What this process has summed up since the last log and over the run, to be saved with a checkpoint."""
        return {
            "loss": self._tr_loss,
            "logged_loss": torch.tensor(self._total_loss_scalar, dtype=torch.float64),
            "logged_step": torch.tensor(self._globalstep_last_logged),
            "seconds": torch.tensor(time.time() - self._train_began, dtype=torch.float64),
        }

    def load_running_state(self, state: dict[str, Tensor]) -> None:
        """Go on from what `running_state` gave."""
        self._tr_loss = state["loss"]
        self._total_loss_scalar = state["logged_loss"].item()
        self._globalstep_last_logged = int(state["logged_step"])
        self._train_began -= state["seconds"].item()
        self._initial_global_step = 0  # Trainer would divide by the steps since it resumed

    def restore_running_state(self) -> None:
        """Load it from the checkpoint that is resumed, if one is; Trainer has just set its own sums to 0."""
        self._train_began = time.time()
        if self._resumed_from is None:
            return
        path = self._running_state_path(self._resumed_from)
        if path.is_file():
            device = self.args.device
            self.load_running_state({name: value.to(device) for name, value in load_file(path).items()})
        else:
            logger.warning(
                f"{self._resumed_from} has no {path.name}: other software saved it, or another number of processes. "
                "The next log and train_loss will miss the steps before it."
            )
        if self.state.global_step >= self.state.max_steps:
            self._load_rng_state(self._resumed_from)  # Trainer would in an epoch, of which none is left

    def _running_state_path(self, checkpoint: str) -> Path:
        of_process = f"_{self.args.process_index}" if self.args.world_size > 1 else ""
        return Path(checkpoint, f"{RUNNING_STATE_NAME}{of_process}.safetensors")

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        save_file(self.running_state(), self._running_state_path(output_dir))
        if self.args.should_save:
            write_run(output_dir, self._data_described(), self.settings_of_run())

    def settings_of_run(self) -> dict[str, Any]:
        """By name, what makes a step of this run what it is; a run that is resumed is compared by it."""
        samples = {"samples_per_step": self.get_total_train_batch_size(self.args)}
        return samples | describe_arguments(self.args) | describe_collator(self.data_collator)

    def _data_described(self) -> dict[str, Any]:
        if self._data_description is None:
            self._data_description = describe_data(self.train_dataset)
        return self._data_description

    def _prepare_for_training(self, max_steps: int, train_dataloader: Any, resume_from_checkpoint: str | None) -> Any:
        self._resumed_from = resume_from_checkpoint
        self._data_description = None
        if resume_from_checkpoint is not None:
            data, settings = self._data_described(), self.settings_of_run()
            require_same_run(resume_from_checkpoint, data, settings, any_data=self.args.ignore_data_skip)
        return super()._prepare_for_training(max_steps, train_dataloader, resume_from_checkpoint)

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        if self.state.global_step < self.state.max_steps:
            super()._run_epoch(*args, **kwargs)
        else:  # a resumed run that lacks nothing: Trainer would take one step more, and a stream has no last epoch
            self.control.should_training_stop = True

    def _evaluate(self, trial: Any, ignore_keys_for_eval: Any, skip_scheduler: bool = False) -> dict[str, float]:
        if skip_scheduler and self.state.global_step > 0:
            return {}  # `eval_on_start` was done when the run began
        return super()._evaluate(trial, ignore_keys_for_eval, skip_scheduler)

    # --- the end

    def _finalize_training(self, trial: Any, num_train_samples: int, start_time: float) -> TrainOutput:
        """The time is that of all attempts."""
        if self._interruption.stopped:
            self._leave(trial)
        self._require_a_step()
        if self.args.should_save and self.args.save_total_limit == 1 and self.state.best_model_checkpoint is not None:
            best = str(Path(self.state.best_model_checkpoint))  # Trainer keeps no other, and deletes them in place
            for checkpoint in sort_checkpoints(self._get_output_dir(trial)):
                if checkpoint != best:
                    discard(Path(checkpoint))
        return super()._finalize_training(trial, num_train_samples, self._train_began)

    def _leave(self, trial: Any) -> None:
        self.callback_handler.on_train_end(self.args, self.state, self.control)
        self._finish_current_push()
        checkpoint = os.path.join(self._get_output_dir(trial), f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}")
        logger.warning(
            f"Stopped by {self._interruption.stop_signals.received or 'a signal to another process'} after step "
            f"{self.state.global_step} of {self.state.max_steps}; saved {checkpoint}. Go on with the same command and "
            "--resume_from_checkpoint true."
        )
        raise SystemExit(0 if self.args.exit_zero_on_sigterm else STOPPED)

    # --- runs without a step

    def set_initial_training_values(self, args: Any, dataloader: Any) -> Any:
        """As ever, if there is anything to do.

        Raises:
            ValueError: there is no step to take.
        """
        if has_length(dataloader) and not len(dataloader):
            given, samples = len(cast(Sized, self.train_dataset)), self.args.world_size * self._train_batch_size
            dropped = (
                f"and dataloader_drop_last leaves out a last batch of fewer than {samples} samples. Lower "
                "per_device_train_batch_size, set --dataloader_drop_last false, or give more data"
                if self.args.dataloader_drop_last
                else "so there is none. Give data"
            )
            raise ValueError(f"There is no batch to train on: the training data have {given} samples, {dropped}.")
        values = super().set_initial_training_values(args, dataloader)
        max_steps = values[-1]
        if not max_steps or max_steps < 1:
            raise ValueError(
                f"There is no step to take: max_steps={args.max_steps} and num_train_epochs={args.num_train_epochs}. "
                "Set one of them above 0."
            )
        return values

    def _require_a_step(self) -> None:
        """A run without one is no success: its weights are those it began with.

        Raises:
            ValueError: no optimizer step has been taken, also before the run was resumed.
        """
        if self.state.global_step == 0:
            raise ValueError(
                "No step was taken: the training data gave not a single batch. The weights are those that the run "
                "began with, so nothing is saved."
            )
