"""Tokenises text that is split into words, and finds the first token of each word (for token classification)."""

from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase
from transformers.utils import logging

from ...data.arguments import DataArguments
from ...data.quality.processes import processes_for
from ...data.quality.screening import good_rows
from .tokenizer import as_known, check_tokenizer, knows_capitals_only
from .tokens import sequence_length

logger = logging.get_logger(__name__)

NOWHERE = -1  # in `first_tokens`, for a word without a token


def prepare_words(raw: Dataset, tokenizer: PreTrainedTokenizerBase, args: DataArguments, split: str) -> Dataset:
    """Tokenises rows of words, and cuts them at `sequence_length`.

    Rows in which no word has a token are bad rows (see `good_rows`).

    Args:
        raw: the rows. `text` is a list of words, or a string in which each letter is a word.
        tokenizer: the tokenizer.
        args: the flags.
        split: the split, for messages.

    Returns:
        A map-style dataset with the columns of `raw`, `input_ids`, and `first_tokens`: for each word the position of
        the first token with a letter of it, or -1 if it has no token.

    Raises:
        ValueError: too many rows are bad, or none is left.
    """
    check_tokenizer(tokenizer)
    length = sequence_length(tokenizer, args)
    samples = raw.map(
        _tokenise,
        batched=True,
        fn_kwargs={"tokenizer": tokenizer, "max_length": length},
        num_proc=processes_for(len(raw), args),
        desc=f"Tokenising {split} words",
    )
    places: list[list[int]] = samples["first_tokens"][:]
    if lost := sum(row.count(NOWHERE) for row in places):
        logger.warning(
            f"{lost} of {sum(map(len, places))} {split} words have no token within max_seq_length={length}: they are "
            "neither learned from nor predicted."
        )
    good = good_rows(
        ["" if max(row) > NOWHERE else "no word has a token" for row in places],
        samples,
        noun="sentence",
        split=split,
        max_bad_fraction=args.max_bad_fraction,
    )
    return samples if len(good) == len(samples) else samples.select(good)


def _tokenise(
    batch: dict[str, list[Any]], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> dict[str, list[list[int]]]:
    capitals = knows_capitals_only(tokenizer)
    texts = [
        as_known(words, capitals) if isinstance(words, str) else [as_known(word, capitals) for word in words]
        for words in batch["text"]
    ]
    rows = [list(words) for words in texts]
    options = {"truncation": True, "max_length": max_length}
    if tokenizer.is_fast:
        # Tokenised as one text, so that words have the same tokens as in pre-training. Given as words, those of
        # tokenizers like RoBERTa's would lack the space before a word.
        texts = [" ".join(filter(str.strip, words)) for words in rows]
        encoded = tokenizer(texts, return_offsets_mapping=True, **options)
        owners = [_owners_by_place(*pair) for pair in zip(rows, encoded["offset_mapping"], strict=True)]
    else:  # tokenizers written in Python, such as those of ESM and ByT5, do not give the places of tokens in the text
        pieces = [list(words) if isinstance(words, str) else _spaced(words) for words in texts]
        encoded = tokenizer(pieces, is_split_into_words=True, return_special_tokens_mask=True, **options)
        owners = [
            _owners_in_order(tokenizer, *pair) for pair in zip(pieces, encoded["special_tokens_mask"], strict=True)
        ]
    first_tokens = []
    for words, owned in zip(rows, owners, strict=True):
        places = [NOWHERE] * len(words)
        for position, word in enumerate(owned):
            if word is not None and places[word] == NOWHERE:
                places[word] = position
        first_tokens.append(places)
    return {"input_ids": encoded["input_ids"], "first_tokens": first_tokens}


def _owners_by_place(words: list[str], spans: list[tuple[int, int]]) -> list[int | None]:
    """The number of the word that each token belongs to; None for special tokens and spaces.

    Args:
        words: the words of a row.
        spans: for each token its place in the text, which is the words, without blank ones, joined by spaces.
    """
    letters: list[int | None] = []
    for number, word in enumerate(words):
        letters += [number] * len(word) + [None] if word.strip() else []
    return [next((owner for owner in letters[start:end] if owner is not None), None) for start, end in spans]


def _spaced(words: list[str]) -> list[str]:
    """The words, with a space before each except the first."""
    return [*words[:1], *(f" {word}" for word in words[1:])]


def _owners_in_order(
    tokenizer: PreTrainedTokenizerBase, words: list[str], special_tokens: list[int]
) -> list[int | None]:
    """Like `_owners_by_place`, for a tokenizer that tokenises words one by one."""
    owners = (
        None if token.isspace() else number for number, word in enumerate(words) for token in tokenizer.tokenize(word)
    )
    return [None if special else next(owners) for special in special_tokens]
