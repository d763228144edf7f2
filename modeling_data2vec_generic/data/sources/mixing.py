"""Mixes the rows of several sources by weights."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from datasets import ClassLabel, Dataset, Value, concatenate_datasets
from numpy.typing import NDArray

from ..splitting import SPLIT_SEED
from ..summary import note
from .columns import column_of

_IN_ORDER = 100  # rows of running text that stay together

Positions = NDArray[np.int64]


class Part(NamedTuple):
    """The training rows of one source, as a part of the rows of all sources.

    Args:
        name: what the source is called in messages.
        weight: its weight.
        start, stop: its rows among the rows of all sources.
        holds_out: whether some of them are held out for validation.
    """

    name: str
    weight: float
    start: int
    stop: int
    holds_out: bool


def joined(rows: Sequence[Dataset], names: Sequence[str], split: str) -> Dataset:
    """The rows of several sources one after the other, with labels if all of them have labels.

    Args:
        rows: the rows of each source, with canonical columns.
        names: what the sources are called in messages.
        split: the split of the rows.

    Raises:
        ValueError: the data have types that do not go together.
    """
    if len(rows) == 1:
        return rows[0]
    lacking = [name for name, part in zip(names, rows, strict=True) if "label" not in part.features]
    if lacking:
        if len(lacking) < len(rows):
            note(split, f"Labels are left out, since {' and '.join(lacking)} have none.")
        rows = [part.select_columns([name for name in part.column_names if name != "label"]) for part in rows]
    elif len({str(part.features["label"]) for part in rows}) > 1:
        rows = [_labelled_by_name(part) for part in rows]
    first = rows[0].select_columns(sorted(rows[0].column_names))
    same = [first]
    for name, part in zip(names[1:], rows[1:], strict=True):
        part = part.select_columns(first.column_names)
        try:
            same.append(part if part.features == first.features else part.cast(first.features))
        except (TypeError, ValueError) as error:  # pyarrow's own are either
            raise ValueError(
                f"The data of {names[0]} ({first.features}) and of {name} ({part.features}) cannot be mixed: {error}."
            ) from error
    return concatenate_datasets(same)


def _labelled_by_name(rows: Dataset) -> Dataset:
    """The same rows with the names of their classes as labels."""
    feature = rows.features["label"]
    is_number = isinstance(feature, ClassLabel)
    names = [
        value if value is None else feature.int2str(value) if is_number and value >= 0 else str(value)
        for value in rows["label"][:]
    ]
    return rows.remove_columns("label").add_column("label", names, feature=Value("string"))


def mixed(rows: Dataset, parts: Sequence[Part], used: Positions, in_order: bool) -> Dataset:
    """Mixes sources: each row comes from a source with a probability in proportion to its weight.

    A source gives its rows in their order and, when they are used up, from the first one on again, until each row of
    each source was given at least once. The choice depends on weights and sizes alone. Rows that are given again have
    numbers (`sample_index`) of their own, larger by a multiple of the number of all rows, and with these other masks.

    The rows are not copied: a mixture of a million takes seconds, and some 100 MB of memory.

    Args:
        rows: the rows of all sources (see `joined`).
        parts: which of them belong to which source.
        used: the positions of the rows that may be given, ascending; the others are held out.
        in_order: whether rows are running text. Then 100 consecutive ones of a source stay together.
    """
    block = _IN_ORDER if in_order else 1
    given = [used[(used >= part.start) & (used < part.stop)] for part in parts]
    blocks = np.array([-(-len(own) // block) for own in given])
    # A source is drawn as often as gives it its share of rows, since its last block may have fewer.
    often = np.array([part.weight for part in parts]) * blocks / [len(own) for own in given]
    sources = _drawn(often / often.sum(), blocks)

    numbers = column_of(rows, "sample_index").to_numpy()
    largest = int(numbers.max()) + 1
    places = np.full((len(sources), block), -1)
    copies: list[Dataset] = []
    first = 0  # where the copies of a source begin
    for number, (part, own) in enumerate(zip(parts, given, strict=True)):
        size = part.stop - part.start
        draws = np.flatnonzero(sources == number)
        times, turn = np.divmod(np.arange(len(draws)), blocks[number])
        cells = turn[:, None] * block + np.arange(block)
        padded = np.append(own - part.start, np.full(block, -1))
        chosen = padded[np.minimum(cells, len(own))]
        places[draws] = np.where(chosen < 0, -1, first + times[:, None] * size + chosen)
        repeated = int(times.max()) + 1
        source = rows.select(range(part.start, part.stop)).remove_columns("sample_index")
        copies += [
            source.add_column("sample_index", numbers[part.start : part.stop] + time * largest)
            for time in range(repeated)
        ]
        first += repeated * size
        how_often = f"once to {repeated} times" if repeated > 1 else "once"
        note(
            "train",
            f"{part.name} has weight {part.weight:g}: {len(own)} rows, numbered from {numbers[part.start]}, each used "
            f"{how_often} in an epoch.",
        )
    found = places.ravel()
    return concatenate_datasets(copies).select(found[found >= 0])


def _drawn(probabilities: NDArray[np.float64], sizes: Positions) -> Positions:
    """The sources to take blocks from in turn, until each has given as many as it has.

    `datasets.interleave_datasets` draws in the same way, but needs some hundred bytes for each row.
    """
    generator = np.random.default_rng(SPLIT_SEED)
    drawn = np.zeros(0, dtype=np.int64)
    while True:
        expected = max(sizes / probabilities)
        drawn = np.append(drawn, generator.choice(len(sizes), size=int(expected) + 1000, p=probabilities))
        places = [np.flatnonzero(drawn == source) for source in range(len(sizes))]
        if all(len(own) >= size for own, size in zip(places, sizes, strict=True)):
            return drawn[: max(own[size - 1] for own, size in zip(places, sizes, strict=True)) + 1]
