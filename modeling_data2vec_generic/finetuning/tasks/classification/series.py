"""Classification and regression of time series."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor
from transformers import (
    MODEL_FOR_TIME_SERIES_CLASSIFICATION_MAPPING,
    MODEL_FOR_TIME_SERIES_REGRESSION_MAPPING,
)
from transformers.models.auto.auto_factory import _BaseAutoModelClass

from ....modalities.series.windows import prepare_series
from ...labels.regression import Regression
from ..base import Splits
from .base import Classification


class AutoModelForTimeSeriesClassification(_BaseAutoModelClass):
    """Loads models such as PatchTSTForClassification. transformers has the mapping, but no Auto class for it."""

    _model_mapping = MODEL_FOR_TIME_SERIES_CLASSIFICATION_MAPPING  # type: ignore[assignment]  # it is None in the base class


class AutoModelForTimeSeriesRegression(_BaseAutoModelClass):
    """Loads models such as PatchTSTForRegression. transformers has the mapping, but no Auto class for it."""

    _model_mapping = MODEL_FOR_TIME_SERIES_REGRESSION_MAPPING  # type: ignore[assignment]


class SeriesClassification(Classification):
    """One series per row.

    Series longer than the encoder's `context_length` are split into windows, each of which is a sample with the
    series' label.
    """

    name = "series-classification"
    modality_name = "series"
    # Neither data2vec paper has series. The values are those of PatchTST's own script (arXiv 2211.14730): 20 epochs at
    # batch 64, warm-up in the first 30% of the steps, and a cosine schedule. The script searches for the learning
    # rate; 1e-4 is its default.
    defaults = {
        "learning_rate": 1e-4,
        "per_device_train_batch_size": 64,
        "num_train_epochs": 20,
        "warmup_steps": 0.3,
        "lr_scheduler_type": "cosine",
    }

    def encode(self, splits: Splits) -> Splits:
        encoded = super().encode(splits)
        is_number = isinstance(self.target, Regression)
        self.auto_class = AutoModelForTimeSeriesRegression if is_number else AutoModelForTimeSeriesClassification
        return encoded

    def settings(self) -> dict[str, Any]:
        # transformers' heads for series have another name for the number of outputs, and with other losses they
        # return a distribution instead of a number.
        return super().settings() | {"num_targets": len(self.target.names), "loss": "mse"}

    def samples(self, rows: Dataset, split: str) -> Dataset:
        modality: Any = self.modality  # of series
        return prepare_series(rows, self.data_args, split, modality.length, modality.channels)

    def inputs(self, examples: list[dict[str, Any]]) -> dict[str, Tensor]:
        return {"past_values": torch.from_numpy(np.stack([example["series"] for example in examples]))}

    def source_rows(self, dataset: Dataset) -> list[int]:
        return dataset.with_format(None)["row"][:]

    def picture(self, example: Mapping[str, Any]) -> np.ndarray:
        return example["series"]
