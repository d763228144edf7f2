"""Tokenises text, and packs rows into full sequences or makes one sequence of each row."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import Dataset, Features, List, Value
from transformers import PreTrainedTokenizerBase

from ...data.arguments import DataArguments
from ...data.quality.processes import processes_for
from ...data.quality.screening import NothingLeft, good_rows
from ...data.summary import note
from .tokenizer import as_known, check_tokenizer, knows_capitals_only

_TEXTS = ("text", "text_pair")
_DEFAULT_LENGTH = 512
_AT_ONCE = 1_000_000  # characters that are tokenised at a time; each takes about 200 bytes of memory
_MIN_TOKENS = 2  # one that is masked and one that is visible; special tokens do not count
_MOST_UNKNOWN = 0.5  # largest share of unknown tokens, in a row and in all rows
_COUNTS = ("content_tokens", "unknown_tokens")
_LINE = {"input_ids": List(Value("int32")), "special_tokens_mask": List(Value("int8"))}


def sequence_length(tokenizer: PreTrainedTokenizerBase, args: DataArguments) -> int:
    """Tokens per sequence, including special ones: --max_seq_length, or the tokenizer's limit, but at most 512.

    Raises:
        ValueError: --max_seq_length is above the tokenizer's limit, or too small.
    """
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
    """Tokenises text and makes sequences of it.

    Packed (the default): rows are joined, with the tokenizer's separator between them, as for RoBERTa, and cut into
    sequences of exactly `sequence_length` tokens, including the special tokens around each. The remainder at the end
    is dropped, unless it is all there is. There are no labels.

    Line by line: each row is a sequence, cut at that length, and keeps its label. If rows have a `text_pair`, a
    sequence has both texts, of which the longer one is cut first.

    Blank rows are left out, and do not count as bad. Bad rows (see `good_rows`) are pairs that lack a text, rows in
    which more than half of the tokens are unknown to the tokenizer, and, line by line, rows with fewer than
    `min_tokens` tokens.

    Args:
        raw: the rows, as `load_raw_datasets` gives them.
        tokenizer: the tokenizer.
        args: the flags.
        split: the split, for messages.
        line_by_line: overrides the flag.
        min_tokens: the least number of tokens in a row, without special tokens; default 2.

    Returns:
        A map-style dataset of `input_ids` and `special_tokens_mask` (lists of int), `sample_index` and, line by line,
        `label` if `raw` has it and `token_type_ids` for pairs if the tokenizer's model reads them.

    Raises:
        ValueError: more than half of all tokens are unknown to the tokenizer, too many rows are bad, or none is left.
    """
    check_tokenizer(tokenizer)
    length = sequence_length(tokenizer, args)
    if line_by_line is None:
        line_by_line = args.line_by_line
    tokenised = _tokenised(raw, tokenizer, args, split, length if line_by_line else None)
    if line_by_line:
        return _good_lines(tokenised, args, split, length, min_tokens)
    rows = _good(tokenised, args, split, min_tokens=1)
    if (total := sum(rows["content_tokens"][:])) < _MIN_TOKENS:
        raise NothingLeft(f"The {split} text has less than {_MIN_TOKENS} tokens in all: nothing to mask and to see.")
    frame = _frame_of(tokenizer)
    packed = _packed(rows.select_columns("input_ids"), frame, length)
    between = "nothing" if frame.separator is None else tokenizer.convert_ids_to_tokens(frame.separator)
    note(split, f"{total} tokens are packed into {len(packed)} sequences of {length}, {between} between two rows.")
    return packed


def prepare_labelled_lines(
    raw: Dataset, tokenizer: PreTrainedTokenizerBase, args: DataArguments, split: str
) -> Dataset:
    """The same as `prepare_text` line by line, but made from the tokens that it has packed, without tokenising again.

    These tokens are in the cache of `datasets`.
    """
    length = sequence_length(tokenizer, args)
    tokenised = _tokenised(raw, tokenizer, args, split, None)
    lines = tokenised.map(
        _as_lines,
        batched=True,
        fn_kwargs={"frame": _frame_of(tokenizer), "length": length, "cut_left": tokenizer.truncation_side == "left"},
        features=Features(tokenised.features | _LINE),
        desc=f"Cutting {split} text",
    )
    return _good_lines(lines, args, split, length, _MIN_TOKENS)


def _tokenised(
    raw: Dataset, tokenizer: PreTrainedTokenizerBase, args: DataArguments, split: str, max_length: int | None
) -> Dataset:
    """The rows with the result of `_tokenise` in place of their texts."""
    return raw.map(
        _tokenise,
        batched=True,
        fn_kwargs={"tokenizer": tokenizer, "max_length": max_length},
        remove_columns=[name for name in _TEXTS if name in raw.column_names],
        num_proc=processes_for(len(raw), args),
        desc=f"Tokenising {split} text",
    )


def _good_lines(lines: Dataset, args: DataArguments, split: str, length: int, min_tokens: int) -> Dataset:
    good = _good(lines, args, split, min_tokens).remove_columns(list(_COUNTS))
    full = sum(len(ids) == length for rows in good.select_columns("input_ids").iter(1000) for ids in rows["input_ids"])
    note(split, f"{full} of {len(good)} sequences have the {length} tokens at which longer ones are cut.")
    return good


def _good(tokenised: Dataset, args: DataArguments, split: str, min_tokens: int) -> Dataset:
    """The rows that are not blank and not bad."""
    counts, unknown = (tokenised[name][:] for name in _COUNTS)
    if any(unknown):
        share = sum(unknown) / sum(filter(None, counts))
        if share > _MOST_UNKNOWN:
            raise ValueError(
                f"{share:.0%} of the tokens of the {split} text are unknown to the tokenizer. Name one that knows its "
                "language and letters with --processor_name, or let one be trained with --train_tokenizer."
            )
        note(split, f"{share:.2%} of the tokens are unknown to the tokenizer.")
    problems = [_problem(*row, min_tokens) for row in zip(counts, unknown, strict=True)]
    good = good_rows(problems, tokenised, noun="text", split=split, max_bad_fraction=args.max_bad_fraction)
    return tokenised.select(good) if len(good) < len(tokenised) else tokenised


def _problem(count: int | None, unknown: int, min_tokens: int) -> str | None:
    """What is wrong with a row: "" if nothing, None if it is blank."""
    if count is None:
        return None
    if count < min_tokens:
        return "too short" if count else "no text"
    return "most of its tokens are unknown to the tokenizer" if unknown > _MOST_UNKNOWN * count else ""


def _tokenise(
    batch: dict[str, list[Any]], tokenizer: PreTrainedTokenizerBase, max_length: int | None
) -> dict[str, list[Any]]:
    """The `input_ids` of each row, the number of its tokens (`content_tokens`) and of the unknown ones among these.

    With `max_length`, special tokens and `special_tokens_mask` are added, and sequences are cut. The number of tokens
    is None for a blank row, and 0 for a pair that lacks one text. Long rows are tokenised in parts, so that memory
    does not grow with the length of a row; with `max_length` only the first part is needed.
    """
    rows = zip(*(batch[name] for name in _TEXTS if name in batch), strict=True)
    capitals = knows_capitals_only(tokenizer)
    split = [[_parts(as_known((text or "").strip(), capitals)) for text in row] for row in rows]
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
            return_token_type_ids=None if len(columns) > 1 else False,  # None: if the tokenizer's model reads them
            verbose=False,  # no warning about long rows, since they are cut into sequences
        )
        ids += [np.array(row, dtype=np.int32) for row in encoded["input_ids"]]
        special += [np.array(row, dtype=np.int8) for row in encoded["special_tokens_mask"]]
        types += encoded.get("token_type_ids", [])
    ends = np.cumsum([len(found) for found in parts]).tolist()
    places = list(zip([0, *ends], ends, strict=False))
    counts = [sum(len(mask) - int(mask.sum()) for mask in special[start:end]) for start, end in places]
    tokenised: dict[str, list[Any]] = {
        "input_ids": [np.concatenate(ids[start:end]) for start, end in places],
        "content_tokens": [_counted(found[0], count) for found, count in zip(parts, counts, strict=True)],
    }
    # A tokenizer without unknown characters may have no unknown token, or use the end-of-text token for it.
    tokenised["unknown_tokens"] = [
        sum(int((part == tokenizer.unk_token_id).sum()) for part in ids[start:end]) for start, end in places
    ]
    if max_length is not None:
        tokenised["special_tokens_mask"] = special
    if types:
        tokenised["token_type_ids"] = types
    return tokenised


def _counted(texts: tuple[str, ...], count: int) -> int | None:
    """The number of a row's tokens as `_tokenise` returns it. `texts`: the first parts of its texts."""
    if "" not in texts:
        return count
    return None if len(texts) == 1 else 0


