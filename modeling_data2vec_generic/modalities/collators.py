"""Samples to batches: pad, draw the masks, and for images crop and normalise.

Every random choice is a function of (seed, epoch, sample_index, which mask of the sample): the same sample gets the
same masks and crop whatever the batch around it, the number of workers, or the number of processes.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.data.data_collator import pad_without_fast_tokenizer_warning

from ..masking.sample_rng import CROP, TOKENS, DrawsByEpoch, RowStreams
from ..masking.sampler import MaskSampler, draw_grid_masks, draw_sequence_masks
from ..masking.shapes import bert_replace

if TYPE_CHECKING:
    from .vision.pixels import RandomResizedCrop

Example = Mapping[str, Any]
Batch = dict[str, torch.Tensor]


class _EpochSeeded(DrawsByEpoch):
    """What the collators share: the epoch, and which samples a batch holds."""

    num_masks: int

    def __post_init__(self) -> None:
        if self.num_masks < 1:
            raise ValueError(f"num_masks={self.num_masks} must be at least 1.")
        super().__init__()

    def for_evaluation(self) -> Self:
        """The same collator with its epoch fixed at 0, so that evaluations mask alike."""
        return dataclasses.replace(self)  # type: ignore[type-var]  # each subclass is a dataclass

    @staticmethod
    def _sample_indices(examples: Sequence[Example]) -> list[int]:
        if any("sample_index" not in example for example in examples):
            raise ValueError(
                f"An example without sample_index (it has: {', '.join(examples[0])}). Masks belong to samples: give "
                "each row its position, dataset.map(lambda row, i: {'sample_index': i}, with_indices=True), and keep "
                "the column (remove_unused_columns=False)."
            )
        return [int(example["sample_index"]) for example in examples]


@dataclass
class DataCollatorForData2VecVision(_EpochSeeded):
    """Images (PIL, key `image`) to `pixel_values` (B, C, H, W) float32 and `mask` (B, M, rows * columns) bool.

    `grid`: rows and columns of patches. `augment`: a random crop for each sample and epoch; None = as the processor
    does it.
    """

    image_processor: Any
    grid: tuple[int, int]
    mask: MaskSampler
    num_masks: int = 1
    seed: int = 0
    augment: "RandomResizedCrop | None" = None

    def __post_init__(self) -> None:
        from .vision.pixels import PixelPipeline  # Pillow is an extra

        super().__post_init__()
        self.mask.check(self.grid)
        self._pixels = PixelPipeline(self.image_processor)

    def __call__(self, examples: Sequence[Example]) -> Batch:
        indices = self._sample_indices(examples)
        images = _column(examples, "image")
        if self.augment is None:
            pixel_values = self._pixels.plain(images)
        else:
            streams = RowStreams.for_samples(self.seed, self.epoch, indices, CROP)
            pixel_values = self._pixels.cropped(images, self.augment, streams)
        masks = draw_grid_masks(self.mask, self.grid, self.num_masks, self.seed, self.epoch, indices)
        return {"pixel_values": pixel_values, "mask": torch.from_numpy(masks)}

    def plain(self, examples: Sequence[Example]) -> Batch:
        """The encoder's inputs without crop or mask, equal to what the image processor gives."""
        return {"pixel_values": self._pixels.plain(_column(examples, "image"))}

    def for_evaluation(self) -> Self:
        """The same collator with its epoch fixed at 0 and no crops, so that evaluations see and mask the same."""
        return dataclasses.replace(self, augment=None)


