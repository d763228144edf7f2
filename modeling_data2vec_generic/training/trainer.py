"""transformers' Trainer with a teacher that follows the student, and what self-supervised training must log."""

import dataclasses
import math
import os
import weakref
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, TrainerCallback
from transformers.trainer_utils import EvalLoopOutput
from transformers.utils import logging

from ..geometry_data2vec_generic import real_positions
from ..modeling_data2vec_generic import Data2VecGenericForPreTraining
from ..objective_data2vec_generic import spread
from .arguments import Data2VecTrainingArguments, ObjectiveArguments
from .batch_schedule import BatchScaling
from .checkpointing.integrity import check_checkpoint
from .compilation import compile_student
from .encoders import save_encoder
from .global_batch import REPEATED, GlobalBatchTrainer
from .monitoring.bad_steps import SAMPLE_INDEX, BadSteps, WithSampleIndex
from .monitoring.best_metric import BestMetricCallback
from .monitoring.flops import StepFlops
from .monitoring.health import HealthCallback
from .monitoring.running_stats import Means, RunningSpread
from .streaming import StreamingTrainer
from .teacher import EMATeacher, ema_decay_at
from .weight_decay import MatrixDecayTrainer

logger = logging.get_logger(__name__)

TEACHER_STATE_NAME = "teacher.safetensors"
ENCODER_DIR = "encoder"


class _StepCallback(TrainerCallback):
    """Moves the teacher right after each optimizer step."""

    def __init__(self, trainer: "Data2VecTrainer"):
        # Not a cycle: dataloaders with workers are to be freed with the trainer, not by the garbage collector.
        self.trainer = weakref.proxy(trainer)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 0 and self.trainer.feature_metrics is not None:
            metrics = self.trainer.feature_metrics(self.trainer.model.encoder)
            self.trainer.log({f"init_{name}": value for name, value in metrics.items()})

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.trainer.bad_steps.step_was_taken:
            self.trainer.step_teacher()


