"""Makes samples of clips of sound: whole clips, or parts of long ones, decoded, mixed down and resampled on access."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import soxr
from datasets import Dataset
from numpy.typing import NDArray

from ...data.arguments import DataArguments
from ...data.quality.reading import Blank, readable
from ...data.quality.screening import NothingLeft, first_look
from ...data.summary import note
from .decoding.sound import Sound
from .decoding.sound_files import open_sound
from .inspection import Clips, HasSamplingRate, Limits, check_values
from .long_clips import LongClip, is_silent

# Clips of a split up to which the headers of all are read before the first step, which takes seconds.
_MOST_HEADERS = 10_000


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
    clips = Clips.decoded(look, limits, args, split)
    rows = clips.good(look, args, len(raw))
    read = partial(_sample, limits=limits)
    if len(look) == len(raw):
        rows = clips.suitable(rows, silence=False)
    elif lengths_wanted or len(raw) <= _MOST_HEADERS:
        clips = Clips.headers(raw, limits, args, split)
        rows = clips.suitable(np.arange(len(raw)), silence=True)
    else:
        note(
            split,
            f"There are more than {_MOST_HEADERS:,} sounds, whose lengths are not read before the first step: each "
            f"gives one sample per epoch, of those longer than {args.max_duration_in_seconds:g} seconds a random "
            "part of that length.",
        )
        return raw.with_transform(ClipReader(None, read))
    clips.note_duration(rows)
    parts = _parts(clips, rows)
    if (long := parts > 1).any():
        note(
            split,
            f"{long.sum()} of {len(rows)} sounds are longer than {args.max_duration_in_seconds:g} seconds and give "
            f"{parts[long].sum()} samples per epoch, each a random part of that length.",
        )
    return _read_on_access(raw, clips, rows, parts, read)


def prepare_pieces(
    raw: Dataset, feature_extractor: HasSamplingRate, args: DataArguments, split: str, min_samples: int
) -> Dataset:
    """Like `prepare_speech`, but checks all clips, keeps silence, and gives waveforms only.

    Of a clip longer than `max_duration_in_seconds`, the samples are parts of that length, each with the label of the
    clip. They cover it and overlap where its length is no multiple.
    """
    limits = Limits.of(feature_extractor, args, min_samples)
    clips = Clips.decoded(raw, limits, args, split)
    rows = clips.suitable(clips.good(raw, args, len(raw)), silence=True)
    clips.note_duration(rows)
    parts = _parts(clips, rows)
    if parts.sum() > len(rows):
        longest = args.max_duration_in_seconds
        note(split, f"Sounds longer than {longest:g} seconds are cut: {len(rows)} give {parts.sum()} pieces.")
    return _read_on_access(raw, clips, rows, parts, partial(decode_part, limits=limits))


def prepare_parts(
    raw: Dataset, feature_extractor: HasSamplingRate, args: DataArguments, split: str, min_samples: int
) -> Dataset:
    """Like `prepare_pieces`, but reads the headers of clips alone. An `Unreadable` is in place of what is broken."""
    limits = Limits.of(feature_extractor, args, min_samples)
    clips = Clips.headers(raw, limits, args, split)
    rows = clips.suitable(np.arange(len(raw)), silence=True)
    return _read_on_access(raw, clips, rows, _parts(clips, rows), partial(decode_part, limits=limits))


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
    clips = Clips.decoded(raw, limits, args, split)
    samples = clips.samples
    problems = [
        problem or ("" if limits.refusal(int(count)) else label_problem(label, int(count)))
        for problem, label, count in zip(clips.problems, raw["label"][:], samples, strict=True)
    ]
    clips = replace(clips, problems=problems)
    rows = clips.suitable(clips.good(raw, args, len(raw)), silence=True)
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
    clips.note_duration(short_enough)
    parts = _parts(clips, short_enough)
    return _read_on_access(raw, clips, short_enough, parts, partial(decode_part, limits=limits))


def _parts(clips: Clips, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many samples each of the clips gives: as many as cover it."""
    return np.maximum(-(-clips.samples[rows] // clips.limits.longest), 1)


def _read_on_access(
    raw: Dataset, clips: Clips, rows: NDArray[np.int64], parts: NDArray[np.int64], read: Callable[..., Any]
) -> Dataset:
    """The dataset that reads its samples on access.

    Args:
        raw: the clips.
        clips: what was found about them.
        rows: the positions of those that are used.
        parts: how many samples each of these gives.
        read: reads a sample, see `ClipReader`.
    """
    samples, longest = clips.samples[rows], clips.limits.longest
    lengths = np.where(samples > 0, np.minimum(samples, longest), longest)  # the most, if it is not known
    row = np.repeat(rows, parts)
    number = np.arange(len(row)) - np.repeat(np.cumsum(parts) - parts, parts)
    dataset = Dataset.from_dict(
        {
            "row": row,
            "place": number / np.maximum(np.repeat(parts, parts) - 1, 1),
            "sample_index": np.arange(len(row)),
            "clip": np.array(raw["sample_index"][:])[row],
            "length": np.repeat(lengths, parts),
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
        rate: the sampling rate of the result, in Hz, and of arrays that do not state theirs.
    """
    with open_sound(value, rate) as sound:
        return _mono(sound, 0, sound.frames, rate)


def decode_part(value: dict[str, Any], place: float, limits: Limits) -> NDArray[np.float32]:
    """Decodes the part of a clip that is at a place (see `LongClip`), or all of it if it is not long."""
    with open_sound(value, limits.array_rate) as sound:
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
    with open_sound(value, limits.array_rate) as sound:
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
    check_values(block)
    mono = block[:, 0] if block.shape[1] == 1 else block.mean(axis=1)
    return mono if sound.rate == rate else soxr.resample(mono, sound.rate, rate)
