"""What data2vec is compared with on time series: PatchTST's own masked pre-training, and features that no one trains.

The latter are those of the Python package aeon, an optional dependency; benchmarks/README.md says how to install it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PatchTSTConfig, PatchTSTForPretraining, PatchTSTModel, PreTrainedModel

from ..training import Trained, plain_encoder, train_peer


def train_patchtst(
    config: Mapping[str, Any], series: np.ndarray, mask_ratio: float, folder: Path, **arguments: Any
) -> Trained:
    """A PatchTSTForPretraining: masked patches are zero, and a linear layer predicts their values (arXiv 2211.14730).

    Args:
        config: fields of the plain encoder's `PatchTSTConfig`.
        series: (N, T, channels) float32.
        mask_ratio: share of the patches of each channel that are masked.
        folder: see `train_peer`.
        arguments: of `TrainingArguments`.
    """
    model = PatchTSTForPretraining(PatchTSTConfig(**config, random_mask_ratio=mask_ratio))

    def collate(examples: Sequence[np.ndarray]) -> dict[str, torch.Tensor]:
        return {"past_values": torch.from_numpy(np.stack(examples))}

    def plain(trained: PatchTSTForPretraining) -> PreTrainedModel:
        return plain_encoder(PatchTSTModel(PatchTSTConfig(**config)), trained.model.state_dict())

    return train_peer(model, list(series), collate, plain, None, folder, **arguments)


def minirocket(seed: int) -> Any:
    """aeon's MiniRocket (arXiv 2012.08791): shares of positive values after convolutions with random dilations and
    biases, read by a ridge classifier. It takes series as (N, channels, T)."""
    from aeon.classification.convolution_based import MiniRocketClassifier

    return MiniRocketClassifier(random_state=seed)


def catch22(seed: int) -> Any:
    """aeon's classifier on catch22 (doi 10.1007/s10618-019-00647-x): 22 features of each channel, read by a random
    forest. It takes series as (N, channels, T)."""
    from aeon.classification.feature_based import Catch22Classifier

    return Catch22Classifier(use_pycatch22=True, random_state=seed)
