"""Text, including proteins as text of amino acids."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import nn
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.tokenization_utils_base import LARGE_INTEGER

from ...data.arguments import DataArguments
from ...evaluation.probe import ContentMask, real_tokens
from ...masking.sampler import MaskSampler
from ...training.arguments import ModelArguments
from ..base_modality import Modality
from .amino_acids import amino_acid_tokenizer
from .collator import DataCollatorForData2VecText
from .tokenizer import check_tokenizer, tokenizer_trained_on
from .tokens import prepare_labelled_lines, prepare_text, sequence_length

_DRAWN = 450  # tokens of a sample that pictures show at most: a few lines of them


class Text(Modality):
    """Sequences of tokens: rows are joined and cut, fill sequences as they are, or are one each."""

    reads = "input_ids"
    suggestions = "bert or roberta"
    processor_class = AutoTokenizer
    unit = "tokens"
    probe_task = "text-classification"
    encoder_call = '**processor(texts, padding=True, return_tensors="pt")'

    def __init__(self, model_args: ModelArguments, data_args: DataArguments, raw: Dataset):
        super().__init__(model_args, data_args, raw)
        if self.source is not None and not data_args.train_tokenizer:
            self.processor = self.load_processor(self.processor_class)
        else:
            self.processor = self._new_tokenizer(raw)
            if data_args.max_seq_length is not None:
                self.processor.model_max_length = data_args.max_seq_length
        check_tokenizer(self.processor)

    def _new_tokenizer(self, raw: Dataset) -> PreTrainedTokenizerBase:
        if self.data_args.train_tokenizer:
            return tokenizer_trained_on(raw, self.data_args.tokenizer_vocab_size)
        if self.model_args.model_type == "esm":  # all ESM models have the same vocabulary
            return amino_acid_tokenizer()
        raise ValueError(
            "An encoder for text needs a tokenizer: name one with --processor_name, or let one be trained on "
            "the data with --train_tokenizer."
        )

    def encoder_defaults(self) -> dict[str, Any]:
        ids = {f"{kind}_token_id": getattr(self.processor, f"{kind}_token_id") for kind in ("pad", "mask")}
        return {"vocab_size": len(self.processor), **ids}

    def read_whole(self, encoder: PreTrainedModel) -> None:
        limits = (self.processor.model_max_length, position_limit(encoder))
        known = [limit for limit in limits if limit is not None and limit < LARGE_INTEGER]
        if known and self.data_args.max_seq_length is None:
            self.data_args = replace(self.data_args, max_seq_length=min(known))

    def fit(self, encoder: PreTrainedModel) -> None:
        self.check_encoder(encoder)
        embedded = getattr(encoder.config, "vocab_size", None)  # CANINE has none, since it hashes characters
        if embedded is not None and len(self.processor) > embedded:
            raise ValueError(
                f"The tokenizer has {len(self.processor)} tokens and the encoder embeds {embedded}: they do not "
                "belong together. Name the encoder's own with --processor_name."
            )
        length, limit = sequence_length(self.processor, self.data_args), position_limit(encoder)
        if limit is not None and length > limit:
            raise ValueError(
                f"Sequences of {length} tokens are longer than the {limit} positions of the encoder. Set "
                f"--max_seq_length to at most {limit}, or raise max_position_embeddings with --config_overrides."
            )
        if limit is not None:  # saved with the tokenizer, so that pipelines cut longer texts
            self.processor.model_max_length = min(self.processor.model_max_length, limit)
        self.length = length

    def check(self, mask: MaskSampler) -> None:
        check_tokenizer(self.processor, ("mask", "pad"))
        mask.check((self.length - self.processor.num_special_tokens_to_add(),))

    def prepare(self, raw: Dataset, split: str, mask: MaskSampler) -> Dataset:
        return prepare_text(raw, self.processor, self.data_args, split, min_tokens=mask.min_positions)

    def prepare_whole(self, raw: Dataset, split: str) -> Dataset:
        return prepare_text(raw, self.processor, self.data_args, split, line_by_line=True, min_tokens=1)

    def prepare_labelled(self, raw: Dataset, split: str, prepared: Dataset) -> Dataset | None:
        if "label" not in raw.column_names or self.data_args.line_by_line:
            return super().prepare_labelled(raw, split, prepared)
        return prepare_labelled_lines(raw, self.processor, self.data_args, split)

    def collator(self, mask: MaskSampler, num_masks: int, seed: int, student_input: str) -> Any:
        return DataCollatorForData2VecText(
            self.processor,
            mask,
            num_masks,
            seed,
            student_tokens=student_input == "mask_token",
            packed_length=self.length if self.data_args.packing else None,
        )

    def content_mask(self) -> ContentMask:
        return real_tokens

    def plot_masks(self, batch: dict[str, torch.Tensor], path: Path) -> None:
        from .pictures import plot_text_masks  # matplotlib is an optional dependency

        real = batch["attention_mask"].bool()
        masks = [mask[row].numpy() for mask, row in zip(batch["mask"][:, 0], real, strict=True)]
        plot_text_masks(self._pieces(batch), masks, path)

    def plot_features(
        self, batch: dict[str, torch.Tensor], colours: Mapping[str, Sequence[np.ndarray]], path: Path
    ) -> None:
        from .pictures import plot_text_features  # matplotlib is an optional dependency

        plot_text_features(self._pieces(batch), colours, path)

    def samples_of(self, batch: dict[str, torch.Tensor]) -> list[Any]:
        return self.processor.batch_decode(batch["input_ids"], skip_special_tokens=True)

    def _pieces(self, batch: dict[str, torch.Tensor]) -> list[list[str]]:
        """The first tokens of each sample as they stand in the text, with the blanks in front of them."""
        real = batch["attention_mask"].bool()
        return [self._pieces_of(ids[row][:_DRAWN].tolist()) for ids, row in zip(batch["input_ids"], real, strict=True)]

    def _pieces_of(self, ids: list[int]) -> list[str]:
        # Decoded one by one, tokens would lose the blanks between words, or the bytes of a letter that they share.
        ends = [
            len(self.processor.decode(ids[:end], clean_up_tokenization_spaces=False)) for end in range(len(ids) + 1)
        ]
        text = self.processor.decode(ids, clean_up_tokenization_spaces=False)
        return [text[start:end] for start, end in itertools.pairwise(ends)]


def position_limit(encoder: PreTrainedModel) -> int | None:
    """The number of positions in the encoder's table of position embeddings; None if it has no such table."""
    for name, module in encoder.named_modules():
        if "position" in name.split(".")[-1] and isinstance(module, nn.Embedding):
            # Models like RoBERTa count positions from after the padding index, and models like BART from an offset.
            unused = 0 if module.padding_idx is None else module.padding_idx + 1
            return module.num_embeddings - unused - getattr(module, "offset", 0)
    return None
