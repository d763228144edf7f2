"""Classification and regression of texts, pairs of texts and proteins."""

from collections.abc import Mapping
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from transformers import AutoModelForSequenceClassification
from transformers.data.data_collator import pad_without_fast_tokenizer_warning

from ....modalities.text.tokens import prepare_text
from .base import Classification


class TextClassification(Classification):
    """One sequence per row, made of one text or of a pair of texts, and cut at --max_seq_length."""

    name = "text-classification"
    modality_name = "text"
    pipeline_tag = "text-classification"
    pipeline_input = '"a text"'
    auto_class = AutoModelForSequenceClassification
    own_flags = (*Classification.own_flags, "text_pair_column_name")
    # The appendix of data2vec fine-tunes on GLUE as BERT and RoBERTa do: batch 16 or 32, 10 epochs, warm-up in the
    # first 6% of the steps. Learning rates of 1e-5, 2e-5, 4e-5 and 6e-5 were tried on each task.
    defaults = {
        "learning_rate": 2e-5,
        "per_device_train_batch_size": 32,
        "num_train_epochs": 10,
        "warmup_steps": 0.06,
        "weight_decay": 0.1,
        "lr_scheduler_type": "polynomial",
    }

    def samples(self, rows: Dataset, split: str) -> Dataset:
        return prepare_text(rows, self.processor, self.data_args, split, line_by_line=True, min_tokens=1)

    def inputs(self, examples: list[dict[str, Any]]) -> dict[str, Tensor]:
        padded = pad_without_fast_tokenizer_warning(
            self.processor,
            {name: [example[name] for example in examples] for name in _READ if name in examples[0]},
            return_attention_mask=True,
            return_tensors="pt",
        )
        return {name: torch.as_tensor(values) for name, values in padded.items()}

    def picture(self, example: Mapping[str, Any]) -> str:
        return self.processor.decode(example["input_ids"], skip_special_tokens=True)


_READ = ("input_ids", "token_type_ids")  # the latter only for pairs of texts
