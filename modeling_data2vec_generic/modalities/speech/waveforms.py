"""Makes samples of clips of sound: whole clips, or parts of long ones, decoded, mixed down and resampled on access."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import soxr
from datasets import Dataset, Features, Value
from numpy.typing import NDArray

from ...data.arguments import DataArguments
from ...data.cache_keys import renewed
from ...data.quality.processes import processes_for
from ...data.quality.reading import Blank, Unreadable, readable
from ...data.quality.screening import NothingLeft, first_look, good_rows
from ...data.summary import note
from .sound import LongClip, Sound, is_silent
from .sound_files import open_sound

_BLOCK = 1 << 20  # samples, of all channels together, read at a time while checking
_LOUDEST = 2.0**31  # largest value of sound that is stored as integers; the squares of much larger values overflow
# Clips of a split up to which the headers of all are read before the first step, which takes seconds.
_MOST_HEADERS = 10_000
_HEADER = {"frames": Value("int64"), "rate": Value("int64")}
_REPORT = {"problem": Value("string"), "silent": Value("bool"), **_HEADER}
_NOTHING = {"problem": "", "silent": False, "frames": 0, "rate": 0}


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
    """

    rate: int
    needed: int
    shortest: float
    longest: int

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
        return cls(rate, needed, args.min_duration_in_seconds * rate, longest)

    def refusal(self, samples: int) -> str:
        """Why a clip of this length is left out; "" if it is not."""
        if samples == 0:
            return "no samples"
        if samples < self.needed:
            return f"too short ({samples} samples, the model needs {self.needed})"
        if samples < self.shortest:
            return f"shorter than min_duration_in_seconds={self.shortest / self.rate:g}"
        return ""


