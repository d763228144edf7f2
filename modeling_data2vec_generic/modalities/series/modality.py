"""Time series, which encoders read as patches of each channel."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import PreTrainedModel
from transformers.utils import logging

from ...data.arguments import DataArguments
from ...evaluation.probe import ContentMask, after_prefix
from ...layout_data2vec_generic import find_layout
from ...masking.sampler import MaskSampler
from ...measurements_data2vec_generic import measure
from ...training.arguments import ModelArguments
from ...training.encoders import parse_overrides
from ..base_modality import Modality
from .collator import DataCollatorForData2VecSeries
from .windows import prepare_series, usual_shape

logger = logging.get_logger(__name__)


class Series(Modality):
    """Windows of time series, cut into patches in time. There is no processor, since encoders scale the values."""

    reads = "past_values"
    suggestions = "patchtst or patchtsmixer"
    processor = processor_class = None
    encoder_call = "past_values=series"

    def __init__(self, model_args: ModelArguments, data_args: DataArguments, raw: Dataset):
        super().__init__(model_args, data_args, raw)
        self.raw = raw

    def encoder_defaults(self) -> dict[str, Any]:
        given = parse_overrides(self.model_args.config_overrides).get("num_input_channels")
        shape = usual_shape(self.raw, self.data_args, given)
        if shape is None:
            return {}  # all series are bad, and `prepare` raises an error that says why
        length, channels = shape
        logger.info(
            f"A new encoder reads context_length={length} values of num_input_channels={channels}, as the training "
            "series say, unless --config_overrides sets them."
        )
        return {"context_length": length, "num_input_channels": channels}

    def fit(self, encoder: PreTrainedModel) -> None:
        self.fit_processor(encoder)
        layout = find_layout(encoder)
        sample = torch.zeros(1, self.length, self.channels, device=encoder.device)
        measurements = measure(encoder, layout, {self.reads: sample})
        # An encoder that does not keep channels apart reads them as one sequence.
        sequences = self.channels if layout.quirks.channels_apart else 1
        self.grid = (sequences, measurements.length // sequences)
        self.num_prefix_tokens = measurements.prefix

    def fit_processor(self, encoder: PreTrainedModel) -> None:
        self.check_encoder(encoder)
        config = encoder.config
        for name in ("context_length", "num_input_channels"):
            if not hasattr(config, name):
                raise ValueError(
                    f"A {config.model_type} encoder has no {name}, so which series it reads is unknown. Choose e.g. "
                    f"{self.suggestions}, or say what the data are with --modality."
                )
        self.length, self.channels = config.context_length, config.num_input_channels
        if not getattr(config, "scaling", True):
            logger.warning(
                f"This {config.model_type} encoder does not scale what it reads (scaling={config.scaling}), so values "
                "are learned from as they are stored: scale them to a mean of 0 and a spread of 1 beforehand, or "
                "leave scaling out of --config_overrides."
            )

    def check(self, mask: MaskSampler) -> None:
        mask.check(self.grid[1:])

    def prepare(self, raw: Dataset, split: str, mask: MaskSampler) -> Dataset:
        return prepare_series(raw, self.data_args, split, self.length, self.channels)

    def prepare_whole(self, raw: Dataset, split: str) -> Dataset:
        return prepare_series(raw, self.data_args, split, self.length, self.channels)

    def collator(self, mask: MaskSampler, num_masks: int, seed: int, student_input: str) -> Any:
        return DataCollatorForData2VecSeries(self.grid, mask, num_masks, seed)

    def content_mask(self) -> ContentMask:
        return after_prefix(self.num_prefix_tokens)

    def plot_masks(self, batch: dict[str, torch.Tensor], path: Path) -> None:
        from .pictures import plot_series_masks  # matplotlib is an optional dependency

        masks = batch["mask"][:, 0].reshape(-1, *self.grid).numpy()
        plot_series_masks(batch["past_values"].numpy(), masks, path)

    def plot_features(
        self, batch: dict[str, torch.Tensor], colours: Mapping[str, Sequence[np.ndarray]], path: Path
    ) -> None:
        from .pictures import plot_series_features  # matplotlib is an optional dependency

        plot_series_features(batch["past_values"].numpy(), colours, path)

    def samples_of(self, batch: dict[str, torch.Tensor]) -> list[Any]:
        return list(batch["past_values"].numpy())
