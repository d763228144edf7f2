"""The trainer of pre-training: a teacher that follows the student, and what self-supervised training must log.

What it adds to methods of transformers' Trainer, besides `base_trainer.py`:

| Method | What it adds | Why |
| --- | --- | --- |
| `__init__` | metrics of the features, a stream's identity, callbacks | they are no settings |
| `create_accelerator_and_postprocess` | FSDP shards by blocks | an evaluation without training shards the model too |
| `call_model_init` | compiles the model | no other place sees each new model |
| `get_train_dataloader` | batches of a stream, or of varying size | a stream shares out its batches itself |
| `get_total_train_batch_size` | the mean, where the size of batches varies | schedules and speed are in samples |
| `set_initial_training_values` | begins to read a resumed stream | its loader has just been made |
| `get_batch_samples` | no repeated samples; a resumed stream's batches; notes time | a sample counts once; see above |
| `_get_num_items_in_batch` | masked positions of all processes | the loss is a mean over them |
| `training_step` | notes samples, and whether they are finite | `BadSteps` names those that are not |
| `_get_grad_norm` | skips steps that are not finite | it is the last call before the optimizer step |
| `compute_loss` | notes spreads and operations; 0 for repeated samples | the loss alone does not show a collapse |
| `prediction_step` | the loss of the global batch, nothing repeated | it is the same with any number of processes |
| `evaluation_loop` | spreads, and metrics of the features | the loss alone does not show what features are worth |
| `floating_point_ops` | operations of student, teacher and predictor | Trainer counts one model on all positions |
| `_maybe_log_save_evaluate` | settles the step; stops the clock | `BadSteps` is a step late; saves are no training |
| `log` | means since the last log, decay, bad steps, speed | they are known when a step is logged |
| `_load_best_model` | loads the teacher's count and average | its weights come with the model's |

Its callbacks run after those of the base trainer, in this order:

| Callback | What it does | Why in this place |
| --- | --- | --- |
| `BadSteps` | skips steps that met NaN or infinity | the teacher must not take over such weights |
| `HealthCallback` | measures the model | of a sharded model (FSDP2) no part may run before the whole has |
| `TeacherCallback` | features at the start; the teacher and its half-precision copy | after the two above |
| `BestMetricCallback` | checks `metric_for_best_model` | `TeacherCallback` has logged the features' metrics |
"""

import dataclasses
import math
import os
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object, send_to_device
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, TrainerCallback
from transformers.trainer_utils import EvalLoopOutput, has_length
from transformers.utils import logging

from ..data.quality.bad_rows import BadRows
from ..data.quality.reading import ROWS_READ, BadRow, GoodSamples, ReportingCollator, RowsRead
from ..data.streams.sample_stream import PROGRESS, SampleStream
from ..half_copy_data2vec_generic import HalfPrecisionCopy
from ..hub.layout import ENCODER_DIR
from ..modeling_data2vec_generic import Data2VecGenericForPreTraining, Data2VecGenericModel
from ..versions import require_checkpointing_of_visible
from .acceleration.compilation import compile_student
from .acceleration.global_batch import (
    REPEATED,
    masks_as_labels,
    own_samples,
    search_unused_parameters,
    shard_by_blocks,
)
from .arguments import Data2VecTrainingArguments, ObjectiveArguments
from .base_trainer import ResumableTrainer
from .batch_schedule import BatchScaling
from .checkpointing.stream_position import TrainedOn, load_position
from .encoders import save_encoder
from .grouping import TokenBatches, lengths_of
from .loaders import TensorsOnly, begin_stream, loader_of_batches, stream_loader
from .monitoring.bad_steps import BadSteps, WithSampleIndex
from .monitoring.best_metric import BestMetricCallback
from .monitoring.flops import StepFlops
from .monitoring.health import HealthCallback
from .monitoring.row_counts import RowCounts, bad_of, count_of
from .monitoring.running_stats import PassStatistics
from .monitoring.speed import Speedometer
from .monitoring.step_notes import SAMPLE_INDEX
from .teacher import TeacherProgress, ema_decay_at

logger = logging.get_logger(__name__)


