"""Text that is split into words: tokens, and where among them each word begins."""

from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase
from transformers.utils import logging

from ...data.arguments import DataArguments
from ...data.screening import good_rows
from .tokenizer import as_known, check_tokenizer, knows_capitals_only
from .tokens import sequence_length

logger = logging.get_logger(__name__)

NOWHERE = -1


def prepare_words(raw: Dataset, tokenizer: PreTrainedTokenizerBase, args: DataArguments, split: str) -> Dataset:
    """Map-style dataset of `input_ids`, `first_tokens` and the columns of `raw`, whose `text` is a list of words or a
    string of letters.

    `first_tokens` has for each word the position of the first token that holds a letter of it, -1 of a word without
    one. Sequences are cut at `sequence_length`. Rows of which no word has a token are left out (`good_rows`).
    """
    check_tokenizer(tokenizer)
    length = sequence_length(tokenizer, args)
    samples = raw.map(
        _tokenise,
        batched=True,
        fn_kwargs={"tokenizer": tokenizer, "max_length": length},
        num_proc=args.preprocessing_num_workers,
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
        # As one text, in which words have the tokens that pre-training gave them. Given as words, those of RoBERTa and
        # its kin would lack the space by which it knows where a word begins.
        texts = [" ".join(filter(str.strip, words)) for words in rows]
        encoded = tokenizer(texts, return_offsets_mapping=True, **options)
        owners = [_owners_by_place(*pair) for pair in zip(rows, encoded["offset_mapping"], strict=True)]
    else:  # one written in Python, such as those of ESM and ByT5, doesn't say where its tokens are
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
    """The word that each token is of, by the first letter in its span of the words joined by spaces, blank ones left
    out; None for special tokens and spaces."""
    letters: list[int | None] = []
    for number, word in enumerate(words):
        letters += [number] * len(word) + [None] if word.strip() else []
    return [next((owner for owner in letters[start:end] if owner is not None), None) for start, end in spans]


def _spaced(words: list[str]) -> list[str]:
    """The words, each but the first behind the space that stands before it in a text."""
    return [*words[:1], *(f" {word}" for word in words[1:])]


def _owners_in_order(
    tokenizer: PreTrainedTokenizerBase, words: list[str], special_tokens: list[int]
) -> list[int | None]:
    """The same of a tokenizer that takes the words one by one."""
    owners = (
        None if token.isspace() else number for number, word in enumerate(words) for token in tokenizer.tokenize(word)
    )
    return [None if special else next(owners) for special in special_tokens]
