"""Text: train a tokenizer, tokenise, and pack rows into full sequences or keep them line by line."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from datasets import Dataset, Features, List, Value
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from .arguments import DataArguments
from .screening import NothingLeft, good_rows

_SPECIAL_TOKENS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
_TEXTS = ("text", "text_pair")
_DEFAULT_LENGTH = 512
_AT_ONCE = 1_000_000  # characters; a tokenizer takes some 200 bytes of memory for each
_MIN_TOKENS = 2  # one to mask and one to see; special tokens don't count


def train_tokenizer(texts: Iterable[str | None], vocab_size: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE with [CLS] and [SEP] around a sequence and, since it falls back to bytes, no unknown characters.

    Padding has index 0. ValueError if `vocab_size` has no room for special tokens and the 256 bytes, or without text.
    """
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    smallest = len(alphabet) + len(_SPECIAL_TOKENS)
    if vocab_size < smallest:
        raise ValueError(f"tokenizer_vocab_size={vocab_size} is below {smallest}, the bytes and special tokens alone.")
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.NFC()
    # The prefix space gives a row's first word the token it has within a row.
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
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_input_names=["input_ids", "attention_mask"], **_SPECIAL_TOKENS
    )


def check_tokenizer(tokenizer: PreTrainedTokenizerBase, needed: Sequence[str] = ("pad",)) -> None:
    """ValueError unless the tokenizer has a vocabulary and the special tokens `needed`; of these pre-training needs
    "mask" too."""
    if len(tokenizer) <= len(set(tokenizer.all_special_ids)):
        # What transformers makes of an encoder's folder that holds no tokenizer.
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


def sequence_length(tokenizer: PreTrainedTokenizerBase, args: DataArguments) -> int:
    """Tokens per sequence, special ones included: --max_seq_length, else what the tokenizer allows, 512 at most."""
    special = tokenizer.num_special_tokens_to_add()
    length = args.max_seq_length
    if length is None:
        return min(tokenizer.model_max_length, _DEFAULT_LENGTH)
    if length > tokenizer.model_max_length:
        raise ValueError(
            f"max_seq_length={length} is above the tokenizer's limit of {tokenizer.model_max_length}. Lower it; or if "
            "the encoder has more positions, raise model_max_length in its tokenizer_config.json."
        )
    if length < special + _MIN_TOKENS:
        raise ValueError(
            f"max_seq_length={length} is too short for {special} special tokens and {_MIN_TOKENS} others. Raise it."
        )
    return length


def prepare_text(
    raw: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    args: DataArguments,
    split: str,
    line_by_line: bool | None = None,
    min_tokens: int = _MIN_TOKENS,
) -> Dataset:
    """Map-style dataset of `input_ids` and `special_tokens_mask` (lists of int of one length) and `sample_index`.

    `raw` as load_raw_datasets gives it. Packed (default): rows are joined and cut into sequences of exactly
    `sequence_length`, special tokens around each; the rest at the end is dropped unless it is all there is; no labels.
    Line by line: a sequence per row, cut at that length, with `label` if `raw` has it. If it has `text_pair`, both
    texts are in the sequence, the longer one is cut first, and there are `token_type_ids` where the tokenizer's model
    reads them. `line_by_line` overrides the flag. Rows without text, or line by line with less than `min_tokens`
    besides special ones, are left out (`good_rows`).
    """
    check_tokenizer(tokenizer)
    length = sequence_length(tokenizer, args)
    if line_by_line is None:
        line_by_line = args.line_by_line
    tokenised = raw.map(
        _tokenise,
        batched=True,
        fn_kwargs={"tokenizer": tokenizer, "max_length": length if line_by_line else None},
        remove_columns=[name for name in _TEXTS if name in raw.column_names],
        num_proc=args.preprocessing_num_workers,
        desc=f"Tokenising {split} text",
    )
    fewest = min_tokens if line_by_line else 1
    counts = tokenised["content_tokens"][:]
    problems = ["" if count >= fewest else "too short" if count else "no text" for count in counts]
    good = good_rows(
        problems,
        tokenised,
        noun="text",
        split=split,
        max_bad_fraction=args.max_bad_fraction,
    )
    tokenised = tokenised.remove_columns("content_tokens")
    if len(good) < len(tokenised):
        tokenised = tokenised.select(good)
    if line_by_line:
        return tokenised
    if sum(counts) < _MIN_TOKENS:
        raise NothingLeft(f"The {split} text has less than {_MIN_TOKENS} tokens in all: nothing to mask and to see.")
    return _packed(tokenised.select_columns("input_ids"), tokenizer, length)


