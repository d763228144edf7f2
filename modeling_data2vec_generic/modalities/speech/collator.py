"""Waveforms to batches: pad, and draw the masks of frames."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...masking.sampler import MaskSampler, draw_sequence_masks
from ..base_collator import Batch, Example, MaskingCollator, column


@dataclass
class DataCollatorForData2VecSpeech(MaskingCollator):
    """Waveforms (`audio`, float32 at the feature extractor's rate) to padded batches:

    `input_values` (B, S) float32, `attention_mask` (B, S) int64; `mask` (B, M, T) bool over frames, False at padded
    frames. `num_frames`: samples in, frames out, by the encoder's convolutions.

    The attention mask is always made, also for feature extractors that by their own setting give none (wav2vec2-base):
    without it a waveform's normalisation would depend on the batch's padding, and padded frames would be encoded as if
    they were silence.
    """

    feature_extractor: Any
    num_frames: Callable[[int], int]
    mask: MaskSampler
    num_masks: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.feature_extractor.padding_side != "right":
            raise ValueError(
                f"padding_side={self.feature_extractor.padding_side!r} of the feature extractor is not supported: "
                "frames are counted from the start of the waveform. Set padding_side='right'."
            )

    def __call__(self, examples: Sequence[Example]) -> Batch:
        indices = self._sample_indices(examples)
        batch = self.plain(examples)
        frames = np.array([self.num_frames(len(audio)) for audio in column(examples, "audio")])
        allowed = np.arange(self.num_frames(batch["input_values"].shape[1])) < frames[:, None]
        masks = draw_sequence_masks(self.mask, allowed, self.num_masks, self.seed, self.epoch, indices)
        return {**batch, "mask": torch.from_numpy(masks)}

    def plain(self, examples: Sequence[Example]) -> Batch:
        """The encoder's inputs without masks: `input_values`, `attention_mask`."""
        return pad_waveforms(self.feature_extractor, column(examples, "audio"))


def pad_waveforms(feature_extractor: Any, waveforms: Sequence[NDArray[np.float32]]) -> Batch:
    """`input_values` (B, S) float32 and `attention_mask` (B, S) int64, always made."""
    padded = feature_extractor(
        waveforms,
        sampling_rate=feature_extractor.sampling_rate,
        padding=True,
        return_attention_mask=True,
        return_tensors="pt",
    )
    return {"input_values": padded["input_values"].float(), "attention_mask": padded["attention_mask"].long()}
