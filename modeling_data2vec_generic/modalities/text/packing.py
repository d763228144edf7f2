"""Cuts tokens into sequences: rows that are joined and cut, or whole rows that fill sequences together.

Both work on Arrow's own buffers, batch by batch, so that neither time nor memory goes into lists of Python.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow
from datasets import Dataset, Features, List, Value
from datasets.fingerprint import Hasher
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

SEQUENCE = {"input_ids": List(Value("int32")), "special_tokens_mask": List(Value("int8")), "length": Value("int32")}
_JOINED_AT_ONCE = 1000  # rows
_PACKED_AT_ONCE = 1_000_000  # tokens, about


@dataclass(frozen=True)
class Frame:
    """The special tokens of a sequence.

    Args:
        prefix, suffix: those before and after the content.
        separator: the one between two rows that are joined; None if the tokenizer has no such token.
    """

    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    separator: int | None

    @property
    def size(self) -> int:
        """The number of special tokens around a content."""
        return len(self.prefix) + len(self.suffix)


def frame_of(tokenizer: PreTrainedTokenizerBase) -> Frame:
    """The special tokens of a tokenizer's sequences."""
    # Found in an encoded sequence, since fast tokenizers have no method that adds special tokens to ids.
    example = tokenizer("a a", return_special_tokens_mask=True)
    ids, mask = example["input_ids"], example["special_tokens_mask"]
    first, last = mask.index(0), len(mask) - mask[::-1].index(0)
    separator = tokenizer.eos_token_id if tokenizer.sep_token_id is None else tokenizer.sep_token_id
    return Frame(tuple(ids[:first]), tuple(ids[last:]), separator)


def joined(rows: Dataset, tokens: int, frame: Frame, length: int) -> Dataset:
    """Joins rows, with a separator between them, and cuts them into sequences of `length` tokens.

    A separator at the beginning of a sequence is left out, and so is the remainder at the end, unless it is all there
    is.

    Args:
        rows: with `input_ids`, at least one in each row.
        tokens: their number in all rows.
        frame: the special tokens around each sequence.
        length: includes these.

    Returns:
        A dataset of `SEQUENCE` and `sample_index`, which `datasets` caches if it caches `rows`.
    """
    everything = tokens + (len(rows) - 1 if frame.separator is not None else 0)
    join = _Join(frame, min(length - frame.size, everything))
    return _sequences(rows, join, [frame, length], _JOINED_AT_ONCE, {})


def _sequences(rows: Dataset, make: Any, settings: list[Any], batch_size: int, more: dict[str, Any]) -> Dataset:
    """What `make` returns for all batches of rows, one after the other.

    Args:
        make: from a table of `input_ids` to a table; it may remember earlier batches.
        settings: what its results depend on, apart from rows and code.
        more: types of columns besides those of `SEQUENCE` and `sample_index`.
    """
    key = Hasher.hash([rows._fingerprint, type(make).__name__, settings, batch_size])
    return (
        rows.select_columns("input_ids")
        .with_format("arrow")
        .map(
            make,
            batched=True,
            batch_size=batch_size,
            remove_columns=["input_ids"],
            features=Features(SEQUENCE | {"sample_index": Value("int64")} | more),
            new_fingerprint=key,
            desc="Packing",
        )
        .with_format(None)
    )