@dataclass
class DataCollatorForData2VecText(_EpochSeeded):
    """Tokens (`input_ids` with special tokens, `special_tokens_mask`) to padded batches:

    `input_ids`, `attention_mask` (B, T) int64; `mask` (B, M, T) bool, False at special tokens and padding; with
    `student_tokens` also `student_input_ids` (B, M, T) int64, in which 80% of the masked tokens are the mask token,
    10% random, 10% unchanged.
    """

    tokenizer: Any
    mask: MaskSampler
    num_masks: int = 1
    seed: int = 0
    student_tokens: bool = True
    pad_to_multiple_of: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        needed = ["pad_token", "mask_token"] if self.student_tokens else ["pad_token"]
        for token in needed:
            if getattr(self.tokenizer, token) is None:
                raise ValueError(
                    f"{token} is not set in {type(self.tokenizer).__name__}. Add one, "
                    f"tokenizer.add_special_tokens({{'{token}': ...}}), or choose a tokenizer that has it."
                )

    def __call__(self, examples: Sequence[Example]) -> Batch:
        indices = self._sample_indices(examples)
        padded = self._pad(examples, ["input_ids", "special_tokens_mask"])
        # The tokenizer marks the padding that it adds as special.
        allowed = padded.pop("special_tokens_mask") == 0
        content = self._content(allowed, padded["attention_mask"])
        masks = draw_sequence_masks(self.mask, allowed, self.num_masks, self.seed, self.epoch, indices, content)
        arrays = {**padded, "mask": masks}
        if self.student_tokens:
            arrays["student_input_ids"] = self._student_tokens(padded["input_ids"], masks, indices)
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    def plain(self, examples: Sequence[Example]) -> Batch:
        """The encoder's inputs without masks: `input_ids`, `attention_mask`."""
        return {name: torch.from_numpy(array) for name, array in self._pad(examples, ["input_ids"]).items()}

    def _pad(self, examples: Sequence[Example], names: Sequence[str]) -> dict[str, NDArray[np.int64]]:
        columns = {name: _column(examples, name) for name in names}
        padded = pad_without_fast_tokenizer_warning(
            self.tokenizer,
            columns,
            pad_to_multiple_of=self.pad_to_multiple_of,
            return_attention_mask=True,
            return_tensors="np",
        )
        return {name: np.asarray(array, dtype=np.int64) for name, array in padded.items()}

    def _content(self, allowed: NDArray[np.bool_], attention_mask: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(B, T): what stands between the special tokens around a sequence, the separators of packed rows included.
        The first of it is never one."""
        first = allowed.argmax(axis=1)
        last = allowed.shape[1] - allowed[:, ::-1].argmax(axis=1)  # exclusive
        around = self.tokenizer.num_special_tokens_to_add()
        end = np.maximum(first + attention_mask.sum(axis=1) - around, last)
        places = np.arange(allowed.shape[1])
        return (places >= first[:, None]) & (places < end[:, None])

    def _student_tokens(
        self, tokens: NDArray[np.int64], masks: NDArray[np.bool_], indices: Sequence[int]
    ) -> NDArray[np.int64]:
        streams = RowStreams.for_samples(self.seed, self.epoch, indices, TOKENS, copies=self.num_masks)
        rows = np.repeat(tokens, self.num_masks, axis=0)
        flat = masks.reshape(rows.shape)
        return bert_replace(rows, flat, self.tokenizer.mask_token_id, self._vocabulary, streams).reshape(masks.shape)

    @cached_property
    def _vocabulary(self) -> NDArray[np.int64]:
        """The ids of all tokens but special ones (V,)."""
        special = {i for i, token in self.tokenizer.added_tokens_decoder.items() if token.special}
        special.update(self.tokenizer.all_special_ids)
        return np.array(sorted(set(self.tokenizer.get_vocab().values()) - special), dtype=np.int64)


@dataclass
class DataCollatorForData2VecSpeech(_EpochSeeded):
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
        frames = np.array([self.num_frames(len(audio)) for audio in _column(examples, "audio")])
        allowed = np.arange(self.num_frames(batch["input_values"].shape[1])) < frames[:, None]
        masks = draw_sequence_masks(self.mask, allowed, self.num_masks, self.seed, self.epoch, indices)
        return {**batch, "mask": torch.from_numpy(masks)}

    def plain(self, examples: Sequence[Example]) -> Batch:
        """The encoder's inputs without masks: `input_values`, `attention_mask`."""
        return pad_waveforms(self.feature_extractor, _column(examples, "audio"))


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


@dataclass
class DataCollatorForData2VecSeries(_EpochSeeded):
    """Time series (`series`, float32 (S, channels)) to `past_values` (B, S, channels) float32 and `mask` (B, M, T)
    bool.

    `grid`: sequences and patches of each, T = sequences * patches, counted sequence by sequence. Encoders that keep
    channels apart have a sequence per channel. Each is masked by itself: masks of the same kind, drawn independently.
    """

    grid: tuple[int, int]
    mask: MaskSampler
    num_masks: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.mask.check(self.grid[1:])

    def __call__(self, examples: Sequence[Example]) -> Batch:
        indices = self._sample_indices(examples)
        sequences, patches = self.grid
        masks = draw_grid_masks(self.mask, (patches,), self.num_masks * sequences, self.seed, self.epoch, indices)
        masks = masks.reshape(len(examples), self.num_masks, -1)
        return {**self.plain(examples), "mask": torch.from_numpy(masks)}

    def plain(self, examples: Sequence[Example]) -> Batch:
        """The encoder's input without masks: `past_values`."""
        return {"past_values": torch.from_numpy(np.stack(_column(examples, "series")).astype(np.float32))}


@dataclass
class DataCollatorForData2VecVideo(_EpochSeeded):
    """Clips (`video`, lists of F PIL images) to `pixel_values` (B, F, C, H, W) float32 and `mask` (B, M, T) bool.

    `grid`: steps in time, rows and columns of patches, T = steps * rows * columns. Masks are tubes, as in VideoMAE
    (arXiv 2203.12602): one mask of the rows and columns, drawn as for an image, holds for all of a clip, or what is
    masked could be read off the frames before and after. `augment`: a random crop for each sample and epoch, the same
    for all frames; None = as the processor does it.
    """

    image_processor: Any
    grid: tuple[int, int, int]
    mask: MaskSampler
    num_masks: int = 1
    seed: int = 0
    augment: "RandomResizedCrop | None" = None

    def __post_init__(self) -> None:
        from .video.clips import ClipPipeline  # Pillow is an extra

        super().__post_init__()
        self.mask.check(self.grid[1:])
        self._pixels = ClipPipeline(self.image_processor)

    def __call__(self, examples: Sequence[Example]) -> Batch:
        indices = self._sample_indices(examples)
        steps, rows, columns = self.grid
        masks = draw_grid_masks(self.mask, (rows, columns), self.num_masks, self.seed, self.epoch, indices)
        if self.augment is None:
            batch = self.plain(examples)
        else:
            streams = RowStreams.for_samples(self.seed, self.epoch, indices, CROP)
            batch = {"pixel_values": self._pixels.cropped(_column(examples, "video"), self.augment, streams)}
        return {**batch, "mask": torch.from_numpy(np.tile(masks, steps))}

    def plain(self, examples: Sequence[Example]) -> Batch:
        """The encoder's input without crop or mask, equal to what the image processor gives."""
        return {"pixel_values": self._pixels.plain(_column(examples, "video"))}

    def for_evaluation(self) -> Self:
        """The same collator with its epoch fixed at 0 and no crops, so that evaluations see and mask the same."""
        return dataclasses.replace(self, augment=None)


def _column(examples: Sequence[Example], name: str) -> list[Any]:
    return [example[name] for example in examples]
