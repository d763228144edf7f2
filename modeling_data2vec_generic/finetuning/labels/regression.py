"""A number for each row."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from datasets import Dataset, Value
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.utils import logging

from ...data.arguments import DataArguments
from ...data.column_types import is_number
from ..metrics import load_metric
from .base_target import Scores, Splits, Target, knn_regressor, with_label
from .units import Units, output_layers, save_in_units

logger = logging.get_logger(__name__)


class Regression(Target):
    """A number per row. The model is trained on standardised numbers; its predictions are in the units of the labels.

    Attributes:
        units: converts the standardised numbers, which `collate` returns and logits are, to those of the labels.
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
                raise ValueError(f"{bad} of {len(values)} {split} rows have no number as their label. Remove them.")
            encoded[split] = with_label(dataset, values, Value("float64"))
        if np.ptp(encoded["train"]["label"][:]) == 0:
            raise ValueError("All training rows have the same number as their label, so there is nothing to predict.")
        return encoded

    def check(self, train: Dataset) -> None:
        """Check the training rows as described in the base class, and set `units` by their mean and deviation."""
        values = np.asarray(train.with_format(None)["label"][:])
        if np.ptp(values) == 0:
            raise ValueError(
                f"The {len(values)} training rows, as they were chosen, have the same number as their label, so there "
                "is nothing to predict. Choose more rows."
            )
        self.units = Units(float(values.mean()), float(values.std()))

    def fit_head(self, model: PreTrainedModel, encoder: nn.Module, inputs: Mapping[str, Tensor]) -> list[nn.Linear]:
        """Find the last layers of the head and have them saved in the units of the labels.

        If they are not found, labels are not standardised. If one has no bias, labels are scaled and not shifted.
        Arguments and result are those of the base class.
        """
        layers, units = output_layers(model, encoder, inputs), self.units
        if not layers:
            self.units = Units()
            logger.warning(
                f"The last layer of the head of {type(model).__name__} can't be determined, so the labels are not "
                "standardised. Scale them to numbers around 1 yourself."
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

    def on_features(self, method: str, train_x: Scores, train_y: NDArray[Any], test_x: Scores) -> Scores:
        from sklearn.linear_model import RidgeCV
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        if method == "knn":
            regressor = knn_regressor(len(train_x))
        else:
            regressor = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-3, 5, 9)))
        return regressor.fit(train_x, train_y).predict(test_x)[:, None]
