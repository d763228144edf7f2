"""Measures how good the features of a frozen encoder are, by nearest neighbours and a linear classifier.

In pre-training, labels are used here only: the model itself never sees them. The probe runs the encoder as a user
would, with unmasked input and in evaluation mode. The features are the mean of the last hidden state over the content,
without padding and special positions.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather, gather_object, send_to_device
from datasets import Dataset
from torch import Tensor
from torch.utils.data import DataLoader, Subset
from transformers import PreTrainedModel
from transformers.utils import logging

from ..backbone_data2vec_generic import as_sequence
from ..data.quality.reading import ROWS_READ, BadRow, GoodSamples, ReportingCollator, RowsRead
from ..measurements_data2vec_generic import evaluation_mode
from ..quirks_data2vec_generic import quirks_of

logger = logging.get_logger(__name__)

Collate = Callable[[list[dict[str, Any]]], dict[str, Any]]
ContentMask = Callable[[Mapping[str, Tensor], int], Tensor]
"""From the encoder's inputs and the length T of its last hidden state to the positions to average, bool (B, T)."""


def after_prefix(num_prefix_tokens: int) -> ContentMask:
    """For images, series and video, which have no padding: all positions but `num_prefix_tokens` first ones (CLS)."""

    def content(inputs: Mapping[str, Tensor], length: int) -> Tensor:
        batch_size = len(next(iter(inputs.values())))
        return (torch.arange(length) >= num_prefix_tokens).expand(batch_size, -1)

    return content


def real_tokens(inputs: Mapping[str, Tensor], length: int) -> Tensor:
    """For text: all tokens that are not padding. Special tokens are included, as is usual for sentence embeddings."""
    return inputs["attention_mask"].bool()


def real_frames(num_frames: Callable[[int], int]) -> ContentMask:
    """For sound: the frames of each clip, without padding. `num_frames` turns a number of samples into one of
    frames."""

    def content(inputs: Mapping[str, Tensor], length: int) -> Tensor:
        counts = [num_frames(samples) for samples in inputs["attention_mask"].sum(dim=1).tolist()]
        return torch.arange(length) < torch.tensor(counts)[:, None]

    return content


def extract_features(
    encoder: PreTrainedModel,
    dataset: Dataset,
    collate: Collate,
    content_mask: ContentMask,
    batch_size: int,
    loader_settings: Mapping[str, Any] | None = None,
) -> np.ndarray:
    """Runs the encoder, on its own device, and averages its last hidden state over the content.

    With several processes, each must call this: it reads its share of the samples and gets the features of all. The
    device is waited for once, at the end.

    Args:
        dataset: N samples.
        collate: makes the encoder's inputs from samples, unmasked and not augmented.
        content_mask: the positions to average.
        batch_size: samples per batch of a process.
        loader_settings: further arguments of torch's `DataLoader`, such as `num_workers` and `pin_memory`.

    Returns:
        (N, C) float32, in the order of the samples. If the encoder keeps the channels of a series apart, with hidden
        states (B, channels, T, C), the means of its channels are concatenated to (N, channels * C), as its
        classification head in transformers does.
    """
    return read_features(encoder, dataset, collate, content_mask, batch_size, loader_settings)[0]


@torch.no_grad()
def read_features(
    encoder: PreTrainedModel,
    dataset: Any,
    collate: Collate,
    content_mask: ContentMask,
    batch_size: int,
    loader_settings: Mapping[str, Any] | None = None,
) -> tuple[np.ndarray, list[RowsRead]]:
    """The result of `extract_features`, and what was read for each sample, where batches say so (ROWS_READ)."""
    features: list[Tensor] = []
    reads: list[RowsRead] = []
    with evaluation_mode(encoder):
        for inputs in _shared_loader(dataset, collate, batch_size, dict(loader_settings or {})):
            reads += inputs.pop(ROWS_READ, [])
            features.append(content_mean(*content_of(encoder, inputs, content_mask)))
    found = gather(torch.cat(features))[: len(dataset)].cpu().numpy()
    return found, gather_object(reads)[: len(dataset)] if reads else []


