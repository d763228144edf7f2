"""The trainer that pre-training and fine-tuning share: what it saves is whole, and a resumed run is the run itself.

What it adds to methods of transformers' Trainer, besides `hub_trainer.py`:

| Method | What it adds | Why |
| --- | --- | --- |
| `__init__` | a collator for evaluation; refuses several GPUs | no augmentation there; losses would be wrong |
| `train` | checks the checkpoint's files; records signals | a damaged file is one clear error; see `StopCallback` |
| `_inner_training_loop` | smaller batches start from the first weights | Trainer would go on with the later ones |
| `set_initial_training_values` | refuses runs without steps, and other data on resuming | before anything is trained |
| `_get_dataloader` | evaluation's collator and last batch; workers and signals | Trainer has one collator |
| `_get_train_sampler` | grouping by length draws from seed and epoch, and decodes nothing | processes would differ |
| `_get_eval_sampler` | groups by length without drawing; none if evaluation keeps the order | the same each time |
| `get_decay_parameter_names` | leaves out vectors and mask embeddings | as fairseq's data2vec 2.0 and BEiT do |
| `_run_epoch` | no epoch if no step is left | Trainer would take one more, and a stream has no last epoch |
| `_evaluate` | no evaluation on start in a resumed run | it was made when the run began |
| `evaluation_loop` | weights are afterwards what they were | Trainer rounds them for `--bf16_full_eval` for good |
| `prediction_step` | rounds inputs for `--bf16_full_eval` and `--fp16_full_eval` | not all encoders do so |
| `_save_checkpoint` | writes all to `_unfinished/`, then renames it | a killed run leaves no half checkpoint |
| `_get_output_dir` | `_unfinished/` during such a save | Trainer writes the checkpoint there |
| `_push_from_checkpoint` | waits until the checkpoint has its name | Trainer would upload `_unfinished/` |
| `_save` | whole files only; the class before FSDP sharded it | a killed run leaves no half model |
| `save_state` | a whole file only | the same |
| `save_metrics` | whole files only | the same |
| `_finalize_training` | exits after a signal or without a step; all attempts' time | such a run is not finished |

Its callbacks run after those of transformers and of the caller, in this order:

| Callback | What it does | Why in this place |
| --- | --- | --- |
| `ResumeCallback` | restores the checkpoint's state | all others read this state when training begins |
| `StopCallback` | saves and stops after a signal | after `DefaultFlowCallback`, whose saves it may postpone |
| `EpochCallback` | tells collator and sampler the epoch | any place would do: it depends on no other callback |
"""

import json
import os
import time
from collections.abc import Callable, Iterator, Sized
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler
from transformers import set_seed
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import (
    PREFIX_CHECKPOINT_DIR,
    EvalLoopOutput,
    TrainOutput,
    get_last_checkpoint,
    has_length,
    sort_checkpoints,
)
from transformers.utils import logging

from ..data.quality.reading import RefusingCollator
from ..quirks_data2vec_generic import MASK_PARAMETERS
from ..versions import prepare_train_loss
from .acceleration.global_batch import unsharded_class
from .acceleration.precision import evaluation_dtype, kept_weights, rounded
from .arguments import RunArguments
from .checkpointing.integrity import check_checkpoint
from .checkpointing.interruption import ResumeCallback, StopCallback
from .checkpointing.restarts import StartingPoint
from .checkpointing.running_state import load_running_state, save_running_state
from .checkpointing.same_run import describe_arguments, describe_collator, describe_data, require_same_run, write_run
from .checkpointing.signals import STOPPED, ignore_stop_signals_in_workers
from .checkpointing.staging import discard, place_checkpoint, staging, whole_files
from .grouping import GroupedByLength, lengths_of
from .hub_trainer import HubTrainer
from .loaders import EpochCallback, loader_collator, replaced
from .settings import refuse_several_devices

NEVER_DECAYED = (*MASK_PARAMETERS, "mask_embedding")

logger = logging.get_logger(__name__)


