"""How good are the features of a frozen encoder: nearest neighbours and a linear classifier on them.

Labels are used here and nowhere else: pre-training itself never sees them. The probe reads the encoder as a user of it
would: full, unmasked input, evaluation mode, the mean of the last hidden state over the real content.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import PreTrainedModel
from transformers.utils import logging

from ..backbone_data2vec_generic import as_sequence
from ..measurements_data2vec_generic import evaluation_mode
from ..quirks_data2vec_generic import quirks_of

logger = logging.get_logger(__name__)

Collate = Callable[[list[dict[str, Any]]], Mapping[str, Tensor]]
ContentMask = Callable[[Mapping[str, Tensor], int], Tensor]
"""From the encoder's inputs and the length T of its last hidden state, a bool (B, T): the positions to average."""


def after_prefix(num_prefix_tokens: int) -> ContentMask:
    """For inputs without padding (images, series, video): every position but the `num_prefix_tokens` first (CLS,
    registers)."""

    def content(inputs: Mapping[str, Tensor], length: int) -> Tensor:
        batch_size = len(next(iter(inputs.values())))
        return (torch.arange(length) >= num_prefix_tokens).expand(batch_size, -1)

    return content


def real_tokens(inputs: Mapping[str, Tensor], length: int) -> Tensor:
    """For text: every token that is not padding, special tokens included, as sentence embeddings usually average."""
    return inputs["attention_mask"].bool()


def real_frames(num_frames: Callable[[int], int]) -> ContentMask:
    """For sound: the frames that `num_frames` counts for each clip's own samples, the padding after them left out."""

    def content(inputs: Mapping[str, Tensor], length: int) -> Tensor:
        counts = [num_frames(samples) for samples in inputs["attention_mask"].sum(dim=1).tolist()]
        return torch.arange(length) < torch.tensor(counts)[:, None]

    return content


@torch.no_grad()
def extract_features(
    encoder: PreTrainedModel, dataset: Dataset, collate: Collate, content_mask: ContentMask, batch_size: int
) -> np.ndarray:
    """The mean of the last hidden state over the content, (N, C) float32.

    Where the encoder keeps the channels of a series apart, (B, channels, T, C), the means of the channels stand side
    by side, (N, channels * C), as its classification head in transformers takes them.

    `collate` must give the encoder's own inputs, unmasked and not augmented. Runs on the encoder's device.
    """
    device = next(encoder.parameters()).device
    quirks = quirks_of(encoder.config.model_type)
    features: list[np.ndarray] = []
    with evaluation_mode(encoder):
        for inputs in DataLoader(dataset, batch_size=batch_size, collate_fn=collate):
            hidden = encoder(**{name: value.to(device) for name, value in inputs.items()}).last_hidden_state.float()
            if not quirks.channels_apart:
                hidden = as_sequence(hidden, quirks.channels_first)
            content = content_mask(inputs, hidden.shape[-2]).to(device).unsqueeze(-1)
            if quirks.channels_apart:
                content = content.unsqueeze(1)
            # where, not a product: what an encoder leaves at padding may be infinite or NaN.
            mean = torch.where(content, hidden, 0.0).sum(dim=-2) / content.sum(dim=-2)
            features.append(mean.flatten(1).cpu().numpy())
    return np.concatenate(features)


def labels_of(dataset: Dataset) -> np.ndarray:
    """(N,) int64, read without decoding an image or sound."""
    return np.asarray(dataset.with_format(None)["label"][:], dtype=np.int64)


def knn_accuracy(
    train_x: np.ndarray, train_y: np.ndarray, test_x: np.ndarray, test_y: np.ndarray, k: int = 20
) -> float:
    """Share of the test rows whose `k` nearest training rows by cosine (all, if fewer) vote for their label."""
    return float(knn_classifier(len(train_x), k).fit(train_x, train_y).score(test_x, test_y))