def _as_lines(batch: dict[str, list[Any]], frame: "_Frame", length: int, cut_left: bool) -> dict[str, list[Any]]:
    """Adds special tokens around the tokens of each row, and cuts it at `length`, which includes them."""
    room = length - len(frame.prefix) - len(frame.suffix)
    contents = [ids[-room:] if cut_left else ids[:room] for ids in batch["input_ids"]]
    return {
        "input_ids": [[*frame.prefix, *ids, *frame.suffix] for ids in contents],
        "special_tokens_mask": [frame.special_tokens_mask([0] * len(ids)) for ids in contents],
        "content_tokens": [
            None if count is None else len(ids) for count, ids in zip(batch["content_tokens"], contents, strict=True)
        ],
    }


def _parts(text: str) -> list[str]:
    """Divides a text into one or more parts that have the same tokens as inside the text.

    Each part except the first begins with a space. Only words of more than a million letters are divided elsewhere.
    """
    parts = []
    while len(text) > _AT_ONCE:
        end = text.rfind(" ", 1, _AT_ONCE)
        end = _AT_ONCE if end < 0 else end
        parts.append(text[:end])
        text = text[end:]
    return [*parts, text]


def _groups(parts: Iterable[tuple[str, ...]]) -> Iterator[list[tuple[str, ...]]]:
    """Groups of consecutive texts, or pairs of texts, that have at most a million characters together."""
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


