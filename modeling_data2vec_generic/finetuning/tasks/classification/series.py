"""Time series: a class, several, or a number for each."""

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
    """PatchTSTForClassification and its kin: transformers has the mapping, but no Auto class of it."""

    _model_mapping = MODEL_FOR_TIME_SERIES_CLASSIFICATION_MAPPING  # type: ignore[assignment]  # None there


class AutoModelForTimeSeriesRegression(_BaseAutoModelClass):
    """PatchTSTForRegression and its kin, likewise."""

    _model_mapping = MODEL_FOR_TIME_SERIES_REGRESSION_MAPPING  # type: ignore[assignment]


class SeriesClassification(Classification):
    """One series per row. Series longer than the encoder's context_length are windows with the label of the series,
    each of which counts by itself."""

    name = "series-classification"
    modality_name = "series"
    # Neither data2vec paper has series. Those of PatchTST's own script (arXiv 2211.14730): 20 epochs at batch 64, a
    # rate that rises for the first 30% of the steps and falls as a cosine. It searches for the highest rate; 1e-4 is
    # what it takes otherwise.
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
        # The heads of transformers for series have a name of their own for the number of outputs, and could give a
        # distribution in place of a number.
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
