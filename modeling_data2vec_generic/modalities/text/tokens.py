"""Tokenises text, and joins rows into full sequences or makes one sequence of each row.

What is made of all rows is made once: `datasets` keeps it under a key of rows, tokenizer, settings and code.
"""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

import numpy as np
import pyarrow
import pyarrow.compute
from datasets import Dataset, Features
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from ...data.arguments import DataArguments
from ...data.quality.processes import processes_for
from ...data.quality.screening import NothingLeft, good_rows
from ...data.summary import note
from .packing import SEQUENCE, Frame, flattened, frame_of, framed, joined, lists_of, packed, sequence_columns
from .tokenizer import as_known, check_tokenizer, knows_capitals_only

_TEXTS = ("text", "text_pair")
_DEFAULT_LENGTH = 512
_AT_ONCE = 1_000_000  # characters that are tokenised at a time; each takes about 200 bytes of memory
_MIN_TOKENS = 2  # one that is masked and one that is visible; special tokens do not count
_MOST_UNKNOWN = 0.5  # largest share of unknown tokens, in a row and in all rows
_COUNTS = ("content_tokens", "unknown_tokens")
_BLANK = -1  # stands for the number of tokens of a blank row
_COUNTED_AT_ONCE = 100_000  # rows


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

    Joined (the default): rows are joined, with the tokenizer's separator between them, as for RoBERTa, and cut into
    sequences of exactly `sequence_length` tokens, including the special tokens around each. The remainder at the end
    is dropped, unless it is all there is. There are no labels.

    Packed: whole rows, each with special tokens around it, fill sequences together (see `packed`), without labels.

    Line by line: each row is a sequence, cut at that length, and keeps its label. If rows have a `text_pair`, a
    sequence has both texts, of which the longer one is cut first.

    Blank rows are left out, and do not count as bad. Bad rows (see `good_rows`) are pairs that lack a text, rows in
    which more than half of the tokens are unknown to the tokenizer, and, line by line and packed, rows with fewer than
    `min_tokens` tokens.

    Args:
        raw: the rows, as `load_raw_datasets` gives them.
        tokenizer: the tokenizer.
        args: the flags.
        split: the split, for messages.
        line_by_line: overrides the flag.
        min_tokens: the least number of tokens in a row, without special tokens; default 2.

    Returns:
        A map-style dataset of `input_ids` and `special_tokens_mask` (lists of int), their `length`, `sample_index`
        and, packed, `document_lengths` (list of int), or, line by line, `label` if `raw` has it and `token_type_ids`
        for pairs if the tokenizer's model reads them.

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
    rows, total = _good(tokenised, args, split, min_tokens if args.packing else 1)
    if total < _MIN_TOKENS:
        raise NothingLeft(f"The {split} text has less than {_MIN_TOKENS} tokens in all: nothing to mask and to see.")
    frame = frame_of(tokenizer)
    if args.packing:
        sequences = packed(rows, total, frame, length, min_tokens)
        _note_packing(rows, sequences, frame, length, split)
        return sequences
    sequences = joined(rows, total, frame, length)
    between = "nothing" if frame.separator is None else tokenizer.convert_ids_to_tokens(frame.separator)
    note(
        split,
        f"{total} tokens are joined into {len(sequences)} sequences of {length}, {between} between two rows. A "
        "position attends to all rows of its sequence; with --packing to its own row only.",
    )
    return sequences


def _note_packing(rows: Dataset, sequences: Dataset, frame: Frame, length: int, split: str) -> None:
    room = length - 1 - frame.size
    cut = sum(int((counts > room).sum()) for counts in _chunks(rows, "content_tokens"))
    filled = sum(int(lengths.sum()) for lengths in _chunks(sequences, "length"))
    padding = 1 - filled / (len(sequences) * length)
    note(
        split,
        f"{len(rows)} texts are packed into {len(sequences)} sequences of {length} tokens, {padding:.1%} of which are "
        f"padding. A position attends to its own text only. {cut} texts have more than {room} tokens and are cut.",
    )


def prepare_labelled_lines(
    raw: Dataset, tokenizer: PreTrainedTokenizerBase, args: DataArguments, split: str
) -> Dataset:
    """The same as `prepare_text` line by line, but made from the tokens that it has packed, without tokenising again.

    These tokens are in the cache of `datasets`.
    """
    length = sequence_length(tokenizer, args)
    tokenised = _tokenised(raw, tokenizer, args, split, None)
    lines = tokenised.with_format("arrow").map(
        _as_lines,
        batched=True,
        fn_kwargs={"frame": frame_of(tokenizer), "length": length, "cut_left": tokenizer.truncation_side == "left"},
        features=Features(tokenised.features | SEQUENCE),
        desc=f"Cutting {split} text",
    )
    return _good_lines(lines.with_format(None), args, split, length, _MIN_TOKENS)


def _tokenised(
    raw: Dataset, tokenizer: PreTrainedTokenizerBase, args: DataArguments, split: str, max_length: int | None
) -> Dataset:
    """The rows with the result of `_tokenise` in place of their texts."""
    return (
        raw.with_format("arrow")
        .map(
            _tokenise,
            batched=True,
            fn_kwargs={"tokenizer": tokenizer, "max_length": max_length},
            remove_columns=[name for name in _TEXTS if name in raw.column_names],
            num_proc=processes_for(len(raw), args),
            desc=f"Tokenising {split} text",
        )
        .with_format(None)
    )


def _good_lines(lines: Dataset, args: DataArguments, split: str, length: int, min_tokens: int) -> Dataset:
    good, _ = _good(lines, args, split, min_tokens)
    full = sum(int((lengths == length).sum()) for lengths in _chunks(good, "length"))
    note(split, f"{full} of {len(good)} sequences have the {length} tokens at which longer ones are cut.")
    return good.remove_columns(list(_COUNTS))


