"""Classification and regression of sound clips."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from datasets import Dataset
from torch import Tensor
from transformers import AutoModelForAudioClassification, PreTrainedModel

from ....modalities.speech.collator import pad_waveforms
from .base import Classification


class AudioClassification(Classification):
    """One clip per row.

    Clips longer than --max_duration_in_seconds are split into pieces, each of which is a sample with the clip's label.
    """

    name = "audio-classification"
    modality_name = "speech"
    pipeline_tag = "audio-classification"
    pipeline_input = '{"raw": wave, "sampling_rate": 16000}'
    auto_class = AutoModelForAudioClassification
    # Neither paper has such a task. The values are those of transformers' own example (keyword spotting with
    # wav2vec2-base): 5 epochs at batch 32, warm-up in the first 10% of the steps. The convolutions are frozen, as in
    # all fine-tuning runs of both papers.
    defaults = {
        "learning_rate": 3e-5,
        "per_device_train_batch_size": 32,
        "num_train_epochs": 5,
        "warmup_steps": 0.1,
        "freeze_convolutions": True,
    }

    def fit(self, encoder: PreTrainedModel) -> None:
        """Fit the processor as the base class does, and turn off the encoder's spec augmentation."""
        self.modality.fit(encoder)
        # It raises an error for clips that are shorter than one of its masks. Encoders that were pre-trained by this
        # package have it turned off already.
        encoder.config.apply_spec_augment = False

    def samples(self, rows: Dataset, split: str) -> Dataset:
        from ....modalities.speech.waveforms import prepare_pieces  # needs the packages for sound

        shortest = self.modality.num_frames.samples_for(1)  # type: ignore[attr-defined]  # the modality is speech
        return prepare_pieces(rows, self.processor, self.data_args, split, shortest)

    def inputs(self, examples: list[dict[str, Any]]) -> dict[str, Tensor]:
        return pad_waveforms(self.processor, [example["audio"] for example in examples])

    def source_rows(self, dataset: Dataset) -> list[int]:
        return dataset.with_format(None)["clip"][:]

    def picture(self, example: Mapping[str, Any]) -> np.ndarray:
        return example["audio"]