def content_mean(hidden: Tensor, content: Tensor) -> Tensor:
    """The mean of hidden states over the content.

    Args:
        hidden: (B, T, C), or (B, channels, T, C) of an encoder that keeps channels apart.
        content: bool (B, T).

    Returns:
        (B, C), or (B, channels * C).
    """
    where = content.unsqueeze(-1) if hidden.ndim == 3 else content[:, None, :, None]
    # `where` and not a product, since the hidden state at padding may be infinite or NaN.
    return (torch.where(where, hidden, 0.0).sum(dim=-2) / where.sum(dim=-2)).flatten(1)


def content_of(
    encoder: PreTrainedModel, inputs: Mapping[str, Tensor], content_mask: ContentMask
) -> tuple[Tensor, Tensor]:
    """The last hidden state of a batch, and which of its positions are content, on the encoder's device.

    Returns:
        (B, T, C) float32, or (B, channels, T, C) if the encoder keeps the channels of a series apart; and bool (B, T).
    """
    device = next(encoder.parameters()).device
    quirks = quirks_of(encoder.config.model_type)
    hidden = encoder(**send_to_device(inputs, device, non_blocking=True)).last_hidden_state.float()
    if not quirks.channels_apart:
        hidden = as_sequence(hidden, quirks.channels_first)
    return hidden, content_mask(inputs, hidden.shape[-2]).to(device, non_blocking=True)


def _shared_loader(dataset: Any, collate: Collate, batch_size: int, settings: dict[str, Any]) -> DataLoader:
    """A loader of this process's share of the samples. All have as many; the last ones repeat the last sample."""
    state = PartialState()
    share = math.ceil(len(dataset) / state.num_processes)
    rows = range(share * state.process_index, share * (state.process_index + 1))
    own = Subset(dataset, [min(row, len(dataset) - 1) for row in rows])
    if settings.get("num_workers"):
        settings["num_workers"] = min(settings["num_workers"], math.ceil(share / batch_size))
    return DataLoader(own, batch_size=batch_size, collate_fn=collate, **settings)


def labels_of(dataset: Dataset) -> np.ndarray:
    """The labels, (N,) int64, read without decoding images or sound."""
    return np.asarray(dataset.with_format(None)["label"][:], dtype=np.int64)


def knn_accuracy(
    train_x: np.ndarray, train_y: np.ndarray, test_x: np.ndarray, test_y: np.ndarray, k: int = 20
) -> float:
    """The accuracy, from 0 to 1, of a vote of the `k` nearest training rows by cosine similarity (all, if fewer).

    Args:
        train_x, test_x: features (N, C) and (M, C).
        train_y, test_y: labels (N,) and (M,).
    """
    return float(knn_classifier(len(train_x), k).fit(train_x, train_y).score(test_x, test_y))


def linear_accuracy(train_x: np.ndarray, train_y: np.ndarray, test_x: np.ndarray, test_y: np.ndarray) -> float:
    """The accuracy of a logistic regression on standardised features, from 0 to 1. Arguments as `knn_accuracy`."""
    return float(linear_classifier().fit(train_x, train_y).score(test_x, test_y))


def knn_classifier(train_rows: int, k: int = 20) -> Any:
    """scikit-learn's vote of the `k` nearest rows by cosine similarity, or of all `train_rows` if these are fewer."""
    from sklearn.neighbors import KNeighborsClassifier

    return KNeighborsClassifier(n_neighbors=min(k, train_rows), metric="cosine", algorithm="brute")