class Data2VecTrainer(StreamingTrainer, GlobalBatchTrainer, MatrixDecayTrainer):
    """Trains a [`Data2VecGenericForPreTraining`].

    The teacher takes one step after each optimizer step, whatever the gradient accumulation, none after a step that
    fp16's loss scaling skipped or that met NaN or infinity (see [`BadSteps`]). Logged besides the loss and the
    learning rate: `ema_decay`, `target_std` and `prediction_std` (mean over channels of the standard deviation over
    rows; towards 0 means collapse), `mask_ratio` (share of real positions that are masked), which are means over steps
    and processes, and `bad_steps`. Evaluation adds the spreads over all of its masked positions and what
    `feature_metrics` returns. Checkpoints hold the number of teacher updates and, for half-precision models, the
    float32 average.

    Args:
        model, args, and all further arguments: see `TwoCollatorTrainer`.
        feature_metrics: called with the student's encoder before the first step and at each evaluation; returns
            metrics by name, which are logged with "init_" and "eval_" in front.
    """

    model: Data2VecGenericForPreTraining
    args: Data2VecTrainingArguments

    def __init__(
        self,
        *args: Any,
        feature_metrics: Callable[[PreTrainedModel], dict[str, float]] | None = None,
        **kwargs: Any,
    ):
        super().__init__(*args, **kwargs)
        self.feature_metrics = feature_metrics
        self.teacher_updates = 0
        self._ema: EMATeacher | None = None
        self._ema_state: dict[str, Tensor] = {}
        self._means = Means()
        self._eval_spreads = self._new_spreads()
        self.bad_steps = BadSteps(self)
        self.add_callback(self.bad_steps)
        # Before the probe of the first encoder: of a sharded model (FSDP2), no part may run before the whole has.
        self.add_callback(HealthCallback(self))
        self.add_callback(_StepCallback(self))
        self.add_callback(BestMetricCallback(self))
        self._scaling = BatchScaling(self.args)
        self._flops = StepFlops(self.model)
        self._num_predictions = 0
        model_init: Any = self.model_init
        if self.args.torch_compile and model_init is None:
            compile_student(self.model, self.accelerator, self.args)

    def call_model_init(self, trial: Any = None) -> nn.Module:
        """As ever, compiled if it is to be."""
        model: Any = super().call_model_init(trial)
        if self.args.torch_compile:
            compile_student(model, self.accelerator, self.args)
        return model

    def begin_anew(self, batch_size: int) -> None:
        """The teacher's count and decay, and the means, begin with the run; its schedules fit the batch."""
        super().begin_anew(batch_size)
        self.teacher_updates, self._ema, self._ema_state, self._means = 0, None, {}, Means()
        self._flops = StepFlops(self.model)
        self._scaling.apply(batch_size * self.args.gradient_accumulation_steps * self.args.world_size)

    @staticmethod
    def _new_spreads() -> dict[str, RunningSpread]:
        return {name: RunningSpread() for name in ("target_std", "prediction_std")}

    def step_teacher(self) -> None:
        """One update of the teacher towards the student (data2vec, section 3.3)."""
        if self._ema is None:  # not earlier: a forward pass shows what "copy" covers, and the devices are settled
            self._ema = EMATeacher(self.model.teacher, self.model.encoder, self.model.copied_parameters())
            if self._ema_state:
                self._ema.load_state_dict(self._ema_state)
                self._ema_state = {}
        self.teacher_updates += 1
        self._ema.step(self.ema_decay)

    @property
    def ema_decay(self) -> float:
        """The decay of the latest teacher update; before the first, the one it begins with."""
        anneal_steps = self.args.ema_anneal_steps or self.state.max_steps
        return ema_decay_at(max(self.teacher_updates, 1), self.args.ema_decay, self.args.ema_end_decay, anneal_steps)

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """As ever; notes which samples they were and whether they and the loss are finite."""
        samples = inputs.pop(SAMPLE_INDEX, None)
        loss = super().training_step(model, inputs, num_items_in_batch)
        self.bad_steps.note(inputs, samples, loss)
        return loss

    def _get_grad_norm(self, model: nn.Module, grad_norm: Tensor | float | None = None) -> Tensor | float | None:
        """As ever; Trainer's last call before the optimizer step, which is not to be taken on NaN or infinity."""
        grad_norm = super()._get_grad_norm(model, grad_norm)
        self.bad_steps.judge(grad_norm)
        return grad_norm

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, Any]:
        """As ever; notes the spread of targets and predictions on the way, without waiting for the device."""
        with self._flops.watched(inputs["mask"]) if model.training else nullcontext():
            loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        if REPEATED not in inputs:
            with torch.no_grad():
                rows = {"target_std": outputs["targets"], "prediction_std": outputs["predictions"]}
                if model.training:
                    self._num_predictions = len(outputs["targets"])
                    self._means.add({"mask_ratio": self._mask_ratio(inputs)})
                    if len(outputs["targets"]) > 1:  # one row has no spread
                        self._means.add({name: spread(values) for name, values in rows.items()})
                else:
                    for name, values in rows.items():
                        self._eval_spreads[name].add(values)
        return (loss, outputs) if return_outputs else loss

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Operations, forward and backward, of the micro-batch that was trained on last, which `inputs` are; see
        `modeling_data2vec_generic.training.monitoring.flops`. Logged as `total_flos`."""
        return 0 if REPEATED in inputs else self._flops.count(inputs, self._num_predictions)

    def _mask_ratio(self, inputs: dict[str, Any]) -> Tensor:
        mask, measurements = inputs["mask"], self.model.measurements
        assert measurements is not None  # the forward pass has been made
        real = real_positions(self.model.encoder, inputs, mask.shape[-1], measurements.stride)
        return mask.float().mean() if real is None else mask.sum() / (real.sum() * mask[0].numel() / mask.shape[-1])

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the means since the last log to a training log."""
        if "loss" in logs:
            logs = {**logs, **self._means.pop(), "ema_decay": self.ema_decay, "bad_steps": self.bad_steps.total}
        super().log(logs, start_time)

    def settings_of_run(self) -> dict[str, Any]:
        """As ever, with the objective."""
        names = {field.name for field in dataclasses.fields(ObjectiveArguments)}
        objective = {name: value for name, value in self.model.config.to_dict().items() if name in names}
        return super().settings_of_run() | objective

    def running_state(self) -> dict[str, Tensor]:
        return super().running_state() | self._means.state_dict()

    def load_running_state(self, state: dict[str, Tensor]) -> None:
        super().load_running_state(state)
        self._means.load_state_dict(state)

    def initial_metrics(self) -> dict[str, float]:
        """What `feature_metrics` gave before the first step, also of a run that was resumed since."""
        entries = {name: value for entry in self.state.log_history for name, value in entry.items()}
        return {name: value for name, value in entries.items() if name.startswith("init_")}

    def evaluation_metrics(self) -> set[str]:
        """Names of what an evaluation measures, without "eval_"."""
        features: Any = {name.removeprefix("init_") for name in self.initial_metrics()}
        if not features and self.feature_metrics is not None:  # a run that was resumed and had none when it began
            features = self.feature_metrics(self.model.encoder)
        return {"loss", *self._eval_spreads, *features}

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

    def save_encoder(self) -> None:
        """Write the student's encoder and its processor to `encoder/`, for anyone to load with AutoModel."""
        state = self.accelerator.get_state_dict(self.model)  # each process has its part of weights that are sharded
        if self.args.should_save:
            weights = {name.removeprefix("encoder."): w for name, w in state.items() if name.startswith("encoder.")}
            with self.whole_files("The encoder", os.path.join(str(self.args.output_dir), ENCODER_DIR)) as directory:
                save_encoder(self.model.encoder, directory, weights)
                if self.processing_class is not None:
                    self.processing_class.save_pretrained(directory)

    def evaluation_loop(
        self,
        dataloader: DataLoader,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """As ever, plus the spreads and the metrics of the encoder's features."""
        self._eval_spreads = self._new_spreads()
        output = super().evaluation_loop(dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix)
        if not math.isfinite((output.metrics or {}).get(f"{metric_key_prefix}_loss", 0.0)):
            logger.warning(
                f"{metric_key_prefix}_loss is NaN or infinite at step {self.state.global_step}: a sample of the "
                "evaluation data is, or the model makes it so. Training goes on."
            )
        metrics = {name: rows.value() for name, rows in self._eval_spreads.items()}
        if self.feature_metrics is not None:
            metrics |= self.feature_metrics(self.model.encoder)
        named = {f"{metric_key_prefix}_{name}": value for name, value in metrics.items()}
        return output._replace(metrics=(output.metrics or {}) | named)

    def _require_a_step(self) -> None:
        super()._require_a_step()
        if self.teacher_updates == 0:
            raise ValueError(
                f"Not one of {self.state.global_step} optimizer steps was taken ({self.bad_steps.total} met NaN or "
                "infinity; the others were skipped by fp16's loss scaling): the weights are those that the run began "
                "with, so nothing is saved. Look at the samples that the warnings above name, or use --bf16 in place "
                "of --fp16."
            )

    def training_collator(self) -> Callable[..., Any]:
        return WithSampleIndex(super().training_collator())

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        # Each process has its part of accumulators that are sharded.
        accumulators = self._ema_state if self._ema is None else self._ema.state_dict()
        if self.args.should_save:
            state = {f"accumulator.{name}": tensor for name, tensor in accumulators.items()}
            save_file(
                state | {"updates": torch.tensor(self.teacher_updates)}, os.path.join(output_dir, TEACHER_STATE_NAME)
            )

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        check_checkpoint(resume_from_checkpoint)
        super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            self._load_teacher_state(checkpoint)

    def _load_best_model(self) -> None:
        """As ever; the teacher's weights come with the model's, its float32 average and its count apart."""
        super()._load_best_model()
        if not self.args.save_only_model:
            self._load_teacher_state(str(self.state.best_model_checkpoint))

    def _load_teacher_state(self, checkpoint: str) -> None:
        path = os.path.join(checkpoint, TEACHER_STATE_NAME)
        if not os.path.isfile(path):
            raise FileNotFoundError(
                f"{checkpoint} has no {TEACHER_STATE_NAME}, so how far the teacher's decay had risen is unknown. "
                "Resume from a checkpoint that was saved without save_only_model."
            )
        state = load_file(path)
        self.teacher_updates = int(state.pop("updates"))
        self._ema = None
        self._ema_state = {name.removeprefix("accumulator."): tensor for name, tensor in state.items()}
