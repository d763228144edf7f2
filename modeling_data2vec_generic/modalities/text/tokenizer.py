"""Trains tokenizers on the data, and checks that a tokenizer has what training needs."""

from collections.abc import Iterable, Iterator, Sequence

from datasets import Dataset, Features, Value
from datasets.exceptions import DatasetGenerationError
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

_SPECIAL_TOKENS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}


def train_tokenizer(texts: Iterable[str | None], vocab_size: int) -> PreTrainedTokenizerFast:
    """Trains byte-level BPE, with [CLS] and [SEP] around a sequence. No character is unknown, since bytes are tokens.

    Args:
        texts: rows of text; empty ones are skipped.
        vocab_size: the size of the vocabulary, including special tokens. The index of [PAD] is 0.

    Raises:
        ValueError: `vocab_size` is too small for the special tokens and the 256 bytes, or there is no text.
    """
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    smallest = len(alphabet) + len(_SPECIAL_TOKENS)
    if vocab_size < smallest:
        raise ValueError(f"tokenizer_vocab_size={vocab_size} is below {smallest}, the bytes and special tokens alone.")
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.NFC()
    # The prefix space gives the first word of a row the same token that it has inside a row.
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(_SPECIAL_TOKENS.values()),
        initial_alphabet=alphabet,
        show_progress=True,
    )
    seen = 0

    def not_blank() -> Iterator[str]:
        nonlocal seen
        for text in texts:
            if text and text.strip():
                seen += 1
                yield text.strip()

    tokenizer.train_from_iterator(not_blank(), trainer)
    if not seen:
        raise ValueError("No text to train a tokenizer on: every row is empty. Check the text column.")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")],
    )
    return _as_transformers(tokenizer)


def tokenizer_trained_on(rows: Dataset, vocab_size: int) -> PreTrainedTokenizerFast:
    """Calls `train_tokenizer` for the column `text`, and caches the result with `datasets`.

    Other processes and later runs with the same rows find the tokenizer in the cache.
    """
    try:
        trained = Dataset.from_generator(
            _trained_tokenizer,
            features=Features({"tokenizer": Value("large_string")}),
            gen_kwargs={"rows": rows.select_columns("text"), "vocab_size": vocab_size},
        )
    except DatasetGenerationError as error:  # wraps the exception of the generator
        raise error.__cause__ or error from None
    return _as_transformers(Tokenizer.from_str(trained[0]["tokenizer"]))


def _trained_tokenizer(rows: Dataset, vocab_size: int) -> Iterator[dict[str, str]]:
    # In batches, since reading a dataset row by row takes a hundred times as long.
    texts = (text for batch in rows.iter(batch_size=1000) for text in batch["text"])
    yield {"tokenizer": train_tokenizer(texts, vocab_size).backend_tokenizer.to_str()}


def _as_transformers(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_input_names=["input_ids", "attention_mask"], **_SPECIAL_TOKENS
    )


def check_tokenizer(tokenizer: PreTrainedTokenizerBase, needed: Sequence[str] = ("pad",)) -> None:
    """Checks that a tokenizer has a vocabulary and the special tokens `needed`. Pre-training also needs "mask".

    Raises:
        ValueError: it lacks one of them.
    """
    if len(tokenizer) <= len(set(tokenizer.all_special_ids)):
        # transformers returns such a tokenizer for the folder of an encoder without a tokenizer.
        raise ValueError(
            f"The tokenizer of {tokenizer.name_or_path or type(tokenizer).__name__} knows special tokens only. Name "
            "one with --processor_name, or let one be trained with --train_tokenizer."
        )
    for kind in needed:
        if getattr(tokenizer, f"{kind}_token_id") is None:
            raise ValueError(
                f"The tokenizer {tokenizer.name_or_path or type(tokenizer).__name__} has no {kind} token, which "
                "training on text needs. Choose one of an encoder (BERT, RoBERTa, …), or let one be trained "
                "with --train_tokenizer."
            )


def knows_capitals_only(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether all tokens are upper case, like those for amino acids and nucleic bases.

    Lower case, which many such files have, is then read as upper case.
    """
    if tokenizer.convert_tokens_to_ids("a") not in (None, tokenizer.unk_token_id):  # almost any text tokenizer; quick
        return False
    words = [token for token in tokenizer.get_vocab() if token[:1] not in "<[" and token.upper() != token.lower()]
    return bool(words) and all(token.isupper() for token in words)


def as_known(text: str, capitals: bool) -> str:
    """The text, in upper case if the tokenizer knows `capitals` only."""
    return text.upper() if capitals and text.isascii() else text
