"""The trainer of fine-tuning: learning rates by layer, the tri-stage schedule, and the task's own loss and metrics.

What it adds to methods of transformers' Trainer, besides `training/base_trainer.py`:

| Method | What it adds | Why |
| --- | --- | --- |
| `__init__` | collators, processor and metrics of the task; callbacks | a task defines them |
| `create_optimizer` | the learning rate of each layer | layer-wise decay, as in BEiT |
| `create_scheduler` | the tri-stage schedule | transformers does not have it |
| `compute_loss` | the task's loss; a single sample is read twice | batch norm is not defined for one sample |
| `prediction_step` | the task's answers and labels, as it keeps them | nothing more is gathered |

Its callbacks run after those of the base trainer, in this order:

| Callback | What it does | Why in this place |
| --- | --- | --- |
| `BestMetricCallback` | checks `metric_for_best_model` | before anything is trained |
| `ReloadCallback` | reloads rescaled layers after a save | any place would do: no other callback acts on a save |
| `FreezeCallback` | freezes the encoder in the first steps, if asked to | any place would do |
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from datasets import Dataset
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.lr_scheduler import LambdaLR
from transformers import TrainerCallback

from ..training.base_trainer import ResumableTrainer
from ..training.monitoring.best_metric import BestMetricCallback
from .arguments import FinetuningArguments
from .optimization.layer_rates import grouped_by_rate
from .optimization.schedule import FreezeCallback, tri_stage_factor
from .tasks.base import Task


class ReloadCallback(TrainerCallback):
    """Loads layers from their own state dict after each save.

    Converting weights to the units of the labels and back may change the last bit: this run continues with what a
    resumed one will load.

    Args:
        layers: layers whose state dict is in other units than their weights.
    """

    def __init__(self, layers: Sequence[nn.Module]):
        self.layers = layers

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        for layer in self.layers:
            layer.load_state_dict(layer.state_dict())


class FinetuningTrainer(ResumableTrainer):
    """Trains a model with a head on a [`Task`]. [`FinetuningArguments`] describes the settings.

    Args:
        task: provides the collators, the loss and the metrics.
        encoder: the sub-module that --freeze_encoder_steps freezes.
        rates: factors of the learning rate, by the names of parameters. Parameters without one have the full rate.
        rescaled: layers whose state dict is in other units than their weights (see `save_in_units`).
    """

    args: FinetuningArguments
    evaluates_in_order = True  # predictions are matched with rows by their order

    def __init__(
        self,
        *args: Any,
        task: Task,
        encoder: nn.Module,
        rates: Mapping[str, float] | None = None,
        rescaled: Sequence[nn.Module] = (),
        **kwargs: Any,
    ):
        self.task = task
        self.rates = rates or {}
        super().__init__(
            *args,
            data_collator=task.collator(training=True),
            eval_data_collator=task.collator(training=False),
            processing_class=task.processor,
            compute_metrics=lambda prediction: task.metrics(prediction.predictions, prediction.label_ids),
            **kwargs,
        )
        self.label_names = ["labels"]  # Trainer would take them from the signature of the model, which may differ
        # Trainer resumes and loads the best checkpoint with load_state_dict, which needs the parameter names of the
        # model in memory. By default, transformers saves some models with the names of older checkpoints.
        saved: Any = self.model
        saved.save_pretrained = functools.partial(saved.save_pretrained, save_original_format=False)
        self.has_batch_norm = any(isinstance(module, _BatchNorm) for module in saved.modules())
        self.loss_is_scaled_for_ga = False  # the loss is a mean over its own batch
        self.add_callback(BestMetricCallback(self))
        self.add_callback(ReloadCallback(rescaled))
        if self.args.freeze_encoder_steps:
            self.add_callback(FreezeCallback(encoder, self.args.freeze_encoder_steps))

    def evaluation_metrics(self) -> set[str]:
        """Names of the metrics that an evaluation measures, without "eval_".

        Some tasks name metrics by the classes of the data. The names are therefore found by an evaluation, unless
        `metric_for_best_model` is the task's main metric.
        """
        wanted = str(self.args.metric_for_best_model).removeprefix("eval_")
        if wanted == self.task.main_metric:
            return {"loss", wanted}
        found = self.evaluation_loop(self.get_eval_dataloader(), description="Metrics").metrics or {}
        return {name.removeprefix("eval_") for name in found}

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Create the optimizer as the base class does, and split its groups by the learning rate of each layer."""
        is_new = self.optimizer is None
        optimizer = super().create_optimizer(model)
        if is_new and self.rates:
            opt_model: Any = self.model if model is None else model
            grouped_by_rate(optimizer, opt_model, self.rates)
        return optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> Any:
        """Create the scheduler as the base class does, or the tri-stage schedule if `tri_stage` is set."""
        shares = self.args.tri_stage
        if shares is None or self.lr_scheduler is not None:
            return super().create_scheduler(num_training_steps, optimizer)
        scheduled: Any = optimizer or self.optimizer
        self.lr_scheduler = LambdaLR(scheduled, lambda step: tri_stage_factor(step, num_training_steps, shares))
        self._created_lr_scheduler = True
        return self.lr_scheduler

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, Any]:
        """The task's loss, a mean over the batch, in place of the loss of the base class."""
        if model.training and self.has_batch_norm and len(inputs["labels"]) == 1:
            # Batch norm can't train on a batch of one sample, which may be the last of an epoch. With two copies of
            # the sample, the mean loss is the same.
            inputs = {name: torch.cat([value, value]) for name, value in inputs.items()}
        loss, outputs = self.task.loss(model, inputs)
        return (loss, outputs) if return_outputs else loss

    def prediction_step(
        self, model: nn.Module, inputs: dict[str, Any], prediction_loss_only: bool, ignore_keys: Any = None
    ) -> tuple[Tensor | None, Any, Any]:
        """Predict as the base class does, and reduce logits and labels to what the task keeps of them.

        Only this is gathered from the processes and held until all batches have been evaluated.
        """
        loss: Tensor | None
        outputs: Any
        labels: Any
        loss, outputs, labels = super().prediction_step(model, inputs, prediction_loss_only, ignore_keys)
        if outputs is None:
            return loss, None, None
        return loss, *self.task.kept(self._answers(outputs), labels)

    def answers(self, dataset: Dataset) -> list[NDArray]:
        """The task's complete answer to each sample. All processes must call it, after [`~Trainer.predict`]."""
        model: Any = self.model
        found: list[NDArray] = []
        for inputs in self.get_test_dataloader(dataset):
            _, outputs, _ = super().prediction_step(model, inputs, prediction_loss_only=False)
            found.extend(self.accelerator.gather_for_metrics(self._answers(outputs)).cpu().numpy())
        return found

    def _answers(self, outputs: Any) -> Tensor:
        """The task's answers from a model's output, of which the logits are the first element."""
        return self.task.answers(outputs[0] if isinstance(outputs, tuple) else outputs)