def linear_accuracy(train_x: np.ndarray, train_y: np.ndarray, test_x: np.ndarray, test_y: np.ndarray) -> float:
    """Share of the test rows that a logistic regression on the standardised features gets right."""
    return float(linear_classifier().fit(train_x, train_y).score(test_x, test_y))


def knn_classifier(train_rows: int, k: int = 20) -> Any:
    """scikit-learn's vote of the `k` nearest rows by cosine, of all `train_rows` if there are fewer."""
    from sklearn.neighbors import KNeighborsClassifier

    return KNeighborsClassifier(n_neighbors=min(k, train_rows), metric="cosine", algorithm="brute")


def linear_classifier() -> Any:
    """scikit-learn's logistic regression on features that it standardises first."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))


def effective_rank(features: np.ndarray) -> float:
    """How many dimensions features (N, C) really use: exp of the entropy of their singular values' shares.

    RankMe, arXiv 2210.02885, equation 1. Near 1 means that all inputs look alike to the encoder.
    """
    singular_values = np.linalg.svd(features, compute_uv=False)
    shares = singular_values / singular_values.sum() + 1e-7
    return float(np.exp(-(shares * np.log(shares)).sum()))


def subset(dataset: Dataset, max_samples: int, seed: int) -> Dataset:
    """At most `max_samples` rows, chosen at random by `seed`: files and folders are often sorted by class."""
    if len(dataset) <= max_samples:
        return dataset
    rows = np.random.default_rng(seed).choice(len(dataset), size=max_samples, replace=False)
    return dataset.select(np.sort(rows))


@dataclass
class Probe:
    """What an encoder's features are worth, on one fixed choice of rows.

    Fields:
        train: prepared samples with a `label` column to fit the classifiers on; None where there are no labels.
        test: prepared validation samples, with a `label` column if `train` is given.
        collate: the collator's un-augmented, unmasked inputs.
        content_mask: the positions to average, e.g. `after_prefix(1)`, `real_tokens` or `real_frames(num_frames)`.
    """

    train: Dataset | None
    test: Dataset
    collate: Collate
    content_mask: ContentMask
    batch_size: int = 64
    max_train_samples: int = 5_000
    max_test_samples: int = 10_000
    seed: int = 0

    def __post_init__(self) -> None:
        self.test = subset(self.test, self.max_test_samples, self.seed)
        if self.train is None:
            return
        if find_spec("sklearn") is None:
            raise ImportError(
                "The probe needs scikit-learn, which is not installed: `pip install scikit-learn`, or leave out "
                "label_column_name to train without a probe."
            )
        self.train = subset(self.train, self.max_train_samples, self.seed)
        if len(set(labels_of(self.train))) < 2:
            raise ValueError(
                f"All {len(self.train)} training rows of the probe have one and the same label. It needs two classes "
                "at least: check label_column_name and max_train_samples."
            )

    def __call__(self, encoder: PreTrainedModel) -> dict[str, float]:
        """`effective_rank` of the test features and, where there are labels, `knn_accuracy` and `linear_accuracy`.

        All are NaN, with a warning, where a feature is NaN or infinite: an evaluation is not to end the run.
        """
        splits = [self.test] if self.train is None else [self.test, self.train]
        features = [
            extract_features(encoder, rows, self.collate, self.content_mask, self.batch_size) for rows in splits
        ]
        names = ["effective_rank"] if self.train is None else ["effective_rank", "knn_accuracy", "linear_accuracy"]
        finite = np.isfinite(np.concatenate(features)).all(axis=1)
        if not finite.all():
            logger.warning(
                f"The encoder's features of {(~finite).sum()} of {len(finite)} probe samples are NaN or infinite: "
                f"{', '.join(names)} are logged as NaN."
            )
            return dict.fromkeys(names, math.nan)
        metrics = {"effective_rank": effective_rank(features[0])}
        if self.train is not None:
            labelled = (features[1], labels_of(self.train), features[0], labels_of(self.test))
            metrics |= {"knn_accuracy": knn_accuracy(*labelled), "linear_accuracy": linear_accuracy(*labelled)}
        return metrics
