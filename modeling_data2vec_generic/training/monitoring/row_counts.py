"""Bad rows that are found while a run reads its data: listed, named and counted; too many are an error."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from transformers.utils import logging

from ...data.quality.bad_rows import BadRows
from ...data.quality.reading import BadRow, RowsRead
from ...data.quality.screening import REMEDY, first_of

ROWS_NAME = "rows_read.json"
KINDS = ("read", "bad", "blank")
_FEWEST = 100  # rows that are read before the share of bad ones is checked
_MOST_MESSAGES = 20  # further bad rows are listed, but not named in the log

logger = logging.get_logger(__name__)


class RowCounts:
    """How many rows a run has read, and how many of them were bad, over all its processes.

    A row that is read again, in a later epoch or evaluation, counts again in both numbers, so that the share of bad
    ones stays what it is. It is listed and named once.

    Args:
        max_bad_fraction: the largest share of bad rows among those read.
        listed_in: the list of bad rows; None in all processes but the main one, which do not name them either.

    Blank rows, such as silence, are replaced and counted, but they are not bad: they are neither named nor listed.

    Attributes:
        read, bad, blank: by split, the numbers of rows.
    """

    def __init__(self, max_bad_fraction: float, listed_in: BadRows | None):
        self.max_bad_fraction, self.listed_in = max_bad_fraction, listed_in
        self.read: Counter[str] = Counter()
        self.bad: Counter[str] = Counter()
        self.blank: Counter[str] = Counter()
        self._messages = 0

    def add(self, split: str, read: int, bad: Sequence[BadRow]) -> None:
        """Counts rows that were read, and lists and names the bad ones among them."""
        self.read[split] += read
        self.bad[split] += sum(row.counted and not row.blank for row in bad)
        self.blank[split] += sum(row.counted and row.blank for row in bad)
        self.report(bad)

    def report(self, rows: Iterable[BadRow]) -> None:
        """Lists rows and names those that were not listed before, without counting them."""
        if self.listed_in is None:
            return
        new = self.listed_in.add(row.entry() for row in rows if not row.blank)
        if not new or self._messages > _MOST_MESSAGES:
            return
        self._messages += 1
        if self._messages > _MOST_MESSAGES:
            logger.warning(f"Further bad rows are only listed, in {self.listed_in.path}.")
            return
        what = f"{len(new)} rows are" if len(new) > 1 else "A row is"
        logger.warning(
            f"{what} bad ({first_of(new)}), see {self.listed_in.path}. The next good ones are read in their place."
        )

    def check(self, at_end: bool = False) -> None:
        """Compares the rows of all splits together with `max_bad_fraction`.

        Args:
            at_end: whether no further rows will be read. Otherwise nothing is compared before 100 rows were read.

        Raises:
            ValueError: too many are bad.
        """
        read, bad = self.read.total(), self.bad.total()
        if bad > self.max_bad_fraction * read and (at_end or read >= _FEWEST):
            listed = f", see {self.listed_in.path}" if self.listed_in is not None else ""
            raise ValueError(
                f"{bad} of the {read} rows read are bad{listed}: more than max_bad_fraction={self.max_bad_fraction} "
                f"allows. {REMEDY}"
            )

    def note_end(self) -> None:
        """Says at the end of a run how many rows were bad, and how many blank."""
        if self.listed_in is None:
            return
        of_all = f"of the {self.read.total()} rows read"
        if self.bad.total():
            logger.warning(
                f"{self.bad.total()} {of_all} were bad, and others were read in their place. They are listed in "
                f"{self.listed_in.path}."
            )
        if self.blank.total():
            logger.warning(
                f"{self.blank.total()} {of_all} were blank, such as silence, and others were read in their place. "
                "They do not count as bad."
            )

    def save(self, checkpoint: Path) -> None:
        """Writes the counts to `rows_read.json`."""
        counts = {split: {name: getattr(self, name)[split] for name in KINDS} for split in self.read}
        (checkpoint / ROWS_NAME).write_text(json.dumps(counts, indent=2), encoding="utf-8")

    def load(self, checkpoint: Path) -> None:
        """Goes on from what `save` wrote; from 0 if there is no such file."""
        path = checkpoint / ROWS_NAME
        counts = read_counts(path) if path.is_file() else {}
        for name in KINDS:
            setattr(self, name, Counter({split: found[name] for split, found in counts.items()}))


def read_counts(path: Path) -> dict[str, dict[str, int]]:
    """By split, the numbers that `RowCounts.save` wrote.

    Raises:
        ValueError, KeyError, TypeError: the file holds something else.
    """
    saved = json.loads(path.read_text(encoding="utf-8"))
    return {split: {name: int(counts[name]) for name in KINDS} for split, counts in dict(saved).items()}


def bad_of(reads: Iterable[RowsRead]) -> list[BadRow]:
    """The bad rows among those that were read for samples."""
    return [row for read in reads for row in read.bad]


def count_of(reads: Iterable[RowsRead]) -> int:
    """The number of rows that were read for samples."""
    return sum(read.count for read in reads)
