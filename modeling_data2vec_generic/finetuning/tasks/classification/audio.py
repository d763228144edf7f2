"""Sound: a class, several, or a number for each clip."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from datasets import Dataset
from torch import Tensor
from transformers import AutoModelForAudioClassification, PreTrainedModel

from ....modalities.speech.collator import pad_waveforms
from ....modalities.speech.waveforms import prepare_speech
from .base import Classification


class AudioClassification(Classification):
    """One clip per row. Clips longer than max_duration_in_seconds are pieces with the label of the clip, each of which
    counts by itself."""

    name = "audio-classification"
    modality_name = "speech"
    auto_class = AutoModelForAudioClassification
    # Neither paper has such a task. Those of transformers' own example (keyword spotting with wav2vec2-base): 5 epochs
    # at batch 32, the first 10% of the steps to warm up; the convolutions stay frozen as in all of both papers' runs.
    defaults = {
        "learning_rate": 3e-5,
        "per_device_train_batch_size": 32,
        "num_train_epochs": 5,
        "warmup_steps": 0.1,
        "freeze_convolutions": True,
    }

    def fit(self, encoder: PreTrainedModel) -> None:
        self.modality.fit(encoder)
        # Encoders that were pre-trained here come without it; it fails on clips shorter than one of its masks.
        encoder.config.apply_spec_augment = False

    def samples(self, rows: Dataset, split: str) -> Dataset:
        shortest = self.modality.num_frames.samples_for(1)  # type: ignore[attr-defined]  # the modality is speech
        return prepare_speech(rows, self.processor, self.data_args, split, shortest)

    def inputs(self, examples: list[dict[str, Any]]) -> dict[str, Tensor]:
        return pad_waveforms(self.processor, [example["audio"] for example in examples])

    def source_rows(self, dataset: Dataset) -> list[int]:
        return dataset.with_format(None)["clip"][:]

    def picture(self, example: Mapping[str, Any]) -> np.ndarray:
        return example["audio"]
