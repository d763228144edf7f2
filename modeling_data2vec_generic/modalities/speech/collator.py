"""Makes batches of waveforms: pads them, and draws masks of frames."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from ...masking.sample_rng import CROP, RowGenerators
from ...masking.sampler import MaskSampler, draw_sequence_masks
from ..base_collator import Batch, Example, MaskingCollator, column
from .long_clips import LongClip

_TRIES = 4  # parts of a long clip that are tried until one is not silent


@dataclass
class DataCollatorForData2VecSpeech(MaskingCollator):
    """Turns samples with `audio` and `sample_index` into padded batches.

    `audio` is a waveform, float32 (samples,) at the feature extractor's rate, or a `LongClip`, of which a random part
    is read. That part depends on (seed, epoch, sample) alone.

    A batch has `input_values` (B, S) float32, `attention_mask` (B, S) int64, and `mask` (B, M, T) bool over frames,
    which is False at padding, with its `mask_positions`.

    The attention mask is also made for feature extractors whose settings ask for none (wav2vec2-base). Without it the
    normalisation of a waveform would depend on the padding of its batch, and padding would be encoded as silence.

    Args:
        feature_extractor: a feature extractor of transformers, with padding on the right.
        num_frames: the number of frames that the encoder's convolutions make of a number of samples.
        mask: how masks are drawn.
        num_masks: M, masks per sample.
        seed: of masks and parts.
        random_parts: whether parts of long clips are random. False: always the same one.

    Raises:
        ValueError: the feature extractor pads on the left.
        Unreadable: while making a batch, if a part of a long clip cannot be read, or all that were tried are silent.
    """

    feature_extractor: Any
    num_frames: Callable[[int], int]
    mask: MaskSampler
    num_masks: int = 1
    seed: int = 0
    random_parts: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.feature_extractor.padding_side != "right":
            raise ValueError(
                f"padding_side={self.feature_extractor.padding_side!r} of the feature extractor is not supported: "
                "frames are counted from the start of the waveform. Set padding_side='right'."
            )

    def __call__(self, examples: Sequence[Example]) -> Batch:
        indices = self._sample_indices(examples)
        waveforms = self._cropped(column(examples, "audio"), indices)
        batch = pad_waveforms(self.feature_extractor, waveforms)
        frames = np.array([self.num_frames(len(waveform)) for waveform in waveforms])
        allowed = np.arange(self.num_frames(batch["input_values"].shape[1])) < frames[:, None]
        masks = draw_sequence_masks(self.mask, allowed, self.num_masks, self.seed, self.epoch, indices)
        return self._with_masks(batch, masks, torch.from_numpy(allowed))

    def positions(self, lengths: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many frames the encoder makes of waveforms of these lengths, in samples."""
        return self.num_frames(lengths)  # type: ignore[arg-type, return-value]  # arithmetic, of arrays too

    def plain(self, examples: Sequence[Example]) -> Batch:
        """The encoder's inputs without masks: `input_values` (B, S) float32 and `attention_mask` (B, S) int64.

        Of a long clip it is always the same part.
        """
        return pad_waveforms(self.feature_extractor, [_fixed(audio) for audio in column(examples, "audio")])

    def for_evaluation(self) -> Self:
        """A copy of the collator whose epoch stays 0, as in the base class, and whose parts of clips are fixed."""
        return dataclasses.replace(self, random_parts=False)

    def _cropped(self, sounds: Sequence[Any], indices: Sequence[int]) -> list[NDArray[np.float32]]:
        if not self.random_parts:
            return [_fixed(sound) for sound in sounds]
        rng = RowGenerators.for_samples(self.seed, self.epoch, indices, CROP)
        places = rng.random((len(sounds), _TRIES))
        return [
            sound.crop(row) if isinstance(sound, LongClip) else sound
            for sound, row in zip(sounds, places, strict=True)
        ]


def _fixed(sound: Any) -> NDArray[np.float32]:
    return sound.fixed() if isinstance(sound, LongClip) else sound


def pad_waveforms(feature_extractor: Any, waveforms: Sequence[NDArray[np.float32]]) -> Batch:
    """Pads waveforms to `input_values` (B, S) float32 and `attention_mask` (B, S) int64."""
    padded = feature_extractor(
        waveforms,
        sampling_rate=feature_extractor.sampling_rate,
        padding=True,
        return_attention_mask=True,
        return_tensors="pt",
    )
    return {"input_values": padded["input_values"].float(), "attention_mask": padded["attention_mask"].long()}
