"""Masked language modelling, with the models, the collator and the Trainer that transformers' run_mlm.py uses."""

from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    DataCollatorForLanguageModeling,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from ..training import Trained, plain_encoder, train_peer


def train_mlm(
    config: PreTrainedConfig,
    texts: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    mask_ratio: float,
    max_seq_length: int,
    **arguments: Any,
) -> Trained:
    """Trains to predict masked tokens, of which 80% are replaced by the mask token, 10% by others and 10% by none.

    Args:
        config: of the plain encoder.
        texts: a column `text`; each row is a sample.
        tokenizer: of the encoder.
        folder: see `train_peer`.
        mask_ratio: share of the tokens that are predicted.
        max_seq_length: where texts are cut, in tokens.
        arguments: of `TrainingArguments`.
    """

    def tokens(rows: dict[str, list]) -> dict[str, list]:
        # As run_mlm.py: with the mask of special tokens, which the collator would make for each batch otherwise.
        encoded = tokenizer(rows["text"], truncation=True, max_length=max_seq_length, return_special_tokens_mask=True)
        return {name: encoded[name] for name in ("input_ids", "special_tokens_mask")}

    def plain(model: PreTrainedModel) -> PreTrainedModel:
        # Masked language models have no pooler: that of the plain encoder stays new.
        return plain_encoder(AutoModel.from_config(config), model.base_model.state_dict(), ["pooler."])

    mask = DataCollatorForLanguageModeling(tokenizer, mlm_probability=mask_ratio)
    samples = texts.map(tokens, batched=True, remove_columns=texts.column_names, desc="Tokenising").to_list()
    # As a list, for the sampler reads the length of each text on its own, which takes a minute with a Dataset.
    return train_peer(AutoModelForMaskedLM.from_config(config), samples, mask, plain, tokenizer, folder, **arguments)
