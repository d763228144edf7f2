"""The base class of the tasks with one target per row, for all kinds of data."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from datasets import ClassLabel, Dataset, LargeList, List, Value
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils import logging

from ....classification_data2vec_generic import Data2VecGenericForSequenceClassification
from ...labels.base_target import Target
from ...labels.single_label import SingleLabel
from ...labels.targets import target_for
from ..base import Collate, Splits, Task

logger = logging.get_logger(__name__)


@dataclass(frozen=True)
class LabelledCollator:
    """Makes batches: the encoder's inputs by `inputs`, and `labels` by `target`."""

    inputs: Collate
    target: Target

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Tensor]:
        return {**self.inputs(examples), "labels": self.target.collate([example["label"] for example in examples])}


class Classification(Task):
    """A class, several classes or a number for each row, as `target` says."""

    own_head = Data2VecGenericForSequenceClassification
    on_frozen_features = True
    own_flags: ClassVar[tuple[str, ...]] = ("problem_type", "class_weights", "label_smoothing_factor", "pooling")
    target: Target

    @classmethod
    def takes(cls, label: Any) -> bool:
        return isinstance(label, ClassLabel | Value) or (
            isinstance(label, List | LargeList) and isinstance(label.feature, ClassLabel | Value)
        )

    @property
    def main_metric(self) -> str:
        return self.target.main_metric

    @classmethod
    def defaults_for(cls, label: Any, problem_type: str | None) -> dict[str, Any]:
        without = target_for(label, problem_type).without
        return {name: value for name, value in cls.defaults.items() if name not in without}

    def encode(self, splits: Splits) -> Splits:
        self.target = target_for(splits["train"].features["label"], self.task_args.problem_type)
        flags = vars(self.task_args) | vars(self.training_args)
        if given := [f"{name}={flags[name]!r}" for name in self.target.without if flags[name]]:
            raise ValueError(
                f"{' and '.join(given)} can't be used with {self.target.problem_type} labels. Leave it out."
            )
        self.target.label_smoothing = self.training_args.label_smoothing_factor
        encoded = self.target.encode(splits, self.data_args)
        names = self.target.names
        listed = ", ".join([*names[:_LISTED], "..."] if len(names) > _LISTED else names)
        logger.info(f"problem_type={self.target.problem_type}, labels: {len(names)} ({listed}).")
        return encoded

    def check(self, train: Dataset) -> None:
        self.target.check(train)
        if isinstance(self.target, SingleLabel) and self.task_args.class_weights is not None:
            self.target.weigh(self.task_args.class_weights, train)

    def strata(self, dataset: Dataset) -> NDArray[np.int64] | None:
        return self.target.strata(dataset)

    def counts(self, dataset: Dataset) -> Mapping[str, int]:
        counts = self.target.counts(dataset)
        return {} if counts is None else dict(zip(self.target.names, counts.tolist(), strict=True))

    def settings(self) -> dict[str, Any]:
        return self.target.settings()

    def fit_head(self, model: PreTrainedModel, encoder: nn.Module, inputs: Mapping[str, Tensor]) -> list[nn.Linear]:
        return self.target.fit_head(model, encoder, inputs)

    def prepare(self, rows: Dataset, split: str) -> Dataset:
        samples = self.samples(rows, split)
        if split == "train":
            self.check(samples)  # again, because bad rows are left out and others may have become several samples
        elif len(samples) < self.target.fewest:
            raise ValueError(
                f"Only {len(samples)} of the validation samples can be used, and the metrics need at least "
                f"{self.target.fewest}. Raise --validation_split_percentage or --max_eval_samples, or give more data."
            )
        return samples

    @abstractmethod
    def samples(self, rows: Dataset, split: str) -> Dataset:
        """Make samples of rows; `prepare` checks them."""

    def collator(self, training: bool) -> Collate:
        return LabelledCollator(self.inputs, self.target)

    @abstractmethod
    def inputs(self, examples: list[dict[str, Any]]) -> dict[str, Tensor]: ...

    def loss(self, model: nn.Module, inputs: Mapping[str, Any]) -> tuple[Tensor, Any]:
        outputs = model(**{name: value for name, value in inputs.items() if name != "labels"})
        # Without labels, the logits are the first output, though models differ in their name.
        return self.target.loss(outputs[0], inputs["labels"], model.training), outputs

    def metrics(self, logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        return self.target.metrics(logits, labels)

    def predictions(self, logits: np.ndarray, labels: np.ndarray, dataset: Dataset) -> Iterator[dict[str, Any]]:
        rows = self.target.predictions(logits, dataset.with_format(None)["label"][:])
        for number, row in zip(self.source_rows(dataset), rows, strict=True):
            yield {"id": number, **row}

    def labels(self, dataset: Dataset) -> np.ndarray:
        return self.target.collate(dataset.with_format(None)["label"][:]).numpy()

    def on_features(self, method: str, train_x: np.ndarray, train_y: np.ndarray, test_x: np.ndarray) -> np.ndarray:
        return self.target.on_features(method, train_x, train_y, test_x)

    def source_rows(self, dataset: Dataset) -> list[int]:
        """(N,) for each sample, the number of its row in the source."""
        return dataset.with_format(None)["sample_index"][:]

    def draw(self, logits: np.ndarray, labels: np.ndarray, dataset: Dataset, directory: Path) -> list[Path]:
        if not isinstance(self.target, SingleLabel):
            return []
        from ....figures.fonts import drawable_names  # matplotlib is an extra
        from ....figures.predictions import plot_confusion, plot_errors

        predicted = logits.argmax(-1)
        paths = [plot_confusion(labels, predicted, self.target.names, directory / "confusion.png")]
        margins = torch.tensor(logits).float().softmax(-1).amax(-1).numpy()
        wrong = np.flatnonzero(predicted != labels)
        worst = wrong[np.argsort(-margins[wrong], kind="stable")][:_SHOWN].tolist()  # the most certain ones
        if worst:
            names = drawable_names(self.target.names)
            titles = [f"{names[labels[i]]}, taken for {names[predicted[i]]} ({margins[i]:.0%})" for i in worst]
            pictures = [self.picture(dataset[i]) for i in worst]
            paths.append(plot_errors(titles, pictures, directory / "errors.png"))
        return paths

    @abstractmethod
    def picture(self, example: Mapping[str, Any]) -> Any:
        """A sample as the figure of errors shows it: an image (H, W, 3), a waveform (S,), or text."""


_LISTED = 20  # most classes that the log names
_SHOWN = 12  # most wrong predictions in the figure
