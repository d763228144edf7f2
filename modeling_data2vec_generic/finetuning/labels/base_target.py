"""What the kinds of labels have in common: the base class, and what several of them use."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from datasets import Dataset, Features
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel

from ...data.arguments import DataArguments

MOST_NEIGHBOURS = 20  # training rows that vote on a sample, at most

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
    def on_features(self, method: str, train_x: Scores, train_y: NDArray[Any], test_x: Scores) -> Scores:
        """(N, K) scores, to be read as logits, of "knn" or "linear_probe" on frozen features (N, C)."""


def knn_regressor(train_rows: int) -> Any:
    """scikit-learn's mean of the nearest rows by cosine."""
    from sklearn.neighbors import KNeighborsRegressor

    return KNeighborsRegressor(min(MOST_NEIGHBOURS, train_rows), metric="cosine", algorithm="brute")


def with_label(dataset: Dataset, values: Sequence[Any] | NDArray[Any], feature: Any) -> Dataset:
    features = Features({"label": feature})
    column = Dataset.from_dict({"label": values}, features=features)
    return dataset.remove_columns("label").add_column("label", column.data.column("label"), feature=feature)