def prepare_speech(
    raw: Dataset,
    feature_extractor: HasSamplingRate,
    args: DataArguments,
    split: str,
    min_samples: int,
    lengths_wanted: bool = False,
) -> Dataset:
    """Samples for pre-training: of a clip longer than `max_duration_in_seconds`, a random part of that length.

    Clips that are broken or truncated are bad rows (see `good_rows`). Clips without samples or with silence only, and
    those shorter than `min_samples` or `min_duration_in_seconds`, are left out too, but do not count as bad. 256 clips
    are decoded here to check them, or all (`first_look`); what is wrong with the others is found when they are read.

    If there are at most 10,000 clips, or if lengths are wanted, the headers of all are read. A long clip then gives
    as many samples as parts of `max_duration_in_seconds` cover it, and otherwise one.

    Args:
        raw: the rows, as `load_raw_datasets` gives them.
        feature_extractor: its `sampling_rate` is the rate of the samples.
        args: the flags.
        split: the split, for messages.
        min_samples: the least number of samples, at the extractor's rate, that the model can use.
        lengths_wanted: whether the samples have to have a `length`.

    Returns:
        A map-style dataset of `audio`, read on access, `sample_index` and, if `raw` has it, `label`. If headers were
        read, it also has `clip` (the `sample_index` of the whole clip) and `length` (in samples, at the extractor's
        rate). `audio` is a waveform, float32 (samples,), mono, at the extractor's rate; or a `LongClip`, of which the
        collator reads a part; or an `Unreadable`.

    Raises:
        ValueError: too many clips are bad, none is left, or `max_duration_in_seconds` is below `min_samples`.
    """
    limits = Limits.of(feature_extractor, args, min_samples)
    look = first_look(raw, args)
    checked = _checked(look, args, split)
    good = _good(checked, look, args, split, len(raw))
    read = partial(_sample, limits=limits)
    if len(look) == len(raw):
        rows = _suitable(checked, good, limits, split, silence=False)
    elif lengths_wanted or len(raw) <= _MOST_HEADERS:
        checked = _headers(raw, args, split)
        rows = _suitable(checked, np.arange(len(raw)), limits, split, silence=True)
    else:
        note(
            split,
            f"There are more than {_MOST_HEADERS:,} sounds, whose lengths are not read before the first step: each "
            f"gives one sample per epoch, of those longer than {args.max_duration_in_seconds:g} seconds a random "
            "part of that length.",
        )
        return raw.with_transform(ClipReader(None, read))
    samples = checked.samples(limits.rate)[rows]
    parts = np.maximum(-(-samples // limits.longest), 1)
    _note_duration(checked, rows, split)
    if parts.sum() > len(rows):
        long = parts > 1
        note(
            split,
            f"{long.sum()} of {len(rows)} sounds are longer than {args.max_duration_in_seconds:g} seconds and give "
            f"{parts[long].sum()} samples per epoch, each a random part of that length.",
        )
    return _read_on_access(raw, rows, parts, np.where(samples > 0, samples, limits.longest), limits, read)


def prepare_pieces(
    raw: Dataset, feature_extractor: HasSamplingRate, args: DataArguments, split: str, min_samples: int
) -> Dataset:
    """Like `prepare_speech`, but checks all clips, keeps silence, and gives waveforms only.

    Of a clip longer than `max_duration_in_seconds`, the samples are parts of that length, each with the label of the
    clip. They cover it and overlap where its length is no multiple.
    """
    limits = Limits.of(feature_extractor, args, min_samples)
    checked = _checked(raw, args, split)
    rows = _suitable(checked, _good(checked, raw, args, split, len(raw)), limits, split, silence=True)
    samples = checked.samples(limits.rate)[rows]
    parts = np.maximum(-(-samples // limits.longest), 1)
    _note_duration(checked, rows, split)
    if parts.sum() > len(rows):
        longest = args.max_duration_in_seconds
        note(split, f"Sounds longer than {longest:g} seconds are cut: {len(rows)} give {parts.sum()} pieces.")
    return _read_on_access(raw, rows, parts, samples, limits, partial(decode_part, limits=limits))


def prepare_clips(
    raw: Dataset,
    feature_extractor: HasSamplingRate,
    args: DataArguments,
    split: str,
    min_samples: int,
    label_problem: Callable[[Any, int], str],
) -> Dataset:
    """Like `prepare_pieces`, but never cuts clips, for labels such as transcripts that belong to a whole clip.

    Clips longer than `max_duration_in_seconds` are left out, but do not count as bad.

    Args:
        label_problem: returns what is wrong with a label ("" if nothing), given the label and the number of samples of
            its clip, at the extractor's rate. Clips with such a label are bad rows.
    """
    limits = Limits.of(feature_extractor, args, min_samples)
    checked = _checked(raw, args, split)
    samples = checked.samples(limits.rate)
    problems = [
        problem or ("" if limits.refusal(int(count)) else label_problem(label, int(count)))
        for problem, label, count in zip(checked.problems, raw["label"][:], samples, strict=True)
    ]
    good = _good(_Checked(problems, checked.silent, checked.frames, checked.rates), raw, args, split, len(raw))
    rows = _suitable(checked, good, limits, split, silence=True)
    short_enough = rows[samples[rows] <= limits.longest]
    if len(short_enough) < len(rows):
        note(
            split,
            f"{len(rows) - len(short_enough)} of {len(rows)} sounds are longer than max_duration_in_seconds="
            f"{args.max_duration_in_seconds} and left out.",
        )
    if len(short_enough) == 0:
        raise NothingLeft(
            f"No {split} sound is left: all {len(rows)} are longer than max_duration_in_seconds="
            f"{args.max_duration_in_seconds}. Raise it."
        )
    _note_duration(checked, short_enough, split)
    parts = np.ones(len(short_enough), dtype=np.int64)
    return _read_on_access(
        raw, short_enough, parts, samples[short_enough], limits, partial(decode_part, limits=limits)
    )


@dataclass(frozen=True)
class _Checked:
    """What was found about each clip.

    Args:
        problems: what is wrong with it; "" if nothing.
        silent: whether all of it was decoded, and is silence.
        frames: its length, in samples of each channel, at its own rate.
        rates: its sampling rate, in Hz; 0 if it has none, because the clip cannot be opened.
    """

    problems: list[str]
    silent: NDArray[np.bool_]
    frames: NDArray[np.int64]
    rates: NDArray[np.int64]

    def samples(self, rate: int) -> NDArray[np.int64]:
        """The lengths after resampling."""
        return self.frames * rate // np.maximum(self.rates, 1)


def _checked(raw: Dataset, args: DataArguments, split: str) -> _Checked:
    """What decoding the clips shows."""
    report = _mapped(raw, inspect, _REPORT, args, f"Checking {split} sound")
    frames, rates, silent = (np.array(report[name][:]) for name in ("frames", "rate", "silent"))
    return _Checked(report["problem"][:], silent, frames, rates)


def _headers(raw: Dataset, args: DataArguments, split: str) -> _Checked:
    """What the headers of the clips say."""
    report = _mapped(raw, read_header, _HEADER, args, f"Reading lengths of {split} sound")
    frames, rates = (np.array(report[name][:]) for name in _HEADER)
    return _Checked([""] * len(raw), np.zeros(len(raw), dtype=bool), frames, rates)


def _mapped(
    raw: Dataset, function: Callable[..., Any], columns: dict[str, Value], args: DataArguments, desc: str
) -> Dataset:
    return renewed(raw, "audio").map(
        function,
        input_columns="audio",
        remove_columns=raw.column_names,
        features=Features(columns),
        num_proc=processes_for(len(raw), args),
        desc=desc,
    )


def _good(checked: _Checked, rows: Dataset, args: DataArguments, split: str, total: int) -> NDArray[np.int64]:
    return good_rows(
        checked.problems,
        rows,
        noun="sound",
        split=split,
        max_bad_fraction=args.max_bad_fraction,
        column="audio",
        total=total,
    )


def _suitable(
    checked: _Checked, rows: NDArray[np.int64], limits: Limits, split: str, silence: bool
) -> NDArray[np.int64]:
    """Those of the rows that become samples. What is left out is noted in the summary.

    Args:
        checked: what was found about each clip.
        rows: the positions of the clips that are not bad.
        limits: which lengths are used. Clips whose length is not known are kept.
        split: the split, for messages.
        silence: whether silence is kept.

    Raises:
        NothingLeft: none becomes a sample.
    """
    left, samples = rows, checked.samples(limits.rate)
    known, seconds = checked.rates > 0, limits.shortest / limits.rate
    reasons = {
        "without samples": (known & (samples == 0), "Give other data."),
        f"shorter than the {limits.needed} samples that the model needs": (
            known & (samples < limits.needed),
            "Give longer ones.",
        ),
        f"shorter than min_duration_in_seconds={seconds}": (known & (samples < limits.shortest), "Lower it."),
        "silent": (checked.silent & (not silence), "Give other data."),
    }
    for reason, (refused, remedy) in reasons.items():
        kept = left[~refused[left]]
        if len(kept) < len(left):
            note(split, f"{len(left) - len(kept)} of {len(rows)} sounds are {reason} and left out.")
        if len(kept) == 0:
            raise NothingLeft(f"No {split} sound is left: all {len(left)} are {reason}. {remedy}")
        left = kept
    return left


def _note_duration(checked: _Checked, rows: NDArray[np.int64], split: str) -> None:
    """Notes in the summary how long all clips together are."""
    seconds = float((checked.frames[rows] / np.maximum(checked.rates[rows], 1)).sum())
    scale, unit = (3600, "hours") if seconds >= 3600 else (60, "minutes") if seconds >= 60 else (1, "seconds")
    note(split, f"{seconds / scale:.1f} {unit} of sound.")


def _read_on_access(
    raw: Dataset,
    rows: NDArray[np.int64],
    parts: NDArray[np.int64],
    samples: NDArray[np.int64],
    limits: Limits,
    read: Callable[..., Any],
) -> Dataset:
    """The dataset that reads its samples on access.

    Args:
        raw: the clips.
        rows: the positions of those that are used.
        parts: how many samples each gives.
        samples: the length of each.
        limits: which lengths are used.
        read: reads a sample, see `ClipReader`.
    """
    row = np.repeat(rows, parts)
    number = np.arange(len(row)) - np.repeat(np.cumsum(parts) - parts, parts)
    dataset = Dataset.from_dict(
        {
            "row": row,
            "place": number / np.maximum(np.repeat(parts, parts) - 1, 1),
            "sample_index": np.arange(len(row)),
            "clip": np.array(raw["sample_index"][:])[row],
            "length": np.repeat(np.minimum(samples, limits.longest), parts),
        }
    )
    if "label" in raw.features:
        labels = raw["label"][:]
        dataset = dataset.add_column("label", [labels[position] for position in row], feature=raw.features["label"])
    return dataset.with_transform(ClipReader(raw.select_columns("audio"), read))


class ClipReader:
    """A transform for `Dataset.with_transform`: reads `audio`.

    Args:
        source: the clips, which the column `row` counts; the column `place` says which part is meant (see
            `LongClip`). None: the clips are in the column `audio` itself.
        read: returns a sample, given an encoded file and a place.
    """

    def __init__(self, source: Dataset | None, read: Callable[..., Any]) -> None:
        self.source = source
        self.read = read

    def __call__(self, batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        if self.source is None:
            if "audio" in batch:
                batch["audio"] = [readable(self.read, value) for value in batch["audio"]]
        elif {"row", "place"} <= batch.keys():  # else other columns were selected
            values = (self.source[row]["audio"] for row in batch.pop("row"))
            batch["audio"] = [
                readable(self.read, value, place) for value, place in zip(values, batch.pop("place"), strict=True)
            ]
        return batch


def decode_audio(value: dict[str, Any], rate: int) -> NDArray[np.float32]:
    """Decodes sound to one channel, the mean of all channels, float32 (samples,).

    Args:
        value: {"bytes": encoded file or None, "path": its path}.
        rate: the sampling rate of the result, in Hz.
    """
    with open_sound(value) as sound:
        return _mono(sound, 0, sound.frames, rate)


def decode_part(value: dict[str, Any], place: float, limits: Limits) -> NDArray[np.float32]:
    """Decodes the part of a clip that is at a place (see `LongClip`), or all of it if it is not long."""
    with open_sound(value) as sound:
        if sound.frames * limits.rate // sound.rate <= limits.longest:
            return _mono(sound, 0, sound.frames, limits.rate)
        frames = -(-limits.longest * sound.rate // limits.rate)
        return _mono(sound, round(place * (sound.frames - frames)), frames, limits.rate)[: limits.longest]


def _sample(value: dict[str, Any], place: float = 0.0, *, limits: Limits) -> NDArray[np.float32] | LongClip:
    """A clip, decoded unless it is long.

    Raises:
        Blank: it is too short or silent.
        Unreadable: it is broken; decoders raise other exceptions, too.
    """
    with open_sound(value) as sound:
        samples = sound.frames * limits.rate // sound.rate
        if refusal := limits.refusal(samples):
            raise Blank(refusal)
        if samples > limits.longest:
            part = partial(readable, partial(decode_part, limits=limits), value)
            return LongClip(part, place)
        waveform = _mono(sound, 0, sound.frames, limits.rate)
    if is_silent(waveform):
        raise Blank("silence")
    return waveform


def _mono(sound: Sound, start: int, frames: int, rate: int) -> NDArray[np.float32]:
    """A part of a sound: the mean of its channels, float32 (samples,), at `rate`. `start` and `frames` are at the
    rate of the sound."""
    block = sound.read(start, frames)
    _check_values(block)
    mono = block[:, 0] if block.shape[1] == 1 else block.mean(axis=1)
    return mono if sound.rate == rate else soxr.resample(mono, sound.rate, rate)


def _check_values(block: NDArray[np.float32]) -> None:
    if not (np.abs(block) <= _LOUDEST).all():  # also finds NaN, which is not <= anything
        raise Unreadable("samples that are not finite, or beyond any sound")


def read_header(value: dict[str, Any] | None) -> dict[str, int]:
    """The length of a clip and its rate, without decoding it; 0 if it cannot be opened, which is found when it is
    read."""
    found = readable(_header, value)
    return {"frames": 0, "rate": 0} if isinstance(found, Unreadable) else found


def _header(value: dict[str, Any] | None) -> dict[str, int]:
    with open_sound(value) as sound:
        return {"frames": sound.frames, "rate": sound.rate}


def inspect(value: dict[str, Any] | None) -> dict[str, Any]:
    """Decodes a clip to find what is wrong with it ("" if nothing), whether it is silent, its length and its rate."""
    found = readable(_inspected, value)
    return {**_NOTHING, "problem": found.reason} if isinstance(found, Unreadable) else {**_NOTHING, **found}


def _inspected(value: dict[str, Any] | None) -> dict[str, Any]:
    with open_sound(value, whole=True) as sound:
        lowest, highest, start = np.inf, -np.inf, 0
        while start < sound.frames and len(block := sound.read(start, max(1, _BLOCK // sound.channels))):
            _check_values(block)
            mono = block.mean(axis=1)
            lowest, highest, start = min(lowest, mono.min()), max(highest, mono.max()), start + len(block)
        silent = is_silent(np.array([lowest, highest], dtype=np.float32))
        return {"silent": silent, "frames": sound.frames, "rate": sound.rate}
