"""The methods of a comparison: from scratch, linear probe, nearest neighbours, fine-tuned. Each gives a RunResult."""

import copy
import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import set_seed
from transformers.utils import logging

from ..errors import as_value_error
from ..evaluation.probe import extract_features
from ..layout_data2vec_generic import UnsupportedBackboneError
from ..measurements_data2vec_generic import undisturbed
from ..training.arguments import ModelArguments
from ..training.checkpointing.output_dir import resumed_checkpoint
from ..training.loaders import loader_settings
from .arguments import ON_FROZEN_FEATURES, FinetuningArguments, TaskArguments
from .models import Source, build_model, encoder_path
from .optimization.layer_rates import layer_depths, layer_rates
from .tasks import Task
from .trainer import FinetuningTrainer

logger = logging.get_logger(__name__)


@dataclass(frozen=True)
class RunResult:
    """The result of one run.

    Args:
        logits: (N, ...), for the N validation samples, what `Task.kept` keeps of the model's answers.
        labels: (N, ...), what `Task.kept` keeps of their labels.
        metrics: by name, with "eval_" in front.
        shown: the complete answers for the validation samples that the task draws (`Task.shown`), by their rows.
        trainer: of the model; None where none was trained.
    """

    logits: np.ndarray
    labels: np.ndarray
    metrics: dict[str, float]
    shown: dict[int, np.ndarray] = field(default_factory=dict)
    trainer: FinetuningTrainer | None = None


def methods_of(task: type[Task], task_args: TaskArguments, model_args: ModelArguments) -> tuple[str, ...]:
    """Those of METHODS that the flags ask for. A comparison leaves out those that are impossible for the task.

    Raises:
        ValueError: the only method that is asked for is impossible for the task, or there are no weights to fine-tune.
    """
    if "finetuned" in task_args.methods and model_args.model_name_or_path is None:
        raise ValueError(
            "There are no weights to fine-tune: name them with --model_name_or_path, or train the new ones of "
            "--model_type or --config_name with --from_scratch."
        )
    if task.on_frozen_features:
        return task_args.methods
    possible = tuple(method for method in task_args.methods if method not in ON_FROZEN_FEATURES)
    if not possible:
        raise ValueError(
            f"--{task_args.methods[0]} is not possible with {task.name}, which has an output for each position. Leave "
            "it out, or use --compare, which compares fine-tuning with training from scratch."
        )
    if task_args.compare:
        logger.info(f"{' and '.join(possible)} are compared: {task.name} has an output for each position.")
    return possible


