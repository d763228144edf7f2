"""One class for each row."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from transformers.utils import logging

from ...data.arguments import DataArguments
from ...data.sources.columns import encode_labels
from ...evaluation.probe import knn_classifier, labels_of, linear_classifier
from ..metrics import load_metric
from .base_target import MOST_NEIGHBOURS, Scores, Splits, Target

logger = logging.get_logger(__name__)


class SingleLabel(Target):
    """One class per row."""

    problem_type = "single_label_classification"
    main_metric = "accuracy"

    def encode(self, splits: Splits, args: DataArguments) -> Splits:
        encoded = encode_labels(splits, replace(args, label_column_name=args.label_column_name or "label"))
        if "label" not in encoded["train"].features:
            only = sorted({str(value) for value in splits["train"]["label"][:]})[:1]
            raise ValueError(
                f"All training rows are of one class ({', '.join(only)}), so there is nothing to tell apart. Check "
                "label_column_name."
            )
        self.names = list(encoded["train"].features["label"].names)
        return encoded

    def check(self, train: Dataset) -> None:
        counts = self.counts(train)
        if empty := [name for name, count in zip(self.names, counts, strict=True) if not count]:
            raise ValueError(
                f"{len(empty)} of {len(self.names)} classes have no training row ({', '.join(empty[:5])}), so they "
                "can't be learned. Add rows of them or take the classes out of the data; if rows were left out, see "
                "--max_train_samples, --validation_split_percentage and --group_column_name."
            )

    def counts(self, dataset: Dataset) -> NDArray[np.int64]:
        return np.bincount(labels_of(dataset), minlength=len(self.names))

    def weigh(self, flag: str, train: Dataset) -> None:
        """Set `class_weights`.

        Args:
            flag: the value of --class_weights: "balanced", or one number above 0 per class, separated by commas.
            train: training rows, whose classes are counted for "balanced".

        Raises:
            ValueError: the flag has another value.
        """
        if flag == "balanced":
            counts = self.counts(train)
            self.class_weights = torch.tensor(counts.sum() / (len(counts) * counts), dtype=torch.float32)
            return
        try:
            weights = [float(number) for number in flag.split(",")]
        except ValueError:
            weights = []
        if len(weights) != len(self.names) or not all(0 < weight < np.inf for weight in weights):
            raise ValueError(
                f"class_weights={flag!r} is neither 'balanced' nor a number above 0 for each of {len(self.names)} "
                f"classes: {', '.join(self.names[:20])}."
            )
        self.class_weights = torch.tensor(weights)

    def strata(self, dataset: Dataset) -> NDArray[np.int64]:
        return labels_of(dataset)

    def collate(self, labels: Sequence[Any]) -> Tensor:
        return torch.tensor(labels, dtype=torch.int64)

    def loss(self, logits: Tensor, labels: Tensor, training: bool) -> Tensor:
        """Cross entropy, as in the base class; labels are (B,) int64 or, if images were mixed, (B, K) shares."""
        weight = None if self.class_weights is None else self.class_weights.to(logits.device)
        smoothing = self.label_smoothing if training else 0.0
        loss = functional.cross_entropy(logits.float(), labels, weight, label_smoothing=smoothing)
        if weight is None or labels.ndim == 1:
            return loss
        return loss / (labels * weight).sum(-1).mean()  # the weighted mean, which torch computes for (B,) only

    def metrics(self, logits: Scores, labels: NDArray[Any]) -> dict[str, float]:
        given = {"predictions": logits.argmax(-1), "references": labels}
        return {
            **load_metric("accuracy").compute(**given),
            "f1_macro": load_metric("f1").compute(**given, average="macro")["f1"],
            **load_metric("matthews_correlation").compute(**given),
        }

    def predictions(self, logits: Scores, labels: Sequence[Any]) -> Iterator[dict[str, Any]]:
        probabilities = torch.tensor(logits).float().softmax(-1).numpy()
        for row, label in zip(probabilities, labels, strict=True):
            yield {
                "label": self.names[label],
                "prediction": self.names[row.argmax()],
                "probability": float(row.max()),
            }

    def on_features(self, method: str, train_x: Scores, train_y: NDArray[Any], test_x: Scores) -> Scores:
        if method == "knn":
            classifier = knn_classifier(len(train_x), self._neighbours(train_y))
        else:
            classifier = linear_classifier()
        probabilities = classifier.fit(train_x, train_y).predict_proba(test_x)
        # If several classes have the same number of votes, argmax takes the first, as `predict` does.
        return np.log(np.maximum(probabilities, 1e-12))

    def _neighbours(self, train_y: NDArray[Any]) -> int:
        """How many training rows vote: as many as a class has on average, and 20 at most.

        More rows than a class has would certainly include rows of other classes. A rare class does not lower the
        number.
        """
        count = max(1, min(MOST_NEIGHBOURS, len(train_y) // len(self.names)))
        logger.info(
            f"The {count} nearest of {len(train_y)} training rows vote: as many as one of {len(self.names)} classes "
            f"has on average, {MOST_NEIGHBOURS} at most."
        )
        return count
