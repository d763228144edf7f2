"""The runs of a comparison: from scratch, linear probe, nearest neighbours, fine-tuned. Each gives an Outcome."""

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

from ..errors import loading
from ..evaluation.probe import extract_features
from ..layout_data2vec_generic import UnsupportedBackboneError
from ..measurements_data2vec_generic import undisturbed
from ..training.arguments import ModelArguments
from ..training.checkpointing.output_dir import resumed_checkpoint
from .arguments import ON_FROZEN_FEATURES, FinetuningArguments, TaskArguments
from .models import Source, build_model, encoder_path
from .optimization.layer_rates import layer_depths, layer_rates
from .tasks import Task
from .trainer import FinetuningTrainer

logger = logging.get_logger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What came of one run.

    Args:
        logits: (N, ...) of the validation samples, as the task keeps them.
        labels: as the task keeps them.
        metrics: by name, with "eval_" in front.
        shown: by row, the answers in full of the validation samples that the task shows.
    """

    logits: np.ndarray
    labels: np.ndarray
    metrics: dict[str, float]
    shown: dict[int, np.ndarray] = field(default_factory=dict)


def arms_of(task: type[Task], task_args: TaskArguments, model_args: ModelArguments) -> tuple[str, ...]:
    """Those of ARMS that the flags ask for; a comparison leaves out what the task can't do.

    Raises:
        ValueError: the one that is asked for is one the task can't do, or there is nothing to fine-tune.
    """
    if "finetuned" in task_args.arms and model_args.model_name_or_path is None:
        raise ValueError(
            "There are no weights to fine-tune: name them with --model_name_or_path, or train the new ones of "
            "--model_type or --config_name with --from_scratch."
        )
    if task.on_frozen_features:
        return task_args.arms
    possible = tuple(arm for arm in task_args.arms if arm not in ON_FROZEN_FEATURES)
    if not possible:
        raise ValueError(
            f"--{task_args.arms[0]} can't do {task.name}, which has an output for each position: leave it out, or use "
            "--compare, which compares fine-tuning with training from scratch."
        )
    if task_args.compare:
        logger.info(f"{' and '.join(possible)} are compared: {task.name} has an output for each position.")
    return possible


@dataclass(frozen=True)
class Arms:
    """The runs of a comparison, by `names` out of ARMS, and what they share: the encoder, the task, the samples by
    split, and the flags.

    Raises:
        ValueError: one of them is on frozen features, and those of this encoder can't be had.
    """

    names: tuple[str, ...]
    source: Source
    task: Task
    samples: dict[str, Dataset]
    task_args: TaskArguments

    def __post_init__(self) -> None:
        if not set(self.names).isdisjoint(ON_FROZEN_FEATURES):  # now, not after an hour of training from scratch
            self.task.modality.fit(self.source.encoder)

    def run(self, arm: str, training_args: FinetuningArguments) -> Outcome:
        """One of `names`; writes to `training_args.output_dir`.

        Raises:
            ValueError: the arm asks something of the encoder that it can't do.
            SystemExit: stopped by a signal, with a checkpoint.
        """
        logger.info(f"*** {arm.replace('_', ' ')} ***")
        set_seed(training_args.seed)
        if arm in ON_FROZEN_FEATURES:
            return self._on_frozen_features(arm, training_args)
        return self._trained(training_args, pretrained=arm == "finetuned")

    def _trained(self, training_args: FinetuningArguments, pretrained: bool) -> Outcome:
        source, task, samples = self.source, self.task, self.samples
        drop_path = self.task_args.drop_path
        # TimeSformer's and LeViT's are typed as whole numbers, so they take no share.
        if drop_path is None and isinstance(getattr(source.encoder.config, "drop_path_rate", None), float):
            drop_path = task.drop_path
        own_head = self.task_args.pooling == "mean"
        model = build_model(source, task.auto_class, task.own_head, task.settings(), drop_path, own_head, pretrained)
        path = encoder_path(model, source.encoder)
        encoder: Any = model.get_submodule(path)
        inputs = task.inputs([samples["train"][0]])
        refused = f"{type(model).__name__} can't read the training samples"
        with loading(refused, "Choose an encoder of another type or size."), torch.no_grad(), undisturbed(model):
            model(**inputs)
        rescaled = task.fit_head(model, encoder, inputs)
        if not pretrained:
            # These are for weights that are good already: new ones would never become so.
            logger.info(
                "Without layer_decay, freeze_encoder_steps and freeze_convolutions, which new weights must not have."
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
        trainer = FinetuningTrainer(
            model=model,
            args=training_args,
            train_dataset=samples["train"],
            eval_dataset=samples["validation"],
            task=task,
            encoder=encoder,
            rates=rates,
            rescaled=rescaled,
        )
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
        return Outcome(logits, labels, metrics, shown)

    def _on_frozen_features(self, arm: str, training_args: FinetuningArguments) -> Outcome:
        features = self._features
        labels = {split: self.task.labels(dataset) for split, dataset in self.samples.items()}
        logits = self.task.on_features(arm, features["train"], labels["train"], features["validation"])
        metrics = {f"eval_{name}": value for name, value in self.task.metrics(logits, labels["validation"]).items()}
        if training_args.process_index == 0:
            output_dir = Path(str(training_args.output_dir))
            output_dir.mkdir(parents=True, exist_ok=True)
            for name in ("eval_results.json", "all_results.json"):
                (output_dir / name).write_text(json.dumps(metrics, indent=4, sort_keys=True), encoding="utf-8")
        for name, value in metrics.items():
            logger.info(f"{name} = {value:.4f}")
        return Outcome(logits, labels["validation"], metrics)

    @cached_property
    def _features(self) -> dict[str, np.ndarray]:
        """Of each split, by the frozen encoder."""
        encoder: Any = self.source.encoder
        encoder.to(self.task.training_args.device)
        content_mask = self.task.modality.content_mask()
        batch_size = self.task.training_args.per_device_eval_batch_size
        return {
            split: extract_features(encoder, dataset, self.task.inputs, content_mask, batch_size)
            for split, dataset in self.samples.items()
        }


def _freeze_convolutions(encoder: Any) -> None:
    convolutions: Any = getattr(encoder, "feature_extractor", None)
    if not hasattr(convolutions, "_freeze_parameters"):
        raise ValueError(
            f"freeze_convolutions, but {type(encoder).__name__} has no convolutions that can be frozen (no "
            "feature_extractor). Set --freeze_convolutions false."
        )
    convolutions._freeze_parameters()  # as freeze_feature_encoder of the heads of transformers


__all__ = ["Arms", "Outcome", "arms_of"]
