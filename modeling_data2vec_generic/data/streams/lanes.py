"""A lane gives out the samples of one window after the other, and good samples in place of bad ones."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice, tee
from typing import Any

from ..quality.reading import BadRow, Blank, NothingReadable, Unreadable, reason_of
from .ring import BrokenShards
from .windows import LanePosition, Window, WindowSettings

Sample = dict[str, Any]

_MOST_IN_A_ROW = 1000  # samples behind a window without a good one that are tried before the search for one ends


@dataclass
class Taken:
    """A sample that a lane has given out.

    Args:
        lane: the lane.
        window: the window whose turn it was.
        place: the position of the sample in the window.
        sample: the sample, or the good one that replaces it.
        found_at: where that was found: a window, and a position in it.
        bad: the report on the sample, if it was replaced.
    """

    lane: "Lane"
    window: Window
    place: int
    sample: Sample
    found_at: tuple[Window, int]
    bad: BadRow | None = None

    def replace(self, unreadable: Unreadable) -> None:
        """Takes the next good sample of the window, from its end on to its beginning, or of the windows behind it.

        Args:
            unreadable: what is wrong with the present one.

        Raises:
            NothingReadable: there is none.
        """
        if self.bad is None:  # other bad ones that are met here are reported in their own turn
            self.bad = _report(self.window, self.sample, unreadable)
        window, place = self.found_at
        window.unreadable.add(place)
        for window, place in self.lane.others(self.window, self.place):
            self.sample, self.found_at = window.samples[place], (window, place)
            if reason_of(self.sample) is None:
                return
            window.unreadable.add(place)
        raise NothingReadable(
            f"All rows of a window of the stream, and {_MOST_IN_A_ROW} behind it or all that follow, are bad, such as "
            f"{self.bad.path or f'row {self.bad.row}'} ({self.bad.reason}). Repair them or choose other data."
        )


class Lane:
    """One of the lanes of a stream.

    Args:
        number: which one.
        settings: how windows are read.
        position: where to begin.
        broken: where shards that cannot be read are noted.
    """

    def __init__(self, number: int, settings: WindowSettings, position: LanePosition, broken: BrokenShards) -> None:
        self.number, self.settings, self.broken = number, settings, broken
        self._windows = settings.read(number, position, broken)
        self._window: Window | None = None
        self._ahead: Iterator[Window] = iter(())  # windows behind this one, read only to replace bad samples

    @property
    def position(self) -> LanePosition:
        """Where the current window begins."""
        assert self._window is not None  # once a sample was given out
        return self._window.position

    def take(self, start: int, stop: int) -> tuple[list[Taken], list[BadRow]]:
        """Decodes samples of the lane, from sample `start` up to `stop`, in order.

        Those before, which another reader gives out or a run before it was resumed has given out, are passed over and
        not decoded. `start` must not lie before what was taken earlier.

        Returns:
            The samples, and the bad rows between them that have no samples.
        """
        found: list[Taken] = []
        left_out: list[BadRow] = []
        while start < stop:
            window = self._window_with(start)
            first = window.position.samples
            if start == first:
                left_out += window.left_out
            places = window.order[start - first : stop - first].tolist()
            for place, sample in zip(places, window.samples.__getitems__(places), strict=True):
                taken = Taken(self, window, place, sample, (window, place))
                if (unreadable := reason_of(sample)) is not None:
                    taken.replace(unreadable)
                found.append(taken)
            start += len(places)
        return found, left_out

    def _window_with(self, sample: int) -> Window:
        window = self._window
        while window is None or sample >= window.end.samples:
            window = next(self._windows)
            self._ahead = self.settings.read(self.number, window.end, self.broken)
        self._window = window
        return window

    def others(self, window: Window, place: int) -> Iterator[tuple[Window, int]]:
        """Windows, and positions in them, whose samples may replace a bad one of the current window."""
        size = len(window.samples)
        ahead, self._ahead = tee(self._ahead)  # the copy keeps what has been read
        own = ((window, (place + step) % size) for step in range(1, size))
        for other, number in chain(own, islice(_places_of(ahead), _MOST_IN_A_ROW)):
            if number not in other.unreadable:
                yield other, number


def _places_of(windows: Iterable[Window]) -> Iterator[tuple[Window, int]]:
    return ((window, place) for window in windows for place in range(len(window.samples)))


def _report(window: Window, sample: Mapping[str, Any], unreadable: Unreadable) -> BadRow:
    row = sample.get("clip", sample["sample_index"])  # samples of a clip that was cut have its number
    return window.names.bad_row(int(row), unreadable.reason, unreadable.path, isinstance(unreadable, Blank))