class TeacherCallback(TrainerCallback):
    """Measures the features before the first step, moves the teacher right after each optimizer step, and keeps a
    half-precision copy of its weights from the beginning to the end of training.

    Args:
        trainer: the trainer whose teacher it moves.
    """

    def __init__(self, trainer: "Data2VecTrainer"):
        # Not a cycle: dataloaders with workers must be freed with the trainer, not by the garbage collector.
        self.trainer = weakref.proxy(trainer)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.trainer.keep_teacher_copy()
        if state.global_step == 0 and self.trainer.feature_metrics is not None:
            metrics = self.trainer.measure_features()
            self.trainer.log({f"init_{name}": value for name, value in metrics.items()})

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.trainer.step_teacher(self.trainer.bad_steps.skipped)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.trainer.model.teacher_copy = None


class Data2VecTrainer(ResumableTrainer):
    """Trains a [`Data2VecGenericForPreTraining`].

    The teacher takes one step after each optimizer step, whatever the gradient accumulation, none after a step that
    fp16's loss scaling skipped or that met NaN or infinity (see [`BadSteps`]). Logged besides the loss and the
    learning rate: `ema_decay`, `target_std` and `prediction_std` (mean over channels of the standard deviation over
    rows; towards 0 means collapse), `mask_ratio` (share of real positions that are masked) and, where samples are
    padded, `padding` (share of all positions that are padding), which are means over steps and processes, `bad_steps`,
    and how fast the run is (see [`Speedometer`]). Evaluation adds the spreads over all of its masked positions and
    what `feature_metrics` returns. Checkpoints hold the number of teacher updates and, for half-precision models, the
    float32 average.

    On any number of processes:

    - The loss is divided by the masked positions of all micro-batches of all processes. A mean of the processes' means
      would give positions of processes that have few of them more weight.
    - Samples that accelerate repeats, so that all processes have full last batches, are taken out again, both in
      training and in evaluation. A stream, whose length is not known, keeps them.
    - `eval_loss` is that of one process with the same global batch.
    - FSDP shards student and teacher by their blocks.
    - DDP does not search for parameters without a gradient: they are frozen when the encoder is measured.

    `train_dataset` may be a `SampleStream`. A checkpoint then holds the stream's position behind the last batches that
    were trained on (`stream.json`), and a resumed run begins to read there.

    Args:
        model, args, and all further arguments: see [`ResumableTrainer`].
        feature_metrics: called with the student's encoder before the first step and at each evaluation; returns
            metrics by name, which are logged with "init_" and "eval_" in front, with the seconds that they took
            (`probe_runtime`). All processes call it.
        stream_identity: what the stream was made of; a checkpoint of another stream is refused.
        max_bad_fraction: the largest share of bad rows among those read (see [`RowCounts`]).
        bad_rows: the list of bad rows, of the main process. Default: that in the output directory, to which rows are
            added.
    """

    model: Data2VecGenericForPreTraining
    args: Data2VecTrainingArguments

    def __init__(
        self,
        *args: Any,
        feature_metrics: Callable[[PreTrainedModel], dict[str, float]] | None = None,
        stream_identity: dict[str, Any] | None = None,
        max_bad_fraction: float = 0.1,
        bad_rows: BadRows | None = None,
        **kwargs: Any,
    ):
        super().__init__(*args, **kwargs)
        if self.model.config.student_input == "visible":
            require_checkpointing_of_visible(self.args)
        if bad_rows is None and self.is_world_process_zero():
            bad_rows = BadRows(str(self.args.output_dir), start_over=False)
        self.rows = RowCounts(max_bad_fraction, bad_rows)
        self._rows_evaluated: list[RowsRead] = []
        self.feature_metrics = feature_metrics
        self.stream_identity = stream_identity
        self.teacher_progress = TeacherProgress()
        self._token_batches: TokenBatches | None = None
        self._trained_on: TrainedOn | None = None
        self._resumed_batches: Iterator[Any] | None = None
        self._statistics = PassStatistics()
        self._flops = StepFlops(self.model)
        self._scaling = BatchScaling(self.args)
        self.speed = self._new_speedometer()
        self.bad_steps = BadSteps(self)
        for callback in (self.bad_steps, HealthCallback(self), TeacherCallback(self), BestMetricCallback(self)):
            self.add_callback(callback)
        model_init: Any = self.model_init
        if self.args.torch_compile and model_init is None:
            compile_student(self.model, self.accelerator, self.args)

    # --- the beginning of a run

    def create_accelerator_and_postprocess(self) -> None:
        """Make the accelerator; FSDP, if it is used, shards student and teacher by their blocks."""
        super().create_accelerator_and_postprocess()
        if self.model is not None:  # with `model_init` there is none yet
            shard_by_blocks(self.accelerator, self.model)

    def call_model_init(self, trial: Any = None) -> nn.Module:
        """Make a new model, compiled with `torch_compile`."""
        model: Any = super().call_model_init(trial)
        if self.args.torch_compile:
            compile_student(model, self.accelerator, self.args)
        return model

    def begin_attempt(self, batch_size: int) -> None:
        """The teacher, all means and the stream begin with the attempt; schedules are those for its batch."""
        super().begin_attempt(batch_size)
        self.teacher_progress = TeacherProgress()
        self.rows = RowCounts(self.rows.max_bad_fraction, self.rows.listed_in)
        self._statistics = PassStatistics()
        self._flops = StepFlops(self.model)
        self.speed = self._new_speedometer()
        self._train_batch_size = batch_size  # Trainer sets it later, and the total depends on it
        self._token_batches = self._batches_of_tokens(batch_size)
        self._scaling.apply(self.get_total_train_batch_size(self.args))
        shard_by_blocks(self.accelerator, self.model)
        if self.args.ddp_find_unused_parameters is None:
            search_unused_parameters(self.accelerator, self.model)
        self._resumed_batches = None
        if isinstance(self.train_dataset, SampleStream):
            folder = self._resumed_from
            resumed = None if folder is None else load_position(folder, self.stream_identity)
            self._trained_on = TrainedOn(begin_stream(self.train_dataset, batch_size, resumed, self.args))

    def _batches_of_tokens(self, batch_size: int) -> TokenBatches | None:
        """The batches of `max_tokens_per_batch`; None without it.

        Args:
            batch_size: lower than that of the arguments where `auto_find_batch_size` has lowered it.
        """
        most, dataset = self.args.max_tokens_per_batch, self.train_dataset
        if most is None:
            return None
        lengths = lengths_of(dataset, self.args.length_column_name) if has_length(dataset) else None
        if lengths is None:
            raise ValueError(
                f"max_tokens_per_batch={most} is for loaded text and speech, whose samples differ in length and are "
                "padded. Set --per_device_train_batch_size in its place; streams can group samples by length with "
                "--train_sampling_strategy group_by_length."
            )
        positions = getattr(self.data_collator, "positions", lambda lengths: lengths)(lengths)
        most = most * batch_size // self.args.train_batch_size
        batches = TokenBatches(positions, most, self.seed_of_data, self.args.world_size)
        logger.info(
            f"Up to {most} positions per batch and process make {len(batches)} batches per epoch, of "
            f"{batches.mean_samples:.1f} samples on average. {batches.left_out} more are left out of each epoch, "
            "so that all processes have equally many."
        )
        return batches

    def get_total_train_batch_size(self, args: Any) -> int:
        """Samples per optimizer step, the mean where they vary."""
        if self._token_batches is None:
            return super().get_total_train_batch_size(args)
        return round(self._token_batches.mean_samples * args.gradient_accumulation_steps * args.world_size)

    def get_train_dataloader(self) -> DataLoader:
        """The loader of the training batches, of a data set or a stream."""
        dataset, collator = self.train_dataset, self.training_collator()
        if isinstance(dataset, SampleStream):
            return stream_loader(dataset, collator, self.args)
        if self._token_batches is not None:
            samples, collator = self.reading(dataset, collator, is_training=True)
            return loader_of_batches(samples, self._token_batches, collator, self.accelerator, self.args)
        return super().get_train_dataloader()

    def set_initial_training_values(self, args: Any, dataloader: Any) -> Any:
        """Count steps and epochs, check the run, and begin to read a stream that is resumed."""
        values = super().set_initial_training_values(args, dataloader)
        if isinstance(self.train_dataset, SampleStream) and self._resumed_from is not None:
            self._resumed_batches = iter(dataloader)
        return values

    def training_collator(self) -> Callable[..., Any]:
        """The collator, whose batches also hold `sample_index`."""
        return WithSampleIndex(super().training_collator())

    def reading(self, dataset: Any, collator: Callable[..., Any], is_training: bool) -> tuple[Any, Callable[..., Any]]:
        """Bad samples of a data set are replaced by the next good ones, and reported with the batch."""
        if not has_length(dataset):
            return dataset, collator
        samples = GoodSamples(dataset, "train" if is_training else "validation")
        reporting = ReportingCollator(collator, samples)
        if not self.accelerator.dispatch_batches:
            return samples, reporting
        logger.warning("With dispatch_batches, bad rows are replaced by good ones but neither counted nor listed.")
        return samples, TensorsOnly(reporting)

    def count_rows(self, split: str, read: int, bad: list[BadRow]) -> None:
        """Count rows that all processes together have read, and bad ones among them. All processes must call this.

        Raises:
            ValueError: too many rows are bad, and the run is not over.
        """
        self.rows.add(split, read, bad)
        if self.is_in_train:
            self.rows.check()

    # --- a training step

    def get_batch_samples(self, epoch_iterator: Iterator, num_batches: int, device: torch.device) -> tuple:
        """The micro-batches of an optimizer step without repeated samples, and their masked positions."""
        # Trainer's own iterator would skip the batches that were trained on, and a resumed stream begins behind them.
        iterator = self.speed.batches(epoch_iterator if self._resumed_batches is None else self._resumed_batches)
        self.speed.start(self.state.total_flos)
        batches, num_items = super().get_batch_samples(map(self._own_batch, iterator), num_batches, device)
        self.speed.count_step(sum(len(batch["mask"]) for batch in batches if REPEATED not in batch))
        if self._trained_on is not None:
            for batch in batches:
                self._trained_on.add(batch.pop(PROGRESS))
        return batches, num_items

    def _get_num_items_in_batch(self, batch_samples: list, device: torch.device) -> Tensor | int | None:
        return super()._get_num_items_in_batch(masks_as_labels(batch_samples), device)

    def _own_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The batch on the device, to which accelerate's loader has copied it already but a stream's has not."""
        batch = send_to_device(batch, self.args.device, non_blocking=self.accelerator.non_blocking)
        return self._own_samples(batch)

    def _own_samples(self, batch: dict[str, Any]) -> dict[str, Any]:
        return own_samples(batch, self.accelerator.gradient_state)

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """Forward and backward pass of a micro-batch; notes its samples, and whether they and the loss are finite."""
        samples, rows = inputs.pop(SAMPLE_INDEX, None), inputs.pop(ROWS_READ, [])
        loss = super().training_step(model, inputs, num_items_in_batch)
        self.bad_steps.note(inputs, samples, [] if REPEATED in inputs else rows, loss)
        return loss

    def _get_grad_norm(self, model: nn.Module, grad_norm: Tensor | float | None = None) -> Tensor | float | None:
        grad_norm = super()._get_grad_norm(model, grad_norm)
        self.bad_steps.check(grad_norm)
        return grad_norm

    def asked_to_stop(self) -> bool:
        """Whether any process has been asked to stop. With several processes the flags of `BadSteps` say so."""
        return super().asked_to_stop() if self.args.world_size == 1 else self.bad_steps.asked_to_stop

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, Any]:
        """The model's loss, 0 for repeated samples; notes operations and statistics without waiting for the device."""
        read = {name: value for name, value in inputs.items() if name != REPEATED}
        with self._flops.watched(read) if model.training else nullcontext():
            # In training, the targets of all positions are enough: they hold none twice.
            given = read | {"return_targets": False} if model.training else read
            loss, outputs = super().compute_loss(model, given, True, num_items_in_batch)
        if REPEATED in inputs:
            loss = loss * 0
        else:
            self._statistics.add(self.model, read, outputs, training=model.training)
        return (loss, outputs) if return_outputs else loss

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Operations, forward and backward, of the micro-batch that was trained on last, which `inputs` are; see
        `monitoring.flops`. Logged as `total_flos`."""
        return 0 if REPEATED in inputs else self._flops.count(inputs, self._statistics.num_predictions)

    # --- the teacher

    @property
    def teacher_updates(self) -> int:
        """Updates of the teacher in the whole run, also before it was resumed."""
        return self.teacher_progress.updates - self.bad_steps.unsettled_skips

    @property
    def ema_decay(self) -> float:
        """The decay of the latest teacher update; before the first, the one it begins with."""
        return self._decay_at(max(self.teacher_updates, 1))

    def _decay_at(self, update: int) -> float:
        anneal_steps = self.args.ema_anneal_steps or self.state.max_steps
        return ema_decay_at(update, self.args.ema_decay, self.args.ema_end_decay, anneal_steps)

    def step_teacher(self, skipped: Tensor | None = None) -> None:
        """One update of the teacher towards the student (data2vec, section 3.3).

        Args:
            skipped: scalar on the device, 1 if the teacher must stay as it is, or else 0. Default: 0.
        """
        decay = self._decay_at(self.teacher_progress.updates + 1)  # all earlier steps are settled
        self.teacher_progress.step(self.model, decay, skipped)

    def keep_teacher_copy(self) -> None:
        """Let the teacher's passes under autocast read copies of its weights, with `teacher_half_copy`.

        There are none with FSDP and DeepSpeed, which may gather a layer's weights only when it runs.
        """
        sharded = self.is_fsdp_enabled or self.is_deepspeed_enabled
        self.model.teacher_copy = (
            HalfPrecisionCopy(self.model.teacher) if self.args.teacher_half_copy and not sharded else None
        )

    def require_a_step(self) -> None:
        """A run without an update of the teacher is a failure too, and one that has read too many bad rows.

        Raises:
            ValueError: no optimizer step moved the weights, or too many rows were bad.
        """
        super().require_a_step()
        self.rows.check(at_end=True)
        self.rows.note_end()
        if self.teacher_updates == 0:
            raise ValueError(
                f"Not one of {self.state.global_step} optimizer steps was taken ({self.bad_steps.total} met NaN or "
                "infinity; the others were skipped by fp16's loss scaling): the weights are those that the run began "
                "with, so nothing is saved. Look at the samples that the warnings above name, or use --bf16 in place "
                "of --fp16."
            )

    # --- checkpoints

    def running_state(self) -> dict[str, Tensor]:
        """The base trainer's sums, and those of the statistics."""
        return super().running_state() | self._statistics.means.state_dict()

    def load_running_state(self, state: dict[str, Tensor]) -> None:
        """Continue from what `running_state` returned."""
        super().load_running_state(state)
        self._statistics.means.load_state_dict(state)

    def save_own_state(self, checkpoint: Path) -> None:
        """Write the base trainer's state, the teacher's progress, the counts of rows and the position in a stream."""
        super().save_own_state(checkpoint)
        if self.args.should_save:
            self.rows.save(checkpoint)
        self.teacher_progress.save(checkpoint, self.args.should_save)
        if self._trained_on is not None:
            self._trained_on.save(checkpoint, self.stream_identity, self.args.should_save)

    def load_own_state(self, checkpoint: Path) -> None:
        """Read what `save_own_state` wrote, except for the position, where the stream has begun already."""
        super().load_own_state(checkpoint)
        self.rows.load(checkpoint)
        self.teacher_progress.load(checkpoint)

    def _load_best_model(self) -> None:
        super()._load_best_model()
        if not self.args.save_only_model:
            self.teacher_progress.load(Path(str(self.state.best_model_checkpoint)))

    def settings_of_run(self) -> dict[str, Any]:
        """The base trainer's settings, and the objective."""
        names = {field.name for field in dataclasses.fields(ObjectiveArguments)}
        objective = {name: value for name, value in self.model.config.to_dict().items() if name in names}
        return super().settings_of_run() | objective

    def save_encoder(self) -> None:
        """Write the student's encoder and its processor to `encoder/`, for anyone to load with AutoModel."""
        state = self.accelerator.get_state_dict(self.model)  # each process has its part of weights that are sharded
        if self.args.should_save:
            weights = {name.removeprefix("encoder."): w for name, w in state.items() if name.startswith("encoder.")}
            with self.whole_files("The encoder", os.path.join(str(self.args.output_dir), ENCODER_DIR)) as directory:
                self._write_encoder(self.model.encoder, directory, weights)

    def _write_encoder(
        self, encoder: PreTrainedModel, directory: str | os.PathLike, weights: dict[str, Tensor] | None = None
    ) -> None:
        save_encoder(encoder, directory, weights)
        if self.processing_class is not None:
            self.processing_class.save_pretrained(directory)

    def save_for_hub(self) -> None:
        """Save the encoder too."""
        super().save_for_hub()
        self.save_encoder()

    def complete_checkpoint(self, folder: Path) -> None:
        """Write `encoder/`, of the checkpoint's weights: those of the model may be sharded."""
        saved = Data2VecGenericModel.from_pretrained(folder, config=self.model.config)
        self._write_encoder(saved.encoder, folder / ENCODER_DIR)

    @property
    def hub_content(self) -> str:
        """What of the model is pushed."""
        return self.args.hub_content

    # --- evaluation

    def prediction_step(
        self, model: nn.Module, inputs: dict[str, Any], prediction_loss_only: bool, ignore_keys: Any = None
    ) -> tuple[Tensor | None, Any, Any]:
        """Evaluate one batch without repeated samples; the loss is that of the global batch."""
        own = self._own_samples(inputs)
        rows = own.pop(ROWS_READ, [])
        self._rows_evaluated += [] if REPEATED in own else rows
        loss, logits, labels = super().prediction_step(model, own, prediction_loss_only, ignore_keys)
        return self.accelerator.reduce(loss, "mean"), logits, labels

    def evaluation_loop(
        self,
        dataloader: DataLoader,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """Evaluate; metrics also hold the spreads of targets and predictions and the features' metrics."""
        self._statistics.begin_evaluation()
        self._rows_evaluated = []
        output = super().evaluation_loop(dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix)
        if not math.isfinite((output.metrics or {}).get(f"{metric_key_prefix}_loss", 0.0)):
            logger.warning(
                f"{metric_key_prefix}_loss is NaN or infinite at step {self.state.global_step}: a sample of the "
                "evaluation data is, or the model makes it so. Training goes on."
            )
        counts, bad = zip(
            *gather_object([(count_of(self._rows_evaluated), bad_of(self._rows_evaluated))]), strict=True
        )
        self.count_rows("validation", sum(counts), sum(bad, []))
        metrics = self._statistics.evaluation_spreads()
        if self.feature_metrics is not None:
            metrics |= self.measure_features()
        named = {f"{metric_key_prefix}_{name}": value for name, value in metrics.items()}
        return output._replace(metrics=(output.metrics or {}) | named)

    def measure_features(self) -> dict[str, float]:
        """What `feature_metrics` returns under the run's autocast, and the seconds that it took, `probe_runtime`."""
        assert self.feature_metrics is not None
        began = time.perf_counter()
        # Compiled blocks would be compiled anew for these batches.
        with self.accelerator.autocast(), torch.compiler.set_stance("force_eager"):
            metrics = self.feature_metrics(self.model.encoder)
        self.rows.report(getattr(self.feature_metrics, "bad_rows", ()))  # of a `Probe`
        return {**metrics, "probe_runtime": time.perf_counter() - began}

    def evaluation_metrics(self) -> set[str]:
        """Names of what an evaluation measures, without "eval_"."""
        features: Any = {name.removeprefix("init_") for name in self.initial_metrics()}
        if not features and self.feature_metrics is not None:  # a resumed run that had none when it began
            features = self.measure_features()
        return {"loss", *self._statistics.spreads, *features}

    # --- what is logged

    def _new_speedometer(self) -> Speedometer:
        dtypes = {"bf16": torch.bfloat16, "fp16": torch.float16}
        model: Any = self.model
        dtype = torch.float32 if model is None else model.dtype
        return Speedometer(self.accelerator, dtypes.get(self.accelerator.mixed_precision, dtype))

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        """Log, evaluate and save where it is due, of a step that the host has learned all about and weights that are
        finite. An evaluation or a save does not count as time of a step."""
        due = self.control.should_evaluate or self.control.should_save
        ends = self.control.should_training_stop or self.state.global_step >= self.state.max_steps
        if due or ends or self.control.should_log:
            self.bad_steps.settle()
            self.bad_steps.check_weights()
        with self.speed.paused() if due else nullcontext():
            super()._maybe_log_save_evaluate(*args, **kwargs)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log values; a training log also holds the means since the last one."""
        if "loss" in logs:
            means = self._statistics.means.pop()
            logs = {**logs, **means, "ema_decay": self.ema_decay, "bad_steps": self.bad_steps.total}
            logs |= {"bad_rows": self.rows.bad.total()} if self.rows.bad.total() else {}
            logs |= self.speed.pop(self.state.total_flos)
        super().log(logs, start_time)

    def initial_metrics(self) -> dict[str, float]:
        """What `feature_metrics` returned before the first step, also of a run that was resumed since."""
        entries = {name: value for entry in self.state.log_history for name, value in entry.items()}
        return {name: value for name, value in entries.items() if name.startswith("init_")}

    def final_metrics(self) -> dict[str, float]:
        """Evaluation metrics of the model as training left it: those of its last step if it was evaluated there."""
        logged = [
            entry
            for entry in self.state.log_history
            if entry["step"] == self.state.global_step and "eval_loss" in entry
        ]
        if logged and not self.args.load_best_model_at_end:
            return {name: value for name, value in logged[-1].items() if name != "step"}
        return self.evaluate()

    def health_metrics(self) -> dict[str, Any]:
        """The latest vital signs, as `health_...`, and the verdict, as `health`; also of a run that was resumed."""
        logged = [entry for entry in self.state.log_history if "health" in entry]
        return {name: value for name, value in logged[-1].items() if name.startswith("health")} if logged else {}
