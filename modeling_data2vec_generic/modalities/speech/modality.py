"""Speech: waveforms, which the convolutions of encoders turn into frames."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import AutoFeatureExtractor, PreTrainedModel, Wav2Vec2FeatureExtractor

from ...evaluation.probe import ContentMask, real_frames
from ...geometry_data2vec_generic import FrameCounter
from ...masking.sampler import MaskSampler
from ..base_modality import Modality
from .collator import DataCollatorForData2VecSpeech
from .waveforms import prepare_parts, prepare_speech


class Speech(Modality):
    """Waveforms, turned into frames by the encoder's convolutions."""

    reads = "input_values"
    suggestions = "wav2vec2 or data2vec-audio"
    processor_class = AutoFeatureExtractor
    unit = "frames"
    probe_task = "audio-classification"
    encoder_call = '**processor(waves, sampling_rate=processor.sampling_rate, padding=True, return_tensors="pt")'

    def fit(self, encoder: PreTrainedModel) -> None:
        self.check_encoder(encoder)
        config = encoder.config
        if not hasattr(config, "conv_kernel") or not hasattr(config, "conv_stride"):
            raise ValueError(
                f"A {config.model_type} encoder has no conv_kernel and conv_stride, so how many frames it makes of a "
                "waveform is unknown. Choose e.g. wav2vec2 or data2vec-audio, or say what the data are with "
                "--modality."
            )
        self.num_frames = FrameCounter(tuple(config.conv_kernel), tuple(config.conv_stride))
        saved = self.saved_processor()
        self.processor = saved or Wav2Vec2FeatureExtractor(return_attention_mask=True)

    def check(self, mask: MaskSampler) -> None:
        mask.check((self.num_frames(int(self.data_args.max_duration_in_seconds * self.processor.sampling_rate)),))

    def prepare(self, raw: Dataset, split: str, mask: MaskSampler) -> Dataset:
        shortest = self.num_frames.samples_for(mask.min_positions)
        return prepare_speech(raw, self.processor, self.data_args, split, shortest, self.lengths_wanted)

    def prepare_whole(self, raw: Dataset, split: str) -> Dataset:
        return prepare_parts(raw, self.processor, self.data_args, split, self.num_frames.samples_for(1))

    def collator(self, mask: MaskSampler, num_masks: int, seed: int, student_input: str) -> Any:
        return DataCollatorForData2VecSpeech(self.processor, self.num_frames, mask, num_masks, seed)

    def content_mask(self) -> ContentMask:
        return real_frames(self.num_frames)

    def plot_masks(self, batch: dict[str, torch.Tensor], path: Path) -> None:
        from .pictures import plot_speech_masks  # matplotlib is an optional dependency

        waveforms = self.samples_of(batch)
        masks = [
            mask[: self.num_frames(len(waveform))].numpy()
            for mask, waveform in zip(batch["mask"][:, 0], waveforms, strict=True)
        ]
        plot_speech_masks(waveforms, masks, self.processor.sampling_rate, path)

    def plot_features(
        self, batch: dict[str, torch.Tensor], colours: Mapping[str, Sequence[np.ndarray]], path: Path
    ) -> None:
        from .pictures import plot_speech_features  # matplotlib is an optional dependency

        plot_speech_features(self.samples_of(batch), colours, path)

    def samples_of(self, batch: dict[str, torch.Tensor]) -> list[Any]:
        real = batch["attention_mask"].bool()
        return [wave[row].numpy() for wave, row in zip(batch["input_values"], real, strict=True)]
