"""Makes batches of tokens: pads them, draws masks, and replaces tokens in what the student reads."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.data.data_collator import pad_without_fast_tokenizer_warning

from ...masking.sample_rng import TOKENS, RowGenerators
from ...masking.sampler import MaskSampler, draw_sequence_masks
from ...masking.shapes import bert_replace
from ..base_collator import Batch, Example, MaskingCollator, column

_MOST_DOCUMENTS = 1 << 20  # in a sample: documents of different samples have different numbers


@dataclass
class DataCollatorForData2VecText(MaskingCollator):
    """Turns samples with `input_ids`, `special_tokens_mask` and `sample_index` into padded batches.

    A batch has `input_ids` and `attention_mask` (B, T) int64, and `mask` (B, M, T) bool, which is False at special
    tokens and padding, with its `mask_positions`. With `student_tokens` it also has `student_input_ids` (B, M, T)
    int64, in which 80% of the masked tokens are the mask token, 10% are random tokens, and 10% are unchanged.

    With `packed_length`, samples hold several documents, of the lengths `document_lengths`. Each document is masked as
    if it were a sample of its own, and a batch also has `document_ids` (B, T) int64: for each position the number of
    its document within the sample, from 1 on, and 0 at padding.

    Args:
        tokenizer: a tokenizer of transformers.
        mask: how masks are drawn.
        num_masks: M, masks per sample.
        seed: of masks and random tokens.
        student_tokens: whether the student reads mask tokens (and not visible positions only).
        pad_to_multiple_of: as for tokenizers of transformers.
        packed_length: T of all batches, if samples hold several documents; None if each is one.

    Raises:
        ValueError: the tokenizer has no padding token, or no mask token with `student_tokens`.
    """

    tokenizer: Any
    mask: MaskSampler
    num_masks: int = 1
    seed: int = 0
    student_tokens: bool = True
    pad_to_multiple_of: int | None = None
    packed_length: int | None = None

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
        padded = self._pad(examples, ["input_ids", "special_tokens_mask"], self.packed_length)
        # The tokenizer marks the padding that it adds as special.
        allowed = padded.pop("special_tokens_mask") == 0
        if self.packed_length is None:
            masks = self._masks(allowed, padded["attention_mask"], indices)
        else:
            documents = [example["document_lengths"] for example in examples]
            padded["document_ids"] = _document_ids(padded["attention_mask"], documents)
            masks = self._masks_of_documents(allowed, padded["attention_mask"], documents, indices)
        if self.student_tokens:
            padded["student_input_ids"] = self._student_tokens(padded["input_ids"], masks, indices)
        batch = {name: torch.from_numpy(array) for name, array in padded.items()}
        return self._with_masks(batch, masks, batch["attention_mask"].bool(), batch.get("document_ids"))

    def plain(self, examples: Sequence[Example]) -> Batch:
        """The encoder's inputs without masks: `input_ids` and `attention_mask` (B, T) int64."""
        return {name: torch.from_numpy(array) for name, array in self._pad(examples, ["input_ids"]).items()}

    def _pad(
        self, examples: Sequence[Example], names: Sequence[str], length: int | None = None
    ) -> dict[str, NDArray[np.int64]]:
        """The columns, padded to the longest sample, or to this length."""
        columns = {name: column(examples, name) for name in names}
        padded = pad_without_fast_tokenizer_warning(
            self.tokenizer,
            columns,
            padding=True if length is None else "max_length",
            max_length=length,
            pad_to_multiple_of=self.pad_to_multiple_of,
            return_attention_mask=True,
            return_tensors="np",
        )
        return {name: np.asarray(array, dtype=np.int64) for name, array in padded.items()}

    def _masks(
        self, allowed: NDArray[np.bool_], attention_mask: NDArray[np.int64], indices: Sequence[int]
    ) -> NDArray[np.bool_]:
        content = self._content(allowed, attention_mask)
        return draw_sequence_masks(self.mask, allowed, self.num_masks, self.seed, self.epoch, indices, content)

    def _masks_of_documents(
        self,
        allowed: NDArray[np.bool_],
        attention_mask: NDArray[np.int64],
        documents: Sequence[Sequence[int]],
        indices: Sequence[int],
    ) -> NDArray[np.bool_]:
        """Masks (B, M, T), drawn for each document by the number of its sample and its place in the sample."""
        lengths = np.concatenate(documents)
        inside = np.arange(lengths.max()) < lengths[:, None]  # (documents, longest)
        real = attention_mask == 1
        own = np.zeros(inside.shape, bool)
        own[inside] = allowed[real]
        numbers = [
            index * _MOST_DOCUMENTS + place
            for index, found in zip(indices, documents, strict=True)
            for place in range(len(found))
        ]
        drawn = self._masks(own, inside.astype(np.int64), numbers)
        masks = np.zeros((self.num_masks, *allowed.shape), bool)
        masks[:, real] = drawn.swapaxes(0, 1)[:, inside]
        return np.ascontiguousarray(masks.swapaxes(0, 1))

    def _content(self, allowed: NDArray[np.bool_], attention_mask: NDArray[np.int64]) -> NDArray[np.bool_]:
        """The positions between the special tokens around each sequence, bool (B, T), including separators of packed
        rows. The first of them is never a separator."""
        first = allowed.argmax(axis=1)
        last = allowed.shape[1] - allowed[:, ::-1].argmax(axis=1)  # exclusive
        around = self.tokenizer.num_special_tokens_to_add()
        end = np.maximum(first + attention_mask.sum(axis=1) - around, last)
        places = np.arange(allowed.shape[1])
        return (places >= first[:, None]) & (places < end[:, None])

    def _student_tokens(
        self, tokens: NDArray[np.int64], masks: NDArray[np.bool_], indices: Sequence[int]
    ) -> NDArray[np.int64]:
        rng = RowGenerators.for_samples(self.seed, self.epoch, indices, TOKENS, copies=self.num_masks)
        rows = np.repeat(tokens, self.num_masks, axis=0)
        flat = masks.reshape(rows.shape)
        return bert_replace(rows, flat, self.tokenizer.mask_token_id, self._vocabulary, rng).reshape(masks.shape)

    @cached_property
    def _vocabulary(self) -> NDArray[np.int64]:
        """The ids of all tokens except special ones, (V,)."""
        special = {i for i, token in self.tokenizer.added_tokens_decoder.items() if token.special}
        special.update(self.tokenizer.all_special_ids)
        return np.array(sorted(set(self.tokenizer.get_vocab().values()) - special), dtype=np.int64)


def _document_ids(attention_mask: NDArray[np.int64], documents: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """(B, T): 1 at the first document of each sample, 2 at its second, ..., and 0 at padding."""
    numbers = [np.repeat(np.arange(1, len(lengths) + 1), lengths) for lengths in documents]
    ids = np.zeros_like(attention_mask)
    ids[attention_mask == 1] = np.concatenate(numbers)
    return ids