def _good(tokenised: Dataset, args: DataArguments, split: str, min_tokens: int) -> tuple[Dataset, int]:
    """The rows that are not blank and not bad, and the number of their tokens."""
    counts, unknown = (np.concatenate(list(_chunks(tokenised, name))) for name in _COUNTS)
    if unknown.any():
        share = unknown.sum() / counts[counts != _BLANK].sum()
        if share > _MOST_UNKNOWN:
            raise ValueError(
                f"{share:.0%} of the tokens of the {split} text are unknown to the tokenizer. Name one that knows its "
                "language and letters with --processor_name, or let one be trained with --train_tokenizer."
            )
        note(split, f"{share:.2%} of the tokens are unknown to the tokenizer.")
    problems = np.full(len(counts), "", dtype=object)
    problems[unknown > _MOST_UNKNOWN * counts] = "most of its tokens are unknown to the tokenizer"
    problems[counts < min_tokens] = "too short"
    problems[counts == 0] = "no text"
    problems[counts == _BLANK] = None
    good = good_rows(problems.tolist(), tokenised, noun="text", split=split, max_bad_fraction=args.max_bad_fraction)
    rows = tokenised.select(good) if len(good) < len(tokenised) else tokenised
    return rows, int(counts[good].sum())


def _chunks(rows: Dataset, column: str) -> Iterator[NDArray[np.int32]]:
    """The numbers of a column, with `_BLANK` where there is none."""
    for table in rows.select_columns(column).with_format("arrow").iter(_COUNTED_AT_ONCE):
        yield table[column].fill_null(_BLANK).to_numpy().astype(np.int32)


def _tokenise(batch: pyarrow.Table, tokenizer: PreTrainedTokenizerBase, max_length: int | None) -> pyarrow.Table:
    """The `input_ids` of each row, the number of its tokens (`content_tokens`) and of the unknown ones among these.

    With `max_length`, special tokens and their mask are added, and sequences are cut and have a `length`. The number
    of tokens is None for a blank row, and 0 for a pair that lacks one text. Long rows are tokenised in parts, so that
    memory does not grow with the length of a row; with `max_length` only the first part is needed.
    """
    names = [name for name in _TEXTS if name in batch.column_names]
    rows = zip(*(batch[name].to_pylist() for name in names), strict=True)
    capitals = knows_capitals_only(tokenizer)
    split = [[_parts(as_known((text or "").strip(), capitals)) for text in row] for row in rows]
    parts: list[list[tuple[str, ...]]]
    if max_length is None:
        parts = [[(part,) for part in found] for (found,) in split]
    else:
        parts = [[tuple(found[0] for found in row)] for row in split]
    ids: list[list[int]] = []
    special: list[list[int]] = []
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
        ids += encoded["input_ids"]
        special += encoded["special_tokens_mask"]
        types += encoded.get("token_type_ids", [])
    # From here on, all tokens are one array: the parts of a row follow each other in it.
    tokens, mask = _flat(ids, np.int32), _flat(special, np.int8)
    ends = np.cumsum([len(part) for part in ids], dtype=np.int64)[np.cumsum([len(found) for found in parts]) - 1]
    lengths = np.diff(ends, prepend=0)
    # A tokenizer without unknown characters may have no unknown token, or use the end-of-text token for it.
    unknown = np.zeros(len(tokens), bool) if tokenizer.unk_token_id is None else tokens == tokenizer.unk_token_id
    counts = [_counted(found[0], count) for found, count in zip(parts, _sums(mask == 0, ends).tolist(), strict=True)]
    tokenised = {
        "input_ids": lists_of(tokens, lengths),
        "content_tokens": pyarrow.array(counts, pyarrow.int32()),
        "unknown_tokens": _sums(unknown, ends).astype(np.int32),
    }
    if max_length is not None:
        tokenised |= sequence_columns(tokens, mask, lengths)
    if types:
        tokenised["token_type_ids"] = lists_of(_flat(types, np.int8), lengths)
    return _with_columns(batch.drop_columns(names), tokenised)


def _flat(lists: list[list[int]], dtype: type[np.integer]) -> NDArray[Any]:
    return np.fromiter(chain.from_iterable(lists), dtype=dtype, count=sum(map(len, lists)))


def _sums(values: NDArray[np.bool_], ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many values are True in each row, of which the ends (exclusive) are given."""
    return np.diff(np.concatenate([[0], np.cumsum(values)])[ends], prepend=0)


def _with_columns(table: pyarrow.Table, columns: dict[str, Any]) -> pyarrow.Table:
    """The table with these columns, in place of its own of the same names."""
    kept = {name: table[name] for name in table.column_names if name not in columns}
    return pyarrow.table(kept | columns)


def _counted(texts: tuple[str, ...], count: int) -> int | None:
    """The number of a row's tokens as `_tokenise` returns it. `texts`: the first parts of its texts."""
    if "" not in texts:
        return count
    return None if len(texts) == 1 else 0


def _as_lines(batch: pyarrow.Table, frame: Frame, length: int, cut_left: bool) -> pyarrow.Table:
    """Adds special tokens around the tokens of each row, and cuts it at `length`, which includes them."""
    tokens, sizes = flattened(batch["input_ids"])
    ends = np.cumsum(sizes)
    kept = np.minimum(sizes, length - frame.size)
    lines = sequence_columns(*framed(tokens, ends - (kept if cut_left else sizes), kept, frame))
    blank = batch["content_tokens"].is_null()
    counts = pyarrow.compute.if_else(blank, None, pyarrow.array(kept.astype(np.int32)))
    return _with_columns(batch, lines | {"content_tokens": counts})


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
