"""Which clips become samples: what is wrong with them, and how long they are."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
from datasets import Dataset, Value
from numpy.typing import NDArray

from ...data.arguments import DataArguments
from ...data.quality.processes import processes_for
from ...data.quality.reading import Unreadable, readable
from ...data.quality.screening import NothingLeft, good_rows, inspected
from ...data.summary import note
from .decoding.sound_files import open_sound
from .long_clips import is_silent

_BLOCK = 1 << 20  # samples, of all channels together, read at a time
_LOUDEST = 2.0**31  # largest value of sound that is stored as integers; the squares of much larger values overflow
_HEADER = {"frames": Value("int64"), "rate": Value("int64"), "states_rate": Value("bool")}
_REPORT = {"problem": Value("string"), "silent": Value("bool"), **_HEADER}
_NOTHING = {"problem": "", "silent": False, "frames": 0, "rate": 0, "states_rate": True}


class HasSamplingRate(Protocol):
    """A feature extractor of transformers for sound."""

    sampling_rate: int


@dataclass(frozen=True)
class Limits:
    """Which clips become samples. All lengths are numbers of samples at `rate`.

    Args:
        rate: the sampling rate of the samples, in Hz.
        needed: the least that the model can use.
        shortest: the least that is wanted; shorter clips are left out.
        longest: the most; of longer clips a sample is a part of this length.
        array_rate: the sampling rate of arrays that do not state theirs.
    """

    rate: int
    needed: int
    shortest: float
    longest: int
    array_rate: int

    @classmethod
    def of(cls, feature_extractor: HasSamplingRate, args: DataArguments, needed: int) -> "Limits":
        """The limits that the flags set.

        Raises:
            ValueError: `max_duration_in_seconds` is below what the model needs.
        """
        rate = feature_extractor.sampling_rate
        longest = int(args.max_duration_in_seconds * rate)
        if longest < needed:
            raise ValueError(
                f"max_duration_in_seconds={args.max_duration_in_seconds} is {longest} samples at {rate} Hz, but the "
                f"model needs {needed} or more. Raise it to at least {needed / rate:.3f}."
            )
        return cls(rate, needed, args.min_duration_in_seconds * rate, longest, args.array_sampling_rate or rate)

    def refusal(self, samples: int) -> str:
        """Why a clip of this length is left out; "" if it is not."""
        if samples == 0:
            return "no samples"
        if samples < self.needed:
            return f"too short ({samples} samples, the model needs {self.needed})"
        if samples < self.shortest:
            return f"shorter than min_duration_in_seconds={self.shortest / self.rate:g}"
        return ""


@dataclass(frozen=True)
class Clips:
    """What was found about each clip of a split.

    Args:
        problems: what is wrong with it; "" if nothing.
        silent: whether all of it was decoded, and is silence.
        frames: its length, in samples of each channel, at its own rate.
        rates: its sampling rate, in Hz; 0 if the clip cannot be opened.
        limits: which lengths are used.
        split: the split.
    """

    problems: list[str]
    silent: NDArray[np.bool_]
    frames: NDArray[np.int64]
    rates: NDArray[np.int64]
    limits: Limits
    split: str

    @classmethod
    def decoded(cls, raw: Dataset, limits: Limits, args: DataArguments, split: str) -> "Clips":
        """What decoding them shows."""
        report = _report(raw, inspect, _REPORT, limits, args, f"Checking {split} sound")
        _note_assumed(report, limits, split)
        silent, frames, rates = (np.array(report[name][:]) for name in ("silent", "frames", "rate"))
        return cls(report["problem"][:], silent, frames, rates, limits, split)

    @classmethod
    def headers(cls, raw: Dataset, limits: Limits, args: DataArguments, split: str) -> "Clips":
        """What their headers say. Nothing is wrong with any of them, as far as is known."""
        report = _report(raw, read_header, _HEADER, limits, args, f"Reading lengths of {split} sound")
        frames, rates = (np.array(report[name][:]) for name in ("frames", "rate"))
        return cls([""] * len(raw), np.zeros(len(raw), dtype=bool), frames, rates, limits, split)

    @property
    def samples(self) -> NDArray[np.int64]:
        """The lengths after resampling; 0 if they are not known."""
        return self.frames * self.limits.rate // np.maximum(self.rates, 1)

    def good(self, rows: Dataset, args: DataArguments, total: int) -> NDArray[np.int64]:
        """The positions of the clips that are not bad; see `good_rows`."""
        return good_rows(
            self.problems,
            rows,
            noun="sound",
            split=self.split,
            max_bad_fraction=args.max_bad_fraction,
            column="audio",
            total=total,
        )

    def suitable(self, rows: NDArray[np.int64], silence: bool) -> NDArray[np.int64]:
        """Those of the rows that become samples. What is left out is noted in the summary.

        Args:
            rows: the positions of clips that are not bad. Those whose length is not known are kept.
            silence: whether silence is kept.

        Raises:
            NothingLeft: none becomes a sample.
        """
        left, samples, known = rows, self.samples, self.rates > 0
        needed, seconds = self.limits.needed, self.limits.shortest / self.limits.rate
        reasons = {
            "without samples": (known & (samples == 0), "Give other data."),
            f"shorter than the {needed} samples that the model needs": (
                known & (samples < needed),
                "Give longer ones.",
            ),
            f"shorter than min_duration_in_seconds={seconds}": (known & (samples < self.limits.shortest), "Lower it."),
            "silent": (self.silent & (not silence), "Give other data."),
        }
        for reason, (refused, remedy) in reasons.items():
            kept = left[~refused[left]]
            if len(kept) < len(left):
                note(self.split, f"{len(left) - len(kept)} of {len(rows)} sounds are {reason} and left out.")
            if len(kept) == 0:
                raise NothingLeft(f"No {self.split} sound is left: all {len(left)} are {reason}. {remedy}")
            left = kept
        return left

    def note_duration(self, rows: NDArray[np.int64]) -> None:
        """Notes in the summary how long the clips are, all together."""
        seconds = float((self.frames[rows] / np.maximum(self.rates[rows], 1)).sum())
        scale, unit = (3600, "hours") if seconds >= 3600 else (60, "minutes") if seconds >= 60 else (1, "seconds")
        note(self.split, f"{seconds / scale:.1f} {unit} of sound.")


def _report(
    raw: Dataset,
    function: Callable[..., Any],
    columns: dict[str, Value],
    limits: Limits,
    args: DataArguments,
    desc: str,
) -> Dataset:
    inspect = partial(function, array_rate=limits.array_rate)
    return inspected(raw, inspect, "audio", columns, num_proc=processes_for(len(raw), args), desc=desc)


def _note_assumed(report: Dataset, limits: Limits, split: str) -> None:
    if assumed := len(report) - sum(report["states_rate"][:]):
        note(
            split,
            f"{assumed} of {len(report)} sounds are arrays without a sampling rate: {limits.array_rate} Hz is taken. "
            "Say another one with --array_sampling_rate.",
        )


def read_header(value: dict[str, Any] | None, array_rate: int) -> dict[str, Any]:
    """The length of a clip and its rate, without decoding it; 0 if it cannot be opened, which is found when it is
    read.

    Args:
        value: {"bytes": encoded file or None, "path": its path}.
        array_rate: as for `open_sound`.
    """
    found = readable(_header, value, array_rate)
    return {"frames": 0, "rate": 0, "states_rate": False} if isinstance(found, Unreadable) else found


def _header(value: dict[str, Any] | None, array_rate: int) -> dict[str, Any]:
    with open_sound(value, array_rate) as sound:
        return {"frames": sound.frames, "rate": sound.rate, "states_rate": sound.states_rate}


def inspect(value: dict[str, Any] | None, array_rate: int) -> dict[str, Any]:
    """Decodes a clip to find what is wrong with it ("" if nothing), whether it is silent, its length and its rate.

    The arguments are those of `read_header`.
    """
    found = readable(_inspected, value, array_rate)
    return {**_NOTHING, "problem": found.reason} if isinstance(found, Unreadable) else {**_NOTHING, **found}


def _inspected(value: dict[str, Any] | None, array_rate: int) -> dict[str, Any]:
    with open_sound(value, array_rate, whole=True) as sound:
        lowest, highest, start = np.inf, -np.inf, 0
        while start < sound.frames and len(block := sound.read(start, max(1, _BLOCK // sound.channels))):
            check_values(block)
            mono = block.mean(axis=1)
            lowest, highest, start = min(lowest, mono.min()), max(highest, mono.max()), start + len(block)
        silent = is_silent(np.array([lowest, highest], dtype=np.float32))
        header = {"frames": sound.frames, "rate": sound.rate, "states_rate": sound.states_rate}
        return {"silent": silent, **header}


def check_values(block: NDArray[np.float32]) -> None:
    """Raises Unreadable if there are values that no sound has."""
    if not (np.abs(block) <= _LOUDEST).all():  # also finds NaN, which is not <= anything
        raise Unreadable("samples that are not finite, or beyond any sound")