@dataclass(frozen=True)
class _Frame:
    """The special tokens of a sequence.

    Args:
        prefix, suffix: those before and after the content.
        separator: the one between two packed rows; None if the tokenizer has no such token.
    """

    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    separator: int | None

    def special_tokens_mask(self, content: Sequence[int]) -> list[int]:
        return [1] * len(self.prefix) + list(content) + [1] * len(self.suffix)


def _frame_of(tokenizer: PreTrainedTokenizerBase) -> _Frame:
    # Found in an encoded sequence, since fast tokenizers have no method that adds special tokens to ids.
    example = tokenizer("a a", return_special_tokens_mask=True)
    ids, mask = example["input_ids"], example["special_tokens_mask"]
    first, last = mask.index(0), len(mask) - mask[::-1].index(0)
    separator = tokenizer.eos_token_id if tokenizer.sep_token_id is None else tokenizer.sep_token_id
    return _Frame(tuple(ids[:first]), tuple(ids[last:]), separator)


def _packed(tokenised: Dataset, frame: _Frame, length: int) -> Dataset:
    features = Features(_LINE | {"sample_index": Value("int64")})
    settings = {"tokenised": tokenised, "frame": frame, "length": length}
    if not tokenised.cache_files:  # rows in memory, such as a window of a stream, must not leave files in the cache
        return Dataset.from_list(list(_pack(**settings)), features=features)
    return Dataset.from_generator(_pack, features=features, gen_kwargs=settings)


def _pack(tokenised: Dataset, frame: _Frame, length: int) -> Iterator[dict[str, Any]]:
    """Packs rows into full sequences. A separator at the beginning of a sequence is left out."""
    room = length - len(frame.prefix) - len(frame.suffix)
    waiting: list[int] = []
    separators: list[int] = []  # 1 for a separator, 0 for a token of a row
    count = 0

    def row(ids: list[int], special: list[int]) -> dict[str, Any]:
        return {
            "input_ids": [*frame.prefix, *ids, *frame.suffix],
            "special_tokens_mask": frame.special_tokens_mask(special),
            "sample_index": count,
        }

    for batch in tokenised.iter(batch_size=1000):
        for ids in batch["input_ids"]:
            if waiting and frame.separator is not None:
                waiting.append(frame.separator)
                separators.append(1)
            waiting.extend(ids)
            separators.extend([0] * len(ids))
        used = 0
        while len(waiting) - used >= room:
            if separators[used]:
                used += 1
                continue
            yield row(waiting[used : used + room], separators[used : used + room])
            count += 1
            used += room
        del waiting[:used], separators[:used]
    if count == 0:
        yield row(waiting, separators)
