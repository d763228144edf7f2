"""Bad rows that are found when samples are read: each is replaced by the next good one, and reported.

A transform puts an [`Unreadable`] in place of a value that cannot be decoded (`readable`). [`GoodSamples`] replaces
the sample, [`ReportingCollator`] collects the reports of a batch under the key ROWS_READ, and the trainer takes them
out.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from .screening import path_of

ROWS_READ = "rows_read"
"""Key of samples and batches: a [`RowsRead`]. A sample without it is a row that was read and is good."""
_MOST_IN_A_ROW = 100  # bad rows one after the other, after which the search for a good one ends


class Unreadable(ValueError):
    """A value that cannot be decoded, in place of the value. It is also raised by values that decode later, when used.

    Args:
        reason: what is wrong with it.
        path: of its file, if it has one.
    """

    def __init__(self, reason: str, path: str | None = None):
        super().__init__(reason, path)
        self.reason, self.path = reason, path

    def __str__(self) -> str:
        return self.reason


class Blank(Unreadable):
    """A value that can be decoded, but that nothing can be learned from, such as silence.

    Its sample is replaced like a bad one, but does not count as bad.
    """


class NothingReadable(ValueError):
    """The search for a good row found none.

    A loader's worker hands its exceptions over as text, and torch makes them anew with the whole traceback as their
    message; of that, this one keeps its own sentence.
    """

    def __init__(self, message: str):
        super().__init__(message.rpartition(f"{type(self).__name__}: ")[2].strip())


def readable(decode: Callable[..., Any], value: Any, *args: Any, path: str | None = None, **kwargs: Any) -> Any:
    """What `decode` returns for a value; an [`Unreadable`] if it raises an exception, unless a package is missing.

    Args:
        decode: called with `value`, `args` and `kwargs`.
        value: an encoded file ({"bytes": ..., "path": ...}), a list of them, or anything else.
        path: of the file; default: that of `value`, if it has one.
    """
    try:
        return decode(value, *args, **kwargs)
    except Unreadable as error:
        return type(error)(error.reason, path or error.path or path_of(value))
    except ImportError:  # a package is missing, which would make every row a bad one
        raise
    except Exception as error:  # for broken files, decoders raise exceptions of many types
        return Unreadable(f"{type(error).__name__}: {error}", path or path_of(value))


@dataclass(frozen=True)
class BadRow:
    """A row that could not be used.

    Args:
        split: "train" or "validation".
        row: its number in the source.
        reason: what is wrong with it.
        path: of its file, if it has one.
        counted: False if the row was only met on the way to a good one: it is counted when its own turn comes.
        sample: the number of the sample (`sample_index`), where a row gives several.
        blank: whether nothing is wrong with it, but nothing can be learned from it (see [`Blank`]).
    """

    split: str
    row: int
    reason: str
    path: str | None = None
    counted: bool = True
    sample: int | None = None
    blank: bool = False


@dataclass(frozen=True)
class RowsRead:
    """How many rows were read for a sample or a batch, and those of them that were bad.

    Args:
        count: rows whose turn it was, good and bad.
        bad: the bad ones, and those that were met on the way to a good one.
    """

    count: int = 1
    bad: tuple[BadRow, ...] = ()


def reason_of(sample: Mapping[str, Any]) -> Unreadable | None:
    """The value of a sample that could not be decoded; None if all could."""
    return next((value for value in sample.values() if isinstance(value, Unreadable)), None)


@dataclass
class GoodSamples(torch.utils.data.Dataset):
    """A map-style data set whose bad samples are replaced by the next good one: row + 1, + 2, ..., from the end on to
    the beginning. What replaces what does not depend on anything else, so that a resumed run reads the same.

    A sample that replaces others has their reports, a [`RowsRead`] under ROWS_READ.

    Args:
        samples: the samples, in which an [`Unreadable`] stands for a value that could not be decoded.
        split: "train" or "validation", for the reports.

    Raises:
        NothingReadable: while reading, if 100 rows one after the other, or all, are bad.
    """

    samples: Any
    split: str

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, position: int) -> dict[str, Any]:
        return self.good(position, self.samples[position])

    def __getitems__(self, positions: Sequence[int]) -> list[dict[str, Any]]:
        several = getattr(self.samples, "__getitems__", None)
        found = [self.samples[position] for position in positions] if several is None else several(positions)
        return [self.good(position, sample) for position, sample in zip(positions, found, strict=True)]

    def good(self, position: int, sample: dict[str, Any]) -> dict[str, Any]:
        """The sample, or the next good one, if a value of it is an [`Unreadable`]."""
        bad: list[BadRow] = []
        size = len(self)
        while (unreadable := reason_of(sample)) is not None:
            bad.append(self._report(position + len(bad), sample, unreadable, counted=not bad))
            if len(bad) == size or sum(not row.blank for row in bad) == _MOST_IN_A_ROW:
                last = bad[-1]
                raise NothingReadable(
                    f"{len(bad)} {self.split} rows one after the other are bad, the last one "
                    f"{last.path or f'row {last.row}'} ({last.reason}). Repair them or choose other data."
                )
            sample = self.samples[(position + len(bad)) % size]
        return {**sample, ROWS_READ: RowsRead(1, tuple(bad))} if bad else sample

    def _report(self, position: int, sample: Mapping[str, Any], unreadable: Unreadable, counted: bool) -> BadRow:
        number = int(sample.get("sample_index", position % len(self)))
        row = int(sample.get("clip", number))  # samples of a clip that was cut have its number
        blank = isinstance(unreadable, Blank)
        return BadRow(self.split, row, unreadable.reason, unreadable.path, counted, number, blank)


@dataclass
class ReportingCollator:
    """Wraps a collator. Batches also have ROWS_READ, the sum of that of their samples.

    Args:
        collator: makes a batch of samples.
    """

    collator: Callable[[list[dict[str, Any]]], dict[str, Any]]

    def __call__(self, samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        found = [sample.get(ROWS_READ, RowsRead()) for sample in samples]
        plain = [{name: value for name, value in sample.items() if name != ROWS_READ} for sample in samples]
        batch = self.collator(plain)
        bad = tuple(row for read in found for row in read.bad)
        batch[ROWS_READ] = RowsRead(sum(read.count for read in found), bad)
        return batch