@dataclass(frozen=True)
class Comparison:
    """Runs the methods of a comparison on the same encoder, task and samples.

    Args:
        names: those of METHODS that will be run.
        source: the encoder.
        task: encoded, read and fitted to the encoder.
        samples: prepared samples, "train" and "validation".
        task_args: flags about the task.

    Raises:
        ValueError: one of the methods needs frozen features, and this encoder can't give them.
    """

    names: tuple[str, ...]
    source: Source
    task: Task
    samples: dict[str, Dataset]
    task_args: TaskArguments

    def __post_init__(self) -> None:
        if not set(self.names).isdisjoint(ON_FROZEN_FEATURES):  # now instead of after an hour of training from scratch
            self.task.modality.fit(self.source.encoder)

    def run(self, method: str, training_args: FinetuningArguments) -> RunResult:
        """Run one method and write its files to `training_args.output_dir`.

        Args:
            method: one of `names`.

        Raises:
            ValueError: the encoder does not support something that the flags ask for.
            SystemExit: the run was stopped by a signal, after a checkpoint was saved.
        """
        logger.info(f"*** {method.replace('_', ' ')} ***")
        set_seed(training_args.seed)
        if method in ON_FROZEN_FEATURES:
            return self._on_frozen_features(method, training_args)
        return self._trained(training_args, pretrained=method == "finetuned")

    def trainer(self, training_args: FinetuningArguments, pretrained: bool) -> FinetuningTrainer:
        """A trainer that has not trained yet, with a model for the task.

        Args:
            pretrained: whether the model has the weights of the encoder; otherwise all are new.

        Raises:
            ValueError: the encoder does not support something that the flags ask for.
        """
        source, task, samples = self.source, self.task, self.samples
        drop_path = self.task_args.drop_path
        # In the configurations of TimeSformer and LeViT it is an integer, so that it can't be set to a share.
        if drop_path is None and isinstance(getattr(source.encoder.config, "drop_path_rate", None), float):
            drop_path = task.drop_path
        own_head = self.task_args.pooling == "mean"
        model = build_model(source, task.auto_class, task.own_head, task.settings(), drop_path, own_head, pretrained)
        path = encoder_path(model, source.encoder)
        encoder: Any = model.get_submodule(path)
        inputs = task.inputs([samples["train"][0]])
        refused = f"{type(model).__name__} can't read the training samples"
        with (
            as_value_error(refused, "Choose an encoder of another type or size."),
            torch.no_grad(),
            undisturbed(model),
        ):
            model(**inputs)
        rescaled = task.fit_head(model, encoder, inputs)
        if not pretrained:
            # These settings keep weights close to what pre-training made of them. New weights must be free to change.
            logger.info(
                "layer_decay, freeze_encoder_steps and freeze_convolutions are turned off, since they are for "
                "pre-trained weights."
            )
            training_args = copy.copy(training_args)
            training_args.layer_decay, training_args.freeze_encoder_steps = 1.0, 0
            training_args.freeze_convolutions = False
        if training_args.freeze_convolutions:
            _freeze_convolutions(encoder)
        rates = {}
        if training_args.layer_decay < 1:
            try:
                depths, blocks = layer_depths(encoder, inputs)
            except UnsupportedBackboneError as error:
                raise ValueError(f"layer_decay={training_args.layer_decay}: {error} Set --layer_decay 1.") from error
            prefix = f"{path}." if path else ""
            rates = {
                prefix + name: rate for name, rate in layer_rates(depths, blocks, training_args.layer_decay).items()
            }
        return FinetuningTrainer(
            model=model,
            args=training_args,
            train_dataset=samples["train"],
            eval_dataset=samples["validation"],
            task=task,
            encoder=encoder,
            rates=rates,
            rescaled=rescaled,
        )

    def _trained(self, training_args: FinetuningArguments, pretrained: bool) -> RunResult:
        task, samples = self.task, self.samples
        trainer = self.trainer(training_args, pretrained)
        trained = trainer.train(resume_from_checkpoint=resumed_checkpoint(training_args))
        trainer.log_metrics("train", trained.metrics)
        trainer.save_metrics("train", trained.metrics)
        output = trainer.predict(samples["validation"], metric_key_prefix="eval")
        metrics, logits, labels = output.metrics or {}, np.asarray(output.predictions), np.asarray(output.label_ids)
        shown = {}
        if rows := task.shown(logits, labels):
            shown = dict(zip(rows, trainer.answers(samples["validation"].select(rows)), strict=True))
        trainer.log_metrics("eval", metrics)
        trainer.save_metrics("eval", metrics)
        trainer.save_model()
        trainer.save_state()
        return RunResult(logits, labels, metrics, shown, trainer)

    def _on_frozen_features(self, method: str, training_args: FinetuningArguments) -> RunResult:
        features = self._features
        labels = {split: self.task.labels(dataset) for split, dataset in self.samples.items()}
        logits = self.task.on_features(method, features["train"], labels["train"], features["validation"])
        metrics = {f"eval_{name}": value for name, value in self.task.metrics(logits, labels["validation"]).items()}
        if training_args.process_index == 0:
            output_dir = Path(str(training_args.output_dir))
            output_dir.mkdir(parents=True, exist_ok=True)
            for name in ("eval_results.json", "all_results.json"):
                (output_dir / name).write_text(json.dumps(metrics, indent=4, sort_keys=True), encoding="utf-8")
        for name, value in metrics.items():
            logger.info(f"{name} = {value:.4f}")
        return RunResult(logits, labels["validation"], metrics)

    @cached_property
    def _features(self) -> dict[str, np.ndarray]:
        """Features (N, C) of the samples of each split, by the frozen encoder."""
        encoder: Any = self.source.encoder
        encoder.to(self.task.training_args.device)
        content_mask = self.task.modality.content_mask()
        batch_size = self.task.training_args.per_device_eval_batch_size
        settings = loader_settings(self.task.training_args)
        return {
            split: extract_features(encoder, dataset, self.task.inputs, content_mask, batch_size, settings)
            for split, dataset in self.samples.items()
        }


def _freeze_convolutions(encoder: Any) -> None:
    convolutions: Any = getattr(encoder, "feature_extractor", None)
    if not hasattr(convolutions, "_freeze_parameters"):
        raise ValueError(
            f"freeze_convolutions is set, but {type(encoder).__name__} has no convolutions that can be frozen (no "
            "feature_extractor). Set --freeze_convolutions false."
        )
    convolutions._freeze_parameters()  # as `freeze_feature_encoder` of transformers' models with heads does


__all__ = ["Comparison", "RunResult", "methods_of"]
