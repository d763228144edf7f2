"""Bad rows that are found when samples are read: each is replaced by the next good one, and reported.

A transform puts an [`Unreadable`] in place of a value that cannot be decoded (`readable`). [`GoodSamples`] replaces
the sample, [`ReportingCollator`] collects the reports of a batch under the key ROWS_READ, and the trainer takes them
out.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch

from .screening import path_of

ROWS_READ = "rows_read"
"""Key of samples, a [`RowsRead`], and of batches, a list of them. A sample without it is one row, which is good."""
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
        blank: whether nothing is wrong with it, but nothing can be learned from it (see [`Blank`]).
    """

    split: str
    row: int
    reason: str
    path: str | None = None
    counted: bool = True
    blank: bool = False

    def entry(self) -> dict[str, Any]:
        """What `BadRows` lists."""
        place = {"row": self.row} | ({"path": self.path} if self.path else {})
        return {"split": self.split, **place, "reason": self.reason}


@dataclass(frozen=True)
class RowsRead:
    """How many rows were read for a sample, and those of them that were bad.

    Args:
        count: rows whose turn it was, good and bad.
        bad: the bad ones, and those that were met on the way to a good one.
        place: the position of the sample in its data set, or in its batch of a stream.
    """

    count: int = 1
    bad: tuple[BadRow, ...] = ()
    place: int | None = None


_ONE_GOOD = RowsRead()


def reason_of(sample: Any) -> Unreadable | None:
    """The value of a sample that could not be decoded; None if all could."""
    values = sample.values() if isinstance(sample, Mapping) else ()
    return next((value for value in values if isinstance(value, Unreadable)), None)


class Replacing(Protocol):
    """What replaces samples whose values turn out to be bad when they are used."""

    def instead_of(self, sample: Mapping[str, Any], unreadable: Unreadable) -> dict[str, Any]:
        """The next good sample.

        Args:
            sample: one of its samples, a value of which turned out to be bad when it was used.
            unreadable: what the value raised.
        """


@dataclass
class GoodSamples(torch.utils.data.Dataset):
    """A map-style data set whose bad samples are replaced by the next good one: row + 1, + 2, ..., from the end on to
    the beginning. What replaces what does not depend on anything else, so that a resumed run reads the same.

    Samples are dicts, and also hold a [`RowsRead`] under ROWS_READ; one that replaces others has their reports.

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

    def __getitem__(self, place: int) -> Any:
        return self.__getitems__([place])[0]

    def __getitems__(self, places: Sequence[int]) -> list[Any]:
        several = getattr(self.samples, "__getitems__", None)
        found = [self.samples[place] for place in places] if several is None else several(places)
        return [
            self._good(place, sample, reason_of(sample)) if isinstance(sample, Mapping) else sample
            for place, sample in zip(places, found, strict=True)
        ]

    def instead_of(self, sample: Mapping[str, Any], unreadable: Unreadable) -> dict[str, Any]:
        """The next good sample; see [`Replacing`]."""
        read: RowsRead = sample[ROWS_READ]
        assert read.place is not None
        return self._good(read.place, sample, unreadable, read.bad)

    def _good(
        self, place: int, sample: Mapping[str, Any], unreadable: Unreadable | None, bad: tuple[BadRow, ...] = ()
    ) -> dict[str, Any]:
        while unreadable is not None:
            bad = (*bad, self._report(place, sample, unreadable, counted=not bad))
            if len(bad) >= len(self) or sum(not row.blank for row in bad) >= _MOST_IN_A_ROW:
                raise NothingReadable(
                    f"{len(bad)} {self.split} rows one after the other are bad, the last one "
                    f"{bad[-1].path or f'row {bad[-1].row}'} ({bad[-1].reason}). Repair them or choose other data."
                )
            place = (place + 1) % len(self)
            sample = self.samples[place]
            unreadable = reason_of(sample)
        return {**sample, ROWS_READ: RowsRead(1, bad, place)}

    def _report(self, place: int, sample: Mapping[str, Any], unreadable: Unreadable, counted: bool) -> BadRow:
        row = sample.get("clip", sample.get("sample_index", place))  # samples of a clip that was cut have its number
        return BadRow(self.split, int(row), unreadable.reason, unreadable.path, counted, isinstance(unreadable, Blank))


@dataclass
class ReportingCollator:
    """Wraps a collator. Batches also hold ROWS_READ: a list of what was read for each sample.

    If a value turns out to be bad only when the collator uses it, its sample is replaced too.

    Args:
        collator: makes a batch of samples.
        dataset: where the samples come from.

    Raises:
        NothingReadable: while collating, if there is no good sample.
    """

    collator: Callable[[list[dict[str, Any]]], dict[str, Any]]
    dataset: Replacing

    def __call__(self, samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        try:
            batch = self._batch(samples)
        except Unreadable as error:
            samples = self._usable(samples, error)
            batch = self._batch(samples)
        batch[ROWS_READ] = [_told(sample.get(ROWS_READ, _ONE_GOOD)) for sample in samples]
        return batch

    def _batch(self, samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        return self.collator([{name: value for name, value in row.items() if name != ROWS_READ} for row in samples])

    def _usable(self, samples: Sequence[Mapping[str, Any]], error: Unreadable) -> list[Mapping[str, Any]]:
        """The samples, with others in place of those that the collator cannot use. `error` is what it raised."""
        problems = [self._problem(sample) for sample in samples]
        if not any(problems):
            raise error
        found = []
        for sample, problem in zip(samples, problems, strict=True):
            while problem is not None:
                sample = self.dataset.instead_of(sample, problem)
                problem = self._problem(sample)
            found.append(sample)
        return found

    def _problem(self, sample: Mapping[str, Any]) -> Unreadable | None:
        try:
            self._batch([sample])
        except Unreadable as error:
            return error
        return None


@dataclass
class RefusingCollator:
    """Wraps a collator, for data whose rows were all checked before and can't be replaced, such as labelled ones.

    Args:
        collator: makes a batch of samples.

    Raises:
        NothingReadable: while collating, if a sample cannot be read any more.
    """

    collator: Callable[[list[dict[str, Any]]], dict[str, Any]]

    def __call__(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        try:
            for sample in samples:
                if (unreadable := reason_of(sample)) is not None:
                    raise unreadable
            return self.collator(samples)
        except Unreadable as error:
            raise NothingReadable(
                f"A row that was good when it was checked cannot be read any more: {error.path or 'of no file'} "
                f"({error.reason})."
            ) from error


def _told(read: RowsRead) -> RowsRead:
    """What goes along with a batch: without the place, so that good rows are all told by one and the same object."""
    return replace(read, place=None) if read.bad or read.count != 1 else _ONE_GOOD
