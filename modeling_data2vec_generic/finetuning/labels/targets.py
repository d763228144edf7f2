"""What a row is to be given: one class, several classes, or a number. Labels in, loss, metrics and predictions out."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from datasets import ClassLabel, Dataset, Features, LargeList, List, Value
from numpy.typing import NDArray
from scipy.special import logit
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.utils import logging

from ...data.arguments import DataArguments
from ...data.sources.columns import encode_labels, holds, in_order, is_number, is_whole_number
from ...evaluation.probe import knn_classifier, labels_of, linear_classifier
from ..metrics import load_metric
from .units import Units, output_layers, save_in_units

logger = logging.get_logger(__name__)

_NEIGHBOURS = 20  # that vote at most

Splits = dict[str, Dataset]
Scores = NDArray[np.floating[Any]]


class Target(ABC):
    """One kind of label.

    Attributes:
        names: the classes in the order of the model's outputs; of a number, one name for it.
        class_weights: (K,) weight of each class in the loss, or None.
        label_smoothing: share of the target that training spreads evenly over all classes.
        without: flags that are of no use with it.
        fewest: validation rows that a metric can be computed of.
    """

    problem_type: ClassVar[str]
    main_metric: ClassVar[str]
    names: list[str]
    class_weights: Tensor | None = None
    label_smoothing: float = 0.0
    without: ClassVar[tuple[str, ...]] = ()
    fewest: ClassVar[int] = 2

    @abstractmethod
    def encode(self, splits: Splits, args: DataArguments) -> Splits:
        """The same rows with `label` as numbers. Sets `names`.

        Raises:
            ValueError: labels that are missing or of another type, or of one class only.
        """

    @abstractmethod
    def check(self, train: Dataset) -> None:
        """Raise ValueError if the training rows, as they were chosen, lack a class or are all alike."""

    def counts(self, dataset: Dataset) -> NDArray[np.int64] | None:
        """(K,) rows of each class; None of numbers."""
        return None

    def strata(self, dataset: Dataset) -> NDArray[np.int64] | None:
        """(N,) classes that a choice of rows should keep the shares of; None where there are none."""
        return None

    def settings(self) -> dict[str, Any]:
        """Fields of the model's configuration."""
        return {
            "num_labels": len(self.names),
            "id2label": dict(enumerate(self.names)),
            "label2id": {name: number for number, name in enumerate(self.names)},
            "problem_type": self.problem_type,
        }

    def fit_head(self, model: PreTrainedModel, encoder: nn.Module, inputs: Mapping[str, Tensor]) -> list[nn.Linear]:
        """Layers of a new head that are saved otherwise than they are trained, and now are; by default none.

        Args:
            encoder: the sub-module of `model` that is no part of the head.
            inputs: of some samples.
        """
        return []

    @abstractmethod
    def collate(self, labels: Sequence[Any]) -> Tensor:
        """(B,) or (B, K), as `loss` takes them, of labels as `encode` gives them."""

    @abstractmethod
    def loss(self, logits: Tensor, labels: Tensor, training: bool) -> Tensor:
        """Scalar mean over the batch. logits (B, K)."""

    @abstractmethod
    def metrics(self, logits: Scores, labels: NDArray[Any]) -> dict[str, float]:
        """By `evaluate`. logits (N, K); labels (N,) or (N, K), as `collate` gives them."""

    @abstractmethod
    def predictions(self, logits: Scores, labels: Sequence[Any]) -> Iterator[dict[str, Any]]:
        """For each row `label`, `prediction` and what the model gave it. logits (N, K); labels as `encode` gives
        them."""

    @abstractmethod
    def on_features(self, arm: str, train_x: Scores, train_y: NDArray[Any], test_x: Scores) -> Scores:
        """(N, K) scores, to be read as logits, of "knn" or "linear_probe" on frozen features (N, C)."""