def packed(rows: Dataset, tokens: int, frame: Frame, length: int, min_tokens: int) -> Dataset:
    """Fills sequences with whole rows, each within its own frame.

    The rows of a window, of about a million tokens, are put where the least room is left, longest first (best fit). A
    row that is longer than a sequence is cut into pieces, of which the last one has `min_tokens` at least.

    Args:
        rows, tokens, frame: see `joined`.
        length: T of the batches. A sequence has at most one token less: students that read visible positions only fill
            up their shorter rows with a position of padding.
        min_tokens: the least number of tokens in a row, without its frame.

    Returns:
        A dataset of `SEQUENCE`, `document_lengths` and `sample_index`, which `datasets` caches if it caches `rows`.

    Raises:
        ValueError: there is no room for two such pieces.
    """
    room = length - 1 - frame.size
    if room < 2 * min_tokens:
        raise ValueError(
            f"max_seq_length={length} leaves room for {max(room, 0)} tokens beside special tokens and one of padding: "
            f"--packing needs {2 * min_tokens}. Raise it."
        )
    window = int(np.clip(_PACKED_AT_ONCE * len(rows) // tokens, 100, 10_000))
    pack = _Pack(frame, length - 1, min_tokens)
    return _sequences(rows, pack, [frame, length, min_tokens], window, {"document_lengths": List(Value("int32"))})


class _Join:
    """Joins the rows of one batch after the other; see `joined`.

    Args:
        room: tokens of a sequence without its frame.
    """

    def __init__(self, frame: Frame, room: int):
        self._frame, self._room = frame, room
        self._waiting = np.empty(0, np.int32)
        self._separators = np.empty(0, np.int8)  # 1 for a separator, 0 for a token of a row
        self._begun = False
        self._count = 0

    def __call__(self, batch: pyarrow.Table) -> pyarrow.Table:
        tokens, separators = self._separated(*flattened(batch["input_ids"]))
        tokens, separators = np.append(self._waiting, tokens), np.append(self._separators, separators)
        starts, used = [], 0
        while len(tokens) - used >= self._room:
            if separators[used]:
                used += 1
                continue
            starts.append(used)
            used += self._room
        self._waiting, self._separators = tokens[used:], separators[used:]
        sizes = np.full(len(starts), self._room)
        ids, special, lengths = framed(tokens, np.array(starts, np.int64), sizes, self._frame, separators)
        self._count += len(starts)
        return pyarrow.table(
            sequence_columns(ids, special, lengths)
            | {"sample_index": np.arange(self._count - len(starts), self._count)}
        )

    def _separated(
        self, tokens: NDArray[np.int32], sizes: NDArray[np.int64]
    ) -> tuple[NDArray[np.int32], NDArray[np.int8]]:
        """The tokens of the rows with a separator in front of each row, except the first of all; where these are."""
        if self._frame.separator is None:
            return tokens, np.zeros(len(tokens), np.int8)
        places = np.cumsum(sizes + 1) - (sizes + 1)
        separators = np.zeros(len(tokens) + len(sizes), np.int8)
        separators[places] = 1
        separated = np.full(len(separators), self._frame.separator, np.int32)
        separated[separators == 0] = tokens
        first = 0 if self._begun else 1
        self._begun = True
        return separated[first:], separators[first:]


class _Pack:
    """Packs the rows of one window after the other; see `packed`.

    Args:
        size: tokens of a sequence with frames.
    """

    def __init__(self, frame: Frame, size: int, min_tokens: int):
        self._frame, self._size, self._min_tokens = frame, size, min_tokens
        self._count = 0

    def __call__(self, window: pyarrow.Table) -> pyarrow.Table:
        tokens, rows = flattened(window["input_ids"])
        starts, sizes = _pieces(rows, self._size - self._frame.size, self._min_tokens)
        sequence = _best_fit(sizes + self._frame.size, self._size)
        order = np.argsort(sequence, kind="stable")
        ids, special, lengths = framed(tokens, starts[order], sizes[order], self._frame)
        documents = np.bincount(sequence)
        totals = np.add.reduceat(lengths, np.cumsum(documents) - documents)
        self._count += len(documents)
        return pyarrow.table(
            sequence_columns(ids, special, totals)
            | {
                "document_lengths": lists_of(lengths.astype(np.int32), documents),
                "sample_index": np.arange(self._count - len(documents), self._count),
            }
        )


def _pieces(rows: NDArray[np.int64], room: int, min_tokens: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Start and size of pieces of at most `room` tokens, of rows of these sizes that follow each other."""
    counts = -(-rows // room)
    number = _ranges(np.zeros_like(rows), counts)
    starts = np.repeat(np.cumsum(rows) - rows, counts) + number * room
    sizes = np.minimum(np.repeat(rows, counts) - number * room, room)
    short = np.flatnonzero((number > 0) & (sizes < min_tokens))  # the last pieces of rows
    missing = min_tokens - sizes[short]
    sizes[short - 1] -= missing
    starts[short] -= missing
    sizes[short] = min_tokens
    return starts, sizes


def _best_fit(lengths: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """The number of the sequence that each piece is put into, longest first, where the least room is left."""
    sequence = np.empty(len(lengths), np.int64)
    by_room: list[list[int]] = [[] for _ in range(size + 1)]  # the sequences that have so much room left
    has_room = 0  # bit r is set if a sequence has r left
    count = 0
    order = np.argsort(-lengths, kind="stable")
    for piece, length in zip(order.tolist(), lengths[order].tolist(), strict=True):
        fitting = has_room >> length
        if fitting:
            room = length + (fitting & -fitting).bit_length() - 1
            chosen = by_room[room].pop()
            if not by_room[room]:
                has_room ^= 1 << room
        else:
            room, chosen, count = size, count, count + 1
        sequence[piece] = chosen
        by_room[room - length].append(chosen)
        has_room |= 1 << (room - length)
    return sequence


def flattened(lists: pyarrow.ChunkedArray) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """All values of a column of lists, one list after the other, and the length of each list."""
    column = lists.combine_chunks()
    if isinstance(column, pyarrow.ChunkedArray):  # without any chunk
        column = pyarrow.concat_arrays(column.chunks) if column.num_chunks else pyarrow.array([], lists.type)
    return column.flatten().to_numpy(zero_copy_only=False), np.diff(column.offsets.to_numpy()).astype(np.int64)


def framed(
    tokens: NDArray[np.int32],
    starts: NDArray[np.int64],
    sizes: NDArray[np.int64],
    frame: Frame,
    special: NDArray[np.int8] | None = None,
) -> tuple[NDArray[np.int32], NDArray[np.int8], NDArray[np.int64]]:
    """Pieces of a row of tokens, each within a frame, one after the other.

    Args:
        starts, sizes: of each piece.
        special: 1 at tokens that are special themselves. Default: none are.

    Returns:
        The tokens of all pieces, 1 where they are special, and the length of each piece with its frame.
    """
    lengths = sizes + frame.size
    ends = np.cumsum(lengths)
    begins = ends - lengths
    ids = np.empty(lengths.sum(), np.int32)
    mask = np.ones(len(ids), np.int8)
    for place, token in enumerate(frame.prefix):
        ids[begins + place] = token
    for place, token in enumerate(reversed(frame.suffix), start=1):
        ids[ends - place] = token
    to, origin = _ranges(begins + len(frame.prefix), sizes), _ranges(starts, sizes)
    ids[to] = tokens[origin]
    mask[to] = 0 if special is None else special[origin]
    return ids, mask, lengths


def _ranges(starts: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """start, start + 1, ..., start + size - 1 of each pair, one after the other."""
    return np.repeat(starts - (np.cumsum(sizes) - sizes), sizes) + np.arange(sizes.sum())


def sequence_columns(ids: NDArray[np.int32], special: NDArray[np.int8], lengths: NDArray[np.int64]) -> dict[str, Any]:
    """The columns of `SEQUENCE`, from the tokens of sequences one after the other."""
    return {
        "input_ids": lists_of(ids, lengths),
        "special_tokens_mask": lists_of(special, lengths),
        "length": lengths.astype(np.int32),
    }


def lists_of(values: NDArray[Any], lengths: Sequence[int] | NDArray[np.int64]) -> pyarrow.Array:
    """A column of lists of these lengths, which hold the values one after the other."""
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pyarrow.ListArray.from_arrays(offsets, pyarrow.array(values))
