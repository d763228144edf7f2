"""Several classes for each row."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from datasets import ClassLabel, Dataset, LargeList, List, Value
from numpy.typing import NDArray
from scipy.special import logit
from torch import Tensor
from torch.nn import functional

from ...data.arguments import DataArguments
from ...data.column_types import is_text, is_whole_number
from ...data.sources.columns import in_order
from ...evaluation.probe import linear_classifier
from ..metrics import load_metric
from .base_target import Scores, Splits, Target, knn_regressor, with_label


class MultiLabel(Target):
    """Several classes per row: a list of them, which may be empty."""

    problem_type = "multi_label_classification"
    main_metric = "f1_micro"
    without = ("class_weights", "label_smoothing_factor")

    def encode(self, splits: Splits, args: DataArguments) -> Splits:
        lists = {split: _lists_of_names(dataset, split) for split, dataset in splits.items()}
        found = {name for row in lists["train"] for name in row}
        if not found:
            raise ValueError("No training row has a label. Check label_column_name.")
        self.names = in_order(found, splits["train"].features["label"].feature)
        if unseen := sorted({name for rows in lists.values() for row in rows for name in row} - set(self.names)):
            raise ValueError(
                f"{len(unseen)} labels never occur in training ({', '.join(unseen[:5])}), so they can't be learned; "
                f"training has {len(self.names)}: {', '.join(self.names[:20])}."
            )
        if len(set(map(frozenset, lists["train"]))) == 1:
            raise ValueError(
                f"All training rows have the same labels ({', '.join(self.names[:5])}), so there is nothing to tell "
                "apart. Check label_column_name."
            )
        number = {name: position for position, name in enumerate(self.names)}
        ids = {split: [sorted(number[name] for name in row) for row in rows] for split, rows in lists.items()}
        return {split: with_label(dataset, ids[split], List(Value("int32"))) for split, dataset in splits.items()}

    def counts(self, dataset: Dataset) -> NDArray[np.int64]:
        found = [number for row in dataset.with_format(None)["label"][:] for number in row]
        return np.bincount(np.array(found, dtype=np.int64), minlength=len(self.names))

    def check(self, train: Dataset) -> None:
        if empty := [name for name, count in zip(self.names, self.counts(train), strict=True) if not count]:
            raise ValueError(
                f"{len(empty)} of {len(self.names)} labels never occur in the training rows ({', '.join(empty[:5])}), "
                "so they can't be learned. Add rows that have them, choose more rows, or take them out of the data."
            )

    def collate(self, labels: Sequence[Any]) -> Tensor:
        hot = torch.zeros(len(labels), len(self.names))
        for row, numbers in enumerate(labels):
            hot[row, numbers] = 1.0
        return hot

    def loss(self, logits: Tensor, labels: Tensor, training: bool) -> Tensor:
        return functional.binary_cross_entropy_with_logits(logits.float(), labels)

    def metrics(self, logits: Scores, labels: NDArray[Any]) -> dict[str, float]:
        given = {"predictions": (logits > 0).astype(int), "references": labels.astype(int)}
        f1 = load_metric("f1", "multilabel")
        return {
            **load_metric("accuracy", "multilabel").compute(**given),
            "f1_macro": f1.compute(**given, average="macro")["f1"],
            "f1_micro": f1.compute(**given, average="micro")["f1"],
        }

    def predictions(self, logits: Scores, labels: Sequence[Any]) -> Iterator[dict[str, Any]]:
        probabilities = torch.tensor(logits).float().sigmoid().numpy()
        for row, label in zip(probabilities, labels, strict=True):
            yield {
                "label": [self.names[k] for k in label],
                "prediction": [self.names[k] for k in np.flatnonzero(row > 0.5)],
                "probability": {name: float(value) for name, value in zip(self.names, row, strict=True)},
            }

    def on_features(self, method: str, train_x: Scores, train_y: NDArray[Any], test_x: Scores) -> Scores:
        from sklearn.multiclass import OneVsRestClassifier

        if method == "knn":
            shares = knn_regressor(len(train_x)).fit(train_x, train_y).predict(test_x)
        else:
            classifier = OneVsRestClassifier(linear_classifier()).fit(train_x, train_y.astype(int))
            # With a single label there are two columns, for "no" and "yes".
            shares = classifier.predict_proba(test_x)[:, -len(self.names) :]
        return logit(np.clip(shares, 1e-6, 1 - 1e-6))


def _lists_of_names(dataset: Dataset, split: str) -> list[list[str]]:
    """The names of each row's classes.

    Raises:
        ValueError: the labels have another type, are missing, or are repeated in a row.
    """
    feature = dataset.features["label"]
    of = feature.feature if isinstance(feature, List | LargeList) else None
    if not (is_whole_number(of) or isinstance(of, ClassLabel) or is_text(of)):
        raise ValueError(
            f"The labels of the {split} data are {feature}, and several labels per row are expected as a list of "
            "strings or whole numbers."
        )
    rows = dataset["label"][:]
    if missing := sum(row is None or None in row for row in rows):
        raise ValueError(
            f"{missing} of {len(rows)} {split} rows have no list of labels, or a list with a missing value. Write an "
            "empty list for a row without labels."
        )
    if repeats := [row for row in rows if len(set(row)) < len(row)]:
        raise ValueError(
            f"{len(repeats)} of {len(rows)} {split} rows name a label several times, such as {str(repeats[0])[:60]}. "
            "Each label of a row is expected once: [2], not a 0 or 1 for each class ([0, 0, 1, 0]). For labels of "
            "words, use --task token-classification."
        )
    if isinstance(of, ClassLabel):
        return [[of.int2str(value) for value in row] for row in rows]
    return [[str(value) for value in row] for row in rows]