class SingleLabel(Target):
    """One class per row."""

    problem_type = "single_label_classification"
    main_metric = "accuracy"

    def encode(self, splits: Splits, args: DataArguments) -> Splits:
        encoded = encode_labels(splits, replace(args, label_column_name=args.label_column_name or "label"))
        if "label" not in encoded["train"].features:
            only = sorted({str(value) for value in splits["train"]["label"][:]})[:1]
            raise ValueError(
                f"All training rows are of one class ({', '.join(only)}): there is nothing to tell apart. Check "
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
        """Set `class_weights` as --class_weights says.

        Raises:
            ValueError: it is neither "balanced" nor one number above 0 per class.
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
        """labels: (B,) int64, or (B, K) shares of classes where images were mixed."""
        weight = None if self.class_weights is None else self.class_weights.to(logits.device)
        smoothing = self.label_smoothing if training else 0.0
        loss = functional.cross_entropy(logits.float(), labels, weight, label_smoothing=smoothing)
        if weight is None or labels.ndim == 1:
            return loss
        return loss / (labels * weight).sum(-1).mean()  # the weighted mean, which torch takes of classes alone

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

    def on_features(self, arm: str, train_x: Scores, train_y: NDArray[Any], test_x: Scores) -> Scores:
        if arm == "knn":
            classifier = knn_classifier(len(train_x), self._neighbours(train_y))
        else:
            classifier = linear_classifier()
        probabilities = classifier.fit(train_x, train_y).predict_proba(test_x)
        # Several classes may have as many votes: argmax gives them to the first, as `predict` does.
        return np.log(np.maximum(probabilities, 1e-12))

    def _neighbours(self, train_y: NDArray[Any]) -> int:
        """How many training rows vote: as many as a class has on average, since more would be of other classes for
        certain, and 20 at most. A rare class does not lower it."""
        count = max(1, min(_NEIGHBOURS, len(train_y) // len(self.names)))
        logger.info(
            f"The {count} nearest of {len(train_y)} training rows vote: as many as one of {len(self.names)} classes "
            f"has on average, {_NEIGHBOURS} at most."
        )
        return count


class MultiLabel(Target):
    """Any number of classes per row: a list of them, which may be empty."""

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
                f"All training rows have the same labels ({', '.join(self.names[:5])}): there is nothing to tell "
                "apart. Check label_column_name."
            )
        number = {name: position for position, name in enumerate(self.names)}
        ids = {split: [sorted(number[name] for name in row) for row in rows] for split, rows in lists.items()}
        return {split: _with_label(dataset, ids[split], List(Value("int32"))) for split, dataset in splits.items()}

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

    def on_features(self, arm: str, train_x: Scores, train_y: NDArray[Any], test_x: Scores) -> Scores:
        from sklearn.multiclass import OneVsRestClassifier

        if arm == "knn":
            shares = _knn_regressor(len(train_x)).fit(train_x, train_y).predict(test_x)
        else:
            classifier = OneVsRestClassifier(linear_classifier()).fit(train_x, train_y.astype(int))
            shares = classifier.predict_proba(test_x)[:, -len(self.names) :]  # of one label there are yes and no
        return logit(np.clip(shares, 1e-6, 1 - 1e-6))


class Regression(Target):
    """A number per row, which is trained on standardised and predicted as it is.

    Attributes:
        units: the numbers by the standardised ones that `collate` gives and that logits are.
    """

    units = Units()
    problem_type = "regression"
    main_metric = "pearsonr"
    without = ("class_weights", "label_smoothing_factor", "mixup", "cutmix")
    fewest = 3  # the correlation of two numbers with two others is 1 or -1

    def encode(self, splits: Splits, args: DataArguments) -> Splits:
        self.names = [args.label_column_name or "label"]
        encoded = {}
        for split, dataset in splits.items():
            feature = dataset.features["label"]
            if not is_number(feature):
                raise ValueError(f"The labels of the {split} data are {feature}, and regression needs numbers.")
            values = np.array(dataset["label"][:], dtype=np.float64)  # None becomes NaN
            if bad := int((~np.isfinite(values)).sum()):
                raise ValueError(f"{bad} of {len(values)} {split} rows have no number as their label: remove them.")
            encoded[split] = _with_label(dataset, values, Value("float64"))
        if np.ptp(encoded["train"]["label"][:]) == 0:
            raise ValueError("All training rows have the same number as their label: there is nothing to predict.")
        return encoded

    def check(self, train: Dataset) -> None:
        values = np.asarray(train.with_format(None)["label"][:])
        if np.ptp(values) == 0:
            raise ValueError(
                f"The {len(values)} training rows, as they were chosen, have the same number as their label: there is "
                "nothing to predict. Choose more rows."
            )
        self.units = Units(float(values.mean()), float(values.std()))

    def fit_head(self, model: PreTrainedModel, encoder: nn.Module, inputs: Mapping[str, Tensor]) -> list[nn.Linear]:
        """Of a head whose last layer cannot be told, or has no bias, labels are not standardised, or only scaled."""
        layers, units = output_layers(model, encoder, inputs), self.units
        if not layers:
            self.units = Units()
            logger.warning(
                f"The last layer of the head of {type(model).__name__} can't be told, so the labels are not "
                "standardised: scale them to numbers around 1 yourself."
            )
        elif any(layer.bias is None for layer in layers):
            self.units = Units(0.0, float(np.hypot(units.offset, units.scale)))
        save_in_units(layers, self.units)
        return layers

    def collate(self, labels: Sequence[Any]) -> Tensor:
        return torch.from_numpy(self.units.standardised(labels).astype(np.float32))

    def loss(self, logits: Tensor, labels: Tensor, training: bool) -> Tensor:
        return functional.mse_loss(logits.float().squeeze(-1), labels)

    def metrics(self, logits: Scores, labels: NDArray[Any]) -> dict[str, float]:
        given = {"predictions": self.units.restored(logits[:, 0]), "references": self.units.restored(labels)}
        found = [load_metric(name).compute(**given) for name in ("pearsonr", "spearmanr", "r2", "mae", "mse")]
        return {name: value for metrics in found for name, value in metrics.items()}

    def predictions(self, logits: Scores, labels: Sequence[Any]) -> Iterator[dict[str, Any]]:
        for value, label in zip(self.units.restored(logits[:, 0]), labels, strict=True):
            yield {"label": label, "prediction": float(value)}

    def on_features(self, arm: str, train_x: Scores, train_y: NDArray[Any], test_x: Scores) -> Scores:
        from sklearn.linear_model import RidgeCV
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        if arm == "knn":
            regressor = _knn_regressor(len(train_x))
        else:
            regressor = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-3, 5, 9)))
        return regressor.fit(train_x, train_y).predict(test_x)[:, None]


TARGETS: Mapping[str, type[Target]] = {target.problem_type: target for target in (SingleLabel, MultiLabel, Regression)}


def target_for(feature: Any, problem_type: str | None) -> Target:
    """The target that the flag names, else the one for labels of this type.

    Raises:
        ValueError: the flag names none.
    """
    if problem_type is None:
        if isinstance(feature, List | LargeList):
            problem_type = MultiLabel.problem_type
        elif isinstance(feature, Value) and feature.dtype.startswith("float"):
            problem_type = Regression.problem_type
        else:
            problem_type = SingleLabel.problem_type
    if problem_type not in TARGETS:
        raise ValueError(f"problem_type={problem_type!r} is not one of {', '.join(TARGETS)}.")
    return TARGETS[problem_type]()


def _knn_regressor(train_rows: int) -> Any:
    """scikit-learn's mean of the nearest rows by cosine."""
    from sklearn.neighbors import KNeighborsRegressor

    return KNeighborsRegressor(min(_NEIGHBOURS, train_rows), metric="cosine", algorithm="brute")


def _lists_of_names(dataset: Dataset, split: str) -> list[list[str]]:
    feature = dataset.features["label"]
    of = feature.feature if isinstance(feature, List | LargeList) else None
    if not (is_whole_number(of) or isinstance(of, ClassLabel) or holds(of, "text")):
        raise ValueError(
            f"The labels of the {split} data are {feature}, and several labels per row are expected as a list of "
            "strings or whole numbers."
        )
    rows = dataset["label"][:]
    if missing := sum(row is None or None in row for row in rows):
        raise ValueError(
            f"{missing} of {len(rows)} {split} rows have no list of labels, or one with a gap in it; an empty list "
            "means none."
        )
    if repeats := [row for row in rows if len(set(row)) < len(row)]:
        raise ValueError(
            f"{len(repeats)} of {len(rows)} {split} rows name a label several times, such as {str(repeats[0])[:60]}; "
            "expected are those labels that a row has, each once: [2], not a 0 or 1 for each class ([0, 0, 1, 0]). "
            "Labels of words are for --task token-classification."
        )
    if isinstance(of, ClassLabel):
        return [[of.int2str(value) for value in row] for row in rows]
    return [[str(value) for value in row] for row in rows]


def _with_label(dataset: Dataset, values: Sequence[Any] | NDArray[Any], feature: Any) -> Dataset:
    features = Features({"label": feature})
    column = Dataset.from_dict({"label": values}, features=features)
    return dataset.remove_columns("label").add_column("label", column.data.column("label"), feature=feature)


__all__ = ["TARGETS", "MultiLabel", "Regression", "SingleLabel", "Target", "target_for"]