def linear_classifier() -> Any:
    """scikit-learn's logistic regression on features that it standardises first."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))


def effective_rank(features: np.ndarray) -> float:
    """The effective rank of features (N, C): the exponential of the entropy of their normalised singular values.

    This is RankMe (arXiv 2210.02885, equation 1). A value near 1 means that the encoder gives all inputs nearly the
    same features, up to a factor.
    """
    singular_values = np.linalg.svd(features, compute_uv=False)
    shares = singular_values / singular_values.sum() + 1e-7
    return float(np.exp(-(shares * np.log(shares)).sum()))


def subset(dataset: Dataset, max_samples: int, seed: int) -> Dataset:
    """At most `max_samples` rows, in their order, chosen at random by `seed`: data are often sorted by class."""
    if len(dataset) <= max_samples:
        return dataset
    rows = np.random.default_rng(seed).choice(len(dataset), size=max_samples, replace=False)
    return dataset.select(np.sort(rows))


@dataclass
class Probe:
    """Measures how good an encoder's features are, always on the same rows. Bad ones are left out with their labels.

    Args:
        train: prepared samples with a `label` column, to fit the classifiers on; None if there are no labels.
        test: prepared validation samples, with a `label` column if `train` is given.
        collate: makes the encoder's inputs from samples, unmasked and not augmented, as `plain` of a collator does.
        content_mask: the positions to average, e.g. `after_prefix(1)`, `real_tokens` or `real_frames(num_frames)`.
        batch_size: samples per batch.
        max_train_samples, max_test_samples: rows that are used at most, chosen at random.
        seed: of that choice.
        loader_settings: further arguments of the loaders, torch's `DataLoader`, such as `num_workers`.

    Attributes:
        bad_rows: those that the latest measurement has found.

    Raises:
        ImportError: there are labels, but scikit-learn is not installed.
        ValueError: all training rows have the same label.
    """

    train: Dataset | None
    test: Dataset
    collate: Collate
    content_mask: ContentMask
    batch_size: int = 64
    max_train_samples: int = 5_000
    max_test_samples: int = 10_000
    seed: int = 0
    loader_settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.bad_rows: list[BadRow] = []
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
        """`effective_rank` of the test features and, if there are labels, `knn_accuracy` and `linear_accuracy`.

        If a feature is NaN or infinite, all of them are NaN, with a warning: an evaluation must not end the run.

        With several processes, each must call this. They share out the samples, the first one fits the classifiers,
        and all get its result.
        """
        self.bad_rows = []
        test = self._features(encoder, self.test, "validation")
        train = (None, None) if self.train is None else self._features(encoder, self.train, "train")
        metrics = self._metrics(*test, *train) if PartialState().is_main_process else {}
        return broadcast_object_list([metrics])[0]

    def _features(self, encoder: PreTrainedModel, rows: Dataset, split: str) -> tuple[np.ndarray, np.ndarray | None]:
        """Features, and labels if there are any, of the rows that are good."""
        samples = GoodSamples(rows, split)
        features, reads = read_features(
            encoder,
            samples,
            ReportingCollator(self.collate, samples),
            self.content_mask,
            self.batch_size,
            self.loader_settings,
        )
        self.bad_rows += [row for read in reads for row in read.bad]
        good = np.array([not read.bad for read in reads])  # for a bad one, the next good one was read
        return features[good], None if self.train is None else labels_of(rows)[good]

    def _metrics(
        self,
        test: np.ndarray,
        test_labels: np.ndarray | None,
        train: np.ndarray | None,
        train_labels: np.ndarray | None,
    ) -> dict[str, float]:
        names = ["effective_rank"] if train is None else ["effective_rank", "knn_accuracy", "linear_accuracy"]
        finite = np.isfinite(test if train is None else np.concatenate([test, train])).all(axis=1)
        if not finite.all():
            logger.warning(
                f"The encoder's features of {(~finite).sum()} of {len(finite)} probe samples are NaN or infinite: "
                f"{', '.join(names)} are logged as NaN."
            )
            return dict.fromkeys(names, math.nan)
        metrics = {"effective_rank": effective_rank(test)}
        if train is not None and train_labels is not None and test_labels is not None:
            labelled = (train, train_labels, test, test_labels)
            metrics |= {"knn_accuracy": knn_accuracy(*labelled), "linear_accuracy": linear_accuracy(*labelled)}
        return metrics
