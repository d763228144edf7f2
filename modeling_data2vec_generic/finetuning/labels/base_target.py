"""The base class of the kinds of labels, and functions that several of them use.

Shapes: B samples of a batch, N samples of a split, K classes, C channels of the features.
"""

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
    """One kind of labels: how they are encoded, and their loss, metrics and predictions.

    Attributes:
        problem_type: as in --problem_type and in the configurations of transformers.
        main_metric: name of the metric by which runs are compared.
        names: the classes in the order of the model's outputs; for numbers, one name.
        class_weights: (K,) weight of each class in the loss, or None.
        label_smoothing: share of the target that is spread evenly over all classes in training.
        without: names of flags that can't be used with these labels.
        fewest: smallest number of validation rows of which the metrics can be computed.
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
        """Return the splits with `label` as numbers, and set `names`.

        Raises:
            ValueError: labels are missing or have another type, or all training rows have the same label.
        """

    @abstractmethod
    def check(self, train: Dataset) -> None:
        """Check the training rows that were chosen.

        Raises:
            ValueError: a class has no row, or all rows have the same label.
        """

    def counts(self, dataset: Dataset) -> NDArray[np.int64] | None:
        """(K,) number of rows of each class; None for numbers."""
        return None

    def strata(self, dataset: Dataset) -> NDArray[np.int64] | None:
        """(N,) classes whose shares a choice of rows should keep; None if there are none, which is the default."""
        return None

    def settings(self) -> dict[str, Any]:
        """Fields of the model's configuration, by name."""
        return {
            "num_labels": len(self.names),
            "id2label": dict(enumerate(self.names)),
            "label2id": {name: number for number, name in enumerate(self.names)},
            "problem_type": self.problem_type,
        }

    def fit_head(self, model: PreTrainedModel, encoder: nn.Module, inputs: Mapping[str, Tensor]) -> list[nn.Linear]:
        """Prepare a new head. By default, nothing is done.

        Args:
            encoder: the sub-module of `model` that is not part of the head.
            inputs: the model's inputs for some samples.

        Returns:
            The layers that from now on are saved in other units than they are trained in.
        """
        return []

    @abstractmethod
    def collate(self, labels: Sequence[Any]) -> Tensor:
        """A batch of encoded labels as `loss` takes it, (B,) or (B, K)."""

    @abstractmethod
    def loss(self, logits: Tensor, labels: Tensor, training: bool) -> Tensor:
        """The loss, a scalar: the mean over the batch.

        Args:
            logits: (B, K), or (B, 1) for numbers.
            labels: as returned by `collate`.
            training: whether to use label smoothing.
        """

    @abstractmethod
    def metrics(self, logits: Scores, labels: NDArray[Any]) -> dict[str, float]:
        """Metrics by name, computed by `evaluate`.

        Args:
            logits: (N, K), or (N, 1) for numbers.
            labels: (N,) or (N, K), as returned by `collate`.
        """

    @abstractmethod
    def predictions(self, logits: Scores, labels: Sequence[Any]) -> Iterator[dict[str, Any]]:
        """For each row a dict with `label`, `prediction` and, for classes, `probability`.

        Args:
            logits: (N, K), or (N, 1) for numbers.
            labels: encoded labels.
        """

    @abstractmethod
    def on_features(self, method: str, train_x: Scores, train_y: NDArray[Any], test_x: Scores) -> Scores:
        """Fit a simple model to the features of the training rows and apply it to others.

        Args:
            method: "knn" or "linear_probe".
            train_x: (N, C), features of the training rows by the frozen encoder.
            train_y: labels of the training rows, as returned by `collate`.
            test_x: (N, C), features of the other rows.

        Returns:
            Scores of the other rows, (N, K), which can be used like logits.
        """


def knn_regressor(train_rows: int) -> Any:
    """A regressor of scikit-learn that predicts the mean of the nearest training rows, by cosine."""
    from sklearn.neighbors import KNeighborsRegressor

    return KNeighborsRegressor(min(MOST_NEIGHBOURS, train_rows), metric="cosine", algorithm="brute")


def with_label(dataset: Dataset, values: Sequence[Any] | NDArray[Any], feature: Any) -> Dataset:
    """The dataset with other values in its column `label`, of the type `feature`."""
    features = Features({"label": feature})
    column = Dataset.from_dict({"label": values}, features=features)
    return dataset.remove_columns("label").add_column("label", column.data.column("label"), feature=feature)