def _tokenise(
    batch: dict[str, list[Any]], tokenizer: PreTrainedTokenizerBase, max_length: int | None
) -> dict[str, list[Any]]:
    """`input_ids` and the number of content tokens; with `max_length`, special tokens and their mask too.

    Of a pair that lacks one text no content is counted. Memory does not grow with the length of a row: it goes in
    parts, of which `max_length` needs the first alone.
    """
    rows = zip(*(batch[name] for name in _TEXTS if name in batch), strict=True)
    split = [[_parts((text or "").strip()) for text in row] for row in rows]
    parts: list[list[tuple[str, ...]]]
    if max_length is None:
        parts = [[(part,) for part in found] for (found,) in split]
    else:
        parts = [[tuple(found[0] for found in row)] for row in split]
    ids: list[np.ndarray] = []
    special: list[np.ndarray] = []
    types: list[list[int]] = []
    for group in _groups(part for found in parts for part in found):
        columns = [list(column) for column in zip(*group, strict=True)]
        encoded = tokenizer(
            *columns,
            add_special_tokens=max_length is not None,
            truncation=max_length is not None,
            max_length=max_length,
            return_special_tokens_mask=True,
            return_attention_mask=False,
            return_token_type_ids=None if len(columns) > 1 else False,  # None: where its model reads them
            verbose=False,  # no warning about long rows: they are cut into sequences
        )
        ids += [np.array(row, dtype=np.int32) for row in encoded["input_ids"]]
        special += [np.array(row, dtype=np.int8) for row in encoded["special_tokens_mask"]]
        types += encoded.get("token_type_ids", [])
    ends = np.cumsum([len(found) for found in parts]).tolist()
    places = list(zip([0, *ends], ends, strict=False))
    counts = [sum(len(mask) - int(mask.sum()) for mask in special[start:end]) for start, end in places]
    tokenised: dict[str, list[Any]] = {
        "input_ids": [np.concatenate(ids[start:end]) for start, end in places],
        "content_tokens": [0 if "" in found[0] else count for found, count in zip(parts, counts, strict=True)],
    }
    if max_length is not None:
        tokenised["special_tokens_mask"] = special
    if types:
        tokenised["token_type_ids"] = types
    return tokenised


def _parts(text: str) -> list[str]:
    """The text in parts that are tokenised as they would be within it, at least one: a part begins with a space.

    Only within words of a million letters there is another boundary.
    """
    parts = []
    while len(text) > _AT_ONCE:
        end = text.rfind(" ", 1, _AT_ONCE)
        end = _AT_ONCE if end < 0 else end
        parts.append(text[:end])
        text = text[end:]
    return [*parts, text]


def _groups(parts: Iterable[tuple[str, ...]]) -> Iterator[list[tuple[str, ...]]]:
    """Consecutive texts, or pairs of them, of a limited number of characters together."""
    group: list[tuple[str, ...]] = []
    size = 0
    for texts in parts:
        length = sum(map(len, texts))
        if group and size + length > _AT_ONCE:
            yield group
            group, size = [], 0
        group.append(texts)
        size += length
    if group:
        yield group


def _packed(tokenised: Dataset, tokenizer: PreTrainedTokenizerBase, length: int) -> Dataset:
    # Which special tokens stand before and after a sequence is read off an encoded one: fast tokenizers have no method
    # that adds them to ids.
    example = tokenizer("a a", return_special_tokens_mask=True)
    mask = example["special_tokens_mask"]
    first, last = mask.index(0), len(mask) - mask[::-1].index(0)
    sequence = Value("int32")
    features = Features(
        {"input_ids": List(sequence), "special_tokens_mask": List(Value("int8")), "sample_index": Value("int64")}
    )
    settings = {
        "tokenised": tokenised,
        "prefix": tuple(example["input_ids"][:first]),
        "suffix": tuple(example["input_ids"][last:]),
        "length": length,
    }
    if not tokenised.cache_files:  # rows in memory, such as a window of a stream, are to leave nothing on the disk
        return Dataset.from_list(list(_pack(**settings)), features=features)
    return Dataset.from_generator(_pack, features=features, gen_kwargs=settings)


def _pack(
    tokenised: Dataset, prefix: tuple[int, ...], suffix: tuple[int, ...], length: int
) -> Iterator[dict[str, Any]]:
    room = length - len(prefix) - len(suffix)
    waiting: list[int] = []
    count = 0

    def row(content: list[int]) -> dict[str, Any]:
        special = [1] * len(prefix) + [0] * len(content) + [1] * len(suffix)
        return {"input_ids": [*prefix, *content, *suffix], "special_tokens_mask": special, "sample_index": count}

    for batch in tokenised.iter(batch_size=1000):
        for ids in batch["input_ids"]:
            waiting.extend(ids)
        used = 0
        while len(waiting) - used >= room:
            yield row(waiting[used : used + room])
            count += 1
            used += room
        del waiting[:used]
    if count == 0:
        yield row(waiting)