class ResumableTrainer(HubTrainer):
    """transformers' Trainer with saves that are whole or absent, and runs that can be stopped and resumed.

    - A checkpoint is written to `_unfinished/` in the output directory and renamed to `checkpoint-N` when all of it is
      on the disk; older ones beyond `save_total_limit` are deleted after that. So are the files of `save_model`. A run
      removes what a killed one left in `_unfinished/`.
    - A checkpoint holds what is summed up between two logs and for `train_loss` (`running_state.safetensors`; with
      several processes one file for each, `running_state_0.safetensors`), so a resumed run logs what the uninterrupted
      one would have. `train_runtime` is the time of all attempts.
    - At SIGTERM or SIGUSR1 the current step is finished, a checkpoint is saved, and `train` raises `SystemExit(143)`,
      or `SystemExit(0)` with `exit_zero_on_sigterm`. With several processes all stop at the same step. The former
      handlers are back as soon as `train` ends, also after an error. SIGINT raises `KeyboardInterrupt` at once.

    Args:
        eval_data_collator: collator of the evaluation, which neither augments nor varies by epoch; default: the
            training one.
        args, kwargs: those of Trainer.

    Raises:
        DiskFullError: the disk is full; see there.
        ValueError: the process sees several GPUs, or there is no step to take, or none was taken.
    """

    args: RunArguments
    evaluates_in_order = False
    """Whether evaluation keeps the order of the data even where training groups samples by length."""

    def __init__(self, *args: Any, eval_data_collator: Callable[..., Any] | None = None, **kwargs: Any):
        super().__init__(*args, **kwargs)
        refuse_several_devices(self.args)
        self.eval_data_collator = eval_data_collator or self.data_collator
        self._staging_folder: Path | None = None
        self._resumed_from: Path | None = None
        self._data_description: dict[str, Any] | None = None
        self._train_began = 0.0
        self._starting_point: StartingPoint | None = None
        self.stop = StopCallback(self)
        for callback in (ResumeCallback(self), self.stop, EpochCallback(self)):
            self.add_callback(callback)

    # --- what subclasses extend

    def training_collator(self) -> Callable[..., Any]:
        """The collator of the training batches, whose last step may be left to the device."""
        return loader_collator(self.data_collator, self.train_dataset, self.accelerator)

    def reading(self, dataset: Any, collator: Callable[..., Any], is_training: bool) -> tuple[Any, Callable[..., Any]]:
        """What a loader reads, and its collator, which here refuses samples that cannot be read."""
        return dataset, RefusingCollator(collator)

    def begin_attempt(self, batch_size: int) -> None:
        """Called before each attempt at a run, before data are read: forget what belongs to an earlier attempt.

        Args:
            batch_size: samples per micro-batch of this process.
        """

    def running_state(self) -> dict[str, Tensor]:
        """What this process has summed up since the last log and over the run, to be saved with a checkpoint."""
        return {
            "loss": self._tr_loss,
            "logged_loss": torch.tensor(self._total_loss_scalar, dtype=torch.float64),
            "logged_step": torch.tensor(self._globalstep_last_logged),
            "seconds": torch.tensor(time.time() - self._train_began, dtype=torch.float64),
        }

    def load_running_state(self, state: dict[str, Tensor]) -> None:
        """Continue from what `running_state` returned."""
        self._tr_loss = state["loss"]
        self._total_loss_scalar = state["logged_loss"].item()
        self._globalstep_last_logged = int(state["logged_step"])
        self._train_began -= state["seconds"].item()
        self._initial_global_step = 0  # Trainer would divide by the steps since it resumed

    def save_own_state(self, checkpoint: Path) -> None:
        """Write to a checkpoint what Trainer does not. Called on all processes."""
        save_running_state(self.running_state(), checkpoint, self.args)
        if self.args.should_save:
            write_run(checkpoint, self._describe_data(), self.settings_of_run())

    def load_own_state(self, checkpoint: Path) -> None:
        """Read what `save_own_state` wrote."""
        state = load_running_state(checkpoint, self.args)
        if state is not None:
            self.load_running_state(state)

    def settings_of_run(self) -> dict[str, Any]:
        """By name, the settings that determine what a step of this run computes; a resumed run is compared by them."""
        samples = {"samples_per_step": self.get_total_train_batch_size(self.args)}
        return samples | describe_arguments(self.args) | describe_collator(self.data_collator)

    def asked_to_stop(self) -> bool:
        """Whether a signal asks the run to stop after this step; all processes say so after the same step."""
        return self.stop.asked if self.args.world_size == 1 else self.stop.any_asked()

    def require_a_step(self) -> None:
        """A run without a step is a failure: its weights are those it began with.

        Raises:
            ValueError: no optimizer step has been taken, also before the run was resumed.
        """
        if self.state.global_step == 0:
            raise ValueError(
                "No step was taken: the training data gave not a single batch. The weights are those that the run "
                "began with, so nothing is saved."
            )

    # --- the beginning of a run

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> TrainOutput:
        """Train as Trainer does, or stop when a signal asks for it.

        Raises:
            SystemExit: a signal arrived, and a checkpoint has been saved.
            ValueError: a file of the checkpoint is damaged, or there is nothing to train.
        """
        checkpoint: Any = resume_from_checkpoint
        if checkpoint is True:
            checkpoint = get_last_checkpoint(str(self.args.output_dir))
        if checkpoint:
            check_checkpoint(checkpoint)
        self._starting_point = None
        try:
            with self.stop.signals.recorded():
                return super().train(resume_from_checkpoint, *args, **kwargs)
        finally:
            self._starting_point = None

    def _inner_training_loop(
        self,
        batch_size: int | None = None,
        args: Any = None,
        resume_from_checkpoint: str | None = None,
        trial: Any = None,
        ignore_keys_for_eval: list[str] | None = None,
    ) -> TrainOutput:
        assert batch_size is not None  # `train` gives it
        self._resumed_from = None if resume_from_checkpoint is None else Path(resume_from_checkpoint)
        self._data_description = None
        self._initial_global_step = 0  # of this attempt, also in versions whose Trainer does not set it
        if self.args.auto_find_batch_size:
            self._return_to_start()
        self.begin_attempt(batch_size)
        return super()._inner_training_loop(batch_size, args, resume_from_checkpoint, trial, ignore_keys_for_eval)

    def _return_to_start(self) -> None:
        """Keep the starting point before the first attempt, and restore it, with the seed, before each further one."""
        model: Any = self.model
        if self._starting_point is None:
            self._starting_point = StartingPoint(model, self.optimizer)
            return
        self._starting_point.restore(model, self.optimizer)
        if not self._starting_point.has_optimizer:
            self.optimizer = self.lr_scheduler = None
        set_seed(self.args.seed)

    def set_initial_training_values(self, args: Any, dataloader: Any) -> Any:
        """Count steps and epochs, and check the run before its first step.

        Raises:
            ValueError: there is no step to take, or the checkpoint is of a run with other data.
        """
        if has_length(dataloader) and not len(dataloader):
            given = len(cast(Sized, self.train_dataset))
            samples = self.get_total_train_batch_size(args) // args.gradient_accumulation_steps
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
        if self._resumed_from is not None:
            data, settings = self._describe_data(), self.settings_of_run()
            require_same_run(self._resumed_from, data, settings, any_data=self.args.ignore_data_skip)
        return values

    def restore_own_state(self) -> None:
        """Called when training begins, right after Trainer has set its own sums to 0."""
        self._train_began = time.time()
        if self._resumed_from is None:
            return
        self.load_own_state(self._resumed_from)
        if self.state.global_step >= self.state.max_steps:
            self._load_rng_state(str(self._resumed_from))  # Trainer would in an epoch, and none is left

    def _describe_data(self) -> dict[str, Any]:
        if self._data_description is None:
            self._data_description = describe_data(self.train_dataset)
        return self._data_description

    # --- batches and weight decay

    def _get_dataloader(
        self,
        dataset: Any,
        description: str,
        batch_size: int,
        sampler_fn: Callable[..., Any] | None = None,
        is_training: bool = False,
        dataloader_key: str | None = None,
    ) -> DataLoader:
        collator = (
            self.training_collator()
            if is_training
            else loader_collator(self.eval_data_collator, dataset, self.accelerator)
        )
        samples, collator = self.reading(dataset, collator, is_training)
        sampler = None if sampler_fn is None else lambda _: sampler_fn(dataset)  # it reads lengths, not samples
        drop_last = is_training and self.args.dataloader_drop_last
        with replaced(self, data_collator=collator), replaced(self.args, dataloader_drop_last=drop_last):
            loader = super()._get_dataloader(samples, description, batch_size, sampler, is_training, dataloader_key)
        if self.args.dataloader_num_workers > 0:
            ignore_stop_signals_in_workers(loader)
        return loader

    @property
    def groups_by_length(self) -> bool:
        """Whether samples of similar length are put into one batch."""
        return self.args.train_sampling_strategy == "group_by_length"

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        dataset = self.train_dataset if train_dataset is None else train_dataset
        if not self.groups_by_length or not has_length(dataset):
            return super()._get_train_sampler(dataset)
        lengths = lengths_of(dataset, self.args.length_column_name)
        if lengths is None:
            return RandomSampler(dataset)
        return GroupedByLength(self.get_total_train_batch_size(self.args), lengths, self.seed_of_data)

    def _get_eval_sampler(self, eval_dataset: Any) -> Any:
        if not has_length(eval_dataset):
            return None
        lengths = None
        if self.groups_by_length and not self.evaluates_in_order:
            lengths = lengths_of(eval_dataset, self.args.length_column_name)
        return SequentialSampler(eval_dataset) if lengths is None else np.argsort(-lengths, kind="stable").tolist()

    @property
    def seed_of_data(self) -> int:
        """The seed of the order of samples."""
        return self.args.seed if self.args.data_seed is None else self.args.data_seed

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """Names of the parameters that `weight_decay` applies to: matrices, except mask embeddings.

        Trainer leaves out biases and norms. Here all vectors are left out, such as layer scales, and mask embeddings,
        whose leading axes of size 1 differ between encoders. CLS and other tokens and learned positions are decayed,
        as in fairseq.
        """
        matrices = {name for name, weight in model.named_parameters(remove_duplicate=False) if weight.ndim > 1}
        return [
            name
            for name in super().get_decay_parameter_names(model)
            if name in matrices and name.rpartition(".")[2] not in NEVER_DECAYED
        ]

    # --- epochs and evaluation

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        if self.state.global_step < self.state.max_steps:
            super()._run_epoch(*args, **kwargs)
        else:
            self.control.should_training_stop = True

    def _evaluate(self, trial: Any, ignore_keys_for_eval: Any, skip_scheduler: bool = False) -> dict[str, float]:
        if skip_scheduler and self.state.global_step > 0:  # only `eval_on_start` skips the scheduler
            return {}
        return super()._evaluate(trial, ignore_keys_for_eval, skip_scheduler)

    @property
    def _half_precision(self) -> torch.dtype | None:
        """The type in which Trainer evaluates, if it rounds the weights, which it does outside of training only."""
        return None if self.is_in_train else evaluation_dtype(self.args)

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> EvalLoopOutput:
        """Evaluate as Trainer does; weights that it rounds are afterwards the same tensors as before.

        Both versions are kept in memory as long as the evaluation lasts.
        """
        if self._half_precision is None:
            return super().evaluation_loop(*args, **kwargs)
        model: Any = self.model
        if not self.is_model_parallel:
            self._move_model_to_device(model, self.args.device)  # Trainer moves it when it trains
        with kept_weights(model):
            return super().evaluation_loop(*args, **kwargs)

    def prediction_step(
        self, model: nn.Module, inputs: dict[str, Any], prediction_loss_only: bool, ignore_keys: Any = None
    ) -> tuple[Tensor | None, Any, Any]:
        """Evaluate one batch as Trainer does; where weights are rounded, inputs are too."""
        if self._half_precision is not None:
            inputs = rounded(inputs, self._half_precision)
        return super().prediction_step(model, inputs, prediction_loss_only, ignore_keys)

    # --- whole saves

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        run_dir = self._get_output_dir(trial)
        name = f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        final = os.path.join(run_dir, name)
        with staging(Path(run_dir), name) as folder:
            with self._saving_to(folder):
                super()._save_checkpoint(model, trial)
            if not self.args.save_only_model:
                self.save_own_state(folder / name)
            if self.state.best_model_checkpoint == str(folder / name):
                self.state.best_model_checkpoint = final
                if self.args.should_save:
                    self.state.save_to_json(str(folder / name / TRAINER_STATE_NAME))
            self.accelerator.wait_for_everyone()  # each process writes its own random state
            # Nodes that share no disk each have a part of it; where they share one, the first renames for all.
            with self.args.main_process_first(local=False, desc="renaming a checkpoint"):
                if self.args.local_process_index == 0 and folder.is_dir():
                    best = self.state.best_model_checkpoint
                    place_checkpoint(folder / name, Path(final), self.args.save_total_limit, best)
        if self.args.push_to_hub:
            self._push_from_checkpoint(final)

    @contextmanager
    def _saving_to(self, folder: Path) -> Iterator[None]:
        self._staging_folder = folder
        try:
            yield
        finally:
            self._staging_folder = None

    def _get_output_dir(self, trial: Any) -> str:
        return super()._get_output_dir(trial) if self._staging_folder is None else str(self._staging_folder)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        if self._staging_folder is None:
            super()._push_from_checkpoint(checkpoint_folder)

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        with unsharded_class(cast(nn.Module, self.model)):
            if self._staging_folder is not None or not self.args.should_save:
                super()._save(output_dir, state_dict)
                return
            with self.whole_files("The model", output_dir or str(self.args.output_dir)) as folder:
                super()._save(folder, state_dict)

    def whole_files(self, what: str, directory: str | os.PathLike) -> AbstractContextManager[str]:
        """A context in which files for `directory` are written to another folder; see `staging.whole_files`."""
        return whole_files(what, directory, str(self.args.output_dir))

    def save_state(self) -> None:
        """Write `trainer_state.json`, whole or not at all."""
        if self.is_world_process_zero():
            with self.whole_files("The state of the trainer", str(self.args.output_dir)) as folder:
                self.state.save_to_json(os.path.join(folder, TRAINER_STATE_NAME))

    def save_metrics(self, split: str, metrics: dict[str, float], combined: bool = True) -> None:
        """Write `SPLIT_results.json` and, if `combined`, add to `all_results.json`, whole or not at all."""
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

    # --- the end of a run

    def _finalize_training(self, trial: Any, num_train_samples: int, start_time: float) -> TrainOutput:
        if self.stop.stopped:
            self._exit(trial)
        self.require_a_step()
        if self.args.should_save and self.args.save_total_limit == 1 and self.state.best_model_checkpoint is not None:
            best = str(Path(self.state.best_model_checkpoint))  # Trainer keeps no other, and deletes them in place
            for checkpoint in sort_checkpoints(self._get_output_dir(trial)):
                if checkpoint != best:
                    discard(Path(checkpoint))
        prepare_train_loss(self)
        return super()._finalize_training(trial, num_train_samples, self._train_began)

    def _exit(self, trial: Any) -> None:
        self.callback_handler.on_train_end(self.args, self.state, self.control)
        self._finish_current_push()
        checkpoint = os.path.join(self._get_output_dir(trial), f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}")
        logger.warning(
            f"Stopped by {self.stop.signals.received or 'a signal to another process'} after step "
            f"{self.state.global_step} of {self.state.max_steps}; saved {checkpoint}. Go on with the same command and "
            "--resume_from_checkpoint true."
        )
        raise SystemExit(0 if self.args.exit_zero_on_sigterm else STOPPED)
