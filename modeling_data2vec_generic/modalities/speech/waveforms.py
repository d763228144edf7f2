"""Checks all clips of sound before training, and cuts long ones; decodes, mixes down and resamples on access.

soundfile decodes (wav, flac, ogg, mp3, …) and soxr resamples, since the decoding of datasets needs torchcodec.
"""

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import soundfile
import soxr
from datasets import Dataset, Features, Value
from numpy.typing import NDArray

from ...data.arguments import DataArguments
from ...data.encoded_files import encoded_file
from ...data.quality.processes import processes_for
from ...data.quality.screening import NothingLeft, good_rows
from ...data.summary import note
from .mp3 import uncounted_frames, with_frame_count

_BLOCK = 1 << 20  # samples, of all channels together, read at a time while checking
# Lowest and highest sampling rate. A damaged header may state any rate, and resampling 1 Hz to 16 kHz would take
# 16,000 times the memory.
_RATES = (100, 1_000_000)
_MOST_CHANNELS = 64
_LOUDEST = 2.0**31  # largest value of sound that is stored as integers; the squares of much larger values overflow
_UNKNOWN_LENGTH = 0x7FFF0000  # lengths above this are placeholders of recorders that write to a pipe
# What libsndfile logs about wrong lengths in the headers of wav, aiff and au.
_SHORTFALL = re.compile(r"^ *(?:data|SSND|Data Size) *: (\d+) \(should be (\d+)\)", re.MULTILINE)
_OGG_LAST_PAGE = 0x04  # flag in the header of a page of an Ogg stream
_OGG_LARGEST_PAGE = 65307
_COUNTS = ("frames", "rate", "mpeg_frames")  # numbers in the report on a clip


class HasSamplingRate(Protocol):
    """A feature extractor of transformers for sound."""

    sampling_rate: int


def prepare_speech(
    raw: Dataset, feature_extractor: HasSamplingRate, args: DataArguments, split: str, min_samples: int
) -> Dataset:
    """Checks clips and cuts those longer than `max_duration_in_seconds` into consecutive pieces of that length.

    Each piece has the label of its clip. A last piece that is too short is dropped. Clips that are broken, truncated
    or shorter than `min_samples` are bad rows (see `good_rows`). Clips shorter than `min_duration_in_seconds` are left
    out too, but do not count as bad.

    Args:
        raw: the rows, as `load_raw_datasets` gives them.
        feature_extractor: its `sampling_rate` is the rate of the samples.
        args: the flags.
        split: the split, for messages.
        min_samples: the least number of samples, at the extractor's rate, that the model can use.

    Returns:
        A map-style dataset of `audio` (float32 (samples,), mono, at the extractor's rate, decoded on access),
        `sample_index`, `clip` (the `sample_index` of the whole clip), `length` (in samples, by which Trainer can
        group) and, if `raw` has it, `label`.

    Raises:
        ValueError: too many clips are bad, none is left, or `max_duration_in_seconds` is below `min_samples`.
    """
    rate = feature_extractor.sampling_rate
    checked = _check(raw, rate, args, split, min_samples)
    rows = _usable(raw, checked.problems, checked.samples, rate, args, split)
    shortest = max(min_samples, args.min_duration_in_seconds * rate)
    pieces = [
        (row, start, count)
        for row in rows.tolist()
        for start, count in _pieces(
            int(checked.frames[row]), int(checked.rates[row]), args.max_duration_in_seconds, shortest / rate
        )
    ]
    _note_duration(pieces, checked.rates, split)
    if len(pieces) > len(rows):
        longest = args.max_duration_in_seconds
        note(split, f"Sounds longer than {longest:g} seconds are cut: {len(rows)} give {len(pieces)} pieces.")
    return _read_on_access(raw, pieces, checked, rate)


def prepare_clips(
    raw: Dataset,
    feature_extractor: HasSamplingRate,
    args: DataArguments,
    split: str,
    min_samples: int,
    label_problem: Callable[[Any, int], str],
) -> Dataset:
    """Like `prepare_speech`, but never cuts clips, for labels such as transcripts that belong to a whole clip.

    Clips longer than `max_duration_in_seconds` are left out, but do not count as bad.

    Args:
        label_problem: returns what is wrong with a label ("" if nothing), given the label and the number of samples of
            its clip, at the extractor's rate. Clips with such a label are bad rows.
    """
    rate = feature_extractor.sampling_rate
    checked = _check(raw, rate, args, split, min_samples)
    problems = [
        problem or label_problem(label, int(count))
        for problem, label, count in zip(checked.problems, raw["label"][:], checked.samples, strict=True)
    ]
    rows = _usable(raw, problems, checked.samples, rate, args, split)
    short_enough = rows[checked.samples[rows] <= args.max_duration_in_seconds * rate]
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
    whole = [(row, 0, int(checked.frames[row])) for row in short_enough.tolist()]
    _note_duration(whole, checked.rates, split)
    return _read_on_access(raw, whole, checked, rate)


@dataclass(frozen=True)
class _Checked:
    """What was found about each clip.

    Args:
        problems: what is wrong with it; "" if nothing.
        frames: its length, in samples of each channel, at its own rate.
        rates: its sampling rate, in Hz.
        samples: its length after resampling.
        mpeg_frames: the number of frames of an MP3 file that does not state it; 0 for all other files.
    """

    problems: list[str]
    frames: NDArray[np.int64]
    rates: NDArray[np.int64]
    samples: NDArray[np.int64]
    mpeg_frames: NDArray[np.int64]


def _check(raw: Dataset, rate: int, args: DataArguments, split: str, min_samples: int) -> _Checked:
    max_samples = int(args.max_duration_in_seconds * rate)
    if max_samples < min_samples:
        raise ValueError(
            f"max_duration_in_seconds={args.max_duration_in_seconds} is {max_samples} samples at {rate} Hz, but the "
            f"model needs {min_samples} or more. Raise it to at least {min_samples / rate:.3f}."
        )
    report = raw.map(
        _inspect,
        input_columns="audio",
        remove_columns=raw.column_names,
        features=Features({"problem": Value("string")} | {name: Value("int64") for name in _COUNTS}),
        num_proc=processes_for(len(raw), args),
        desc=f"Checking {split} sound",
    )
    frames, rates, mpeg_frames = (np.array(report[name][:]) for name in _COUNTS)
    if uncounted := int((mpeg_frames > 0).sum()):
        note(
            split, f"{uncounted} of {len(raw)} sounds are MP3 files that do not state their whole length: all is read."
        )
    samples = frames * rate // np.maximum(rates, 1)  # after resampling
    problems = [
        problem or (f"too short ({count} samples, the model needs {min_samples})" if count < min_samples else "")
        for problem, count in zip(report["problem"][:], samples, strict=True)
    ]
    return _Checked(problems, frames, rates, samples, mpeg_frames)


def _usable(
    raw: Dataset, problems: list[str], samples: NDArray[np.int64], rate: int, args: DataArguments, split: str
) -> NDArray[np.int64]:
    """The positions of the clips that are not bad and not shorter than `min_duration_in_seconds`."""
    good = good_rows(problems, raw, noun="sound", split=split, max_bad_fraction=args.max_bad_fraction, column="audio")
    long_enough = good[samples[good] >= args.min_duration_in_seconds * rate]
    if len(long_enough) < len(good):
        note(
            split,
            f"{len(good) - len(long_enough)} of {len(good)} sounds are shorter than min_duration_in_seconds="
            f"{args.min_duration_in_seconds} and left out.",
        )
    if len(long_enough) == 0:
        raise NothingLeft(
            f"No {split} sound is left: all {len(good)} are shorter than "
            f"min_duration_in_seconds={args.min_duration_in_seconds}. Lower it."
        )
    return long_enough


def _note_duration(pieces: list[tuple[int, int, int]], rates: NDArray[np.int64], split: str) -> None:
    """Notes in the summary how long all pieces together are. A piece is (position, first frame, frames)."""
    seconds = sum(frames / rates[row] for row, _, frames in pieces)
    scale, unit = (3600, "hours") if seconds >= 3600 else (60, "minutes") if seconds >= 60 else (1, "seconds")
    note(split, f"{seconds / scale:.1f} {unit} of sound.")


def _read_on_access(raw: Dataset, pieces: list[tuple[int, int, int]], checked: _Checked, rate: int) -> Dataset:
    """The dataset that decodes its samples on access. A piece is (position in `raw`, first frame, frames)."""
    rows, starts, counts = zip(*pieces, strict=True)
    clips = raw["sample_index"][:]
    dataset = Dataset.from_dict(
        {
            "row": rows,
            "start": starts,
            "frames": counts,
            "sample_index": range(len(pieces)),
            "clip": [clips[row] for row in rows],
            "length": np.array(counts) * rate // checked.rates[list(rows)],
            "mpeg_frames": checked.mpeg_frames[list(rows)],
        }
    )
    if "label" in raw.features:
        labels = raw["label"][:]
        dataset = dataset.add_column("label", [labels[row] for row in rows], feature=raw.features["label"])
    return dataset.with_transform(PieceReader(raw.select_columns("audio"), rate))


class PieceReader:
    """A transform for `Dataset.with_transform`: reads `audio` from the clips of `source`.

    A piece is given by the columns `row`, `start`, `frames` and `mpeg_frames`.
    """

    def __init__(self, source: Dataset, rate: int) -> None:
        self.source = source
        self.rate = rate

    def __call__(self, batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        if not {"row", "start", "frames", "mpeg_frames"} <= batch.keys():  # other columns were selected
            return batch
        pieces = zip(*(batch.pop(name) for name in ("row", "start", "frames", "mpeg_frames")), strict=True)
        batch["audio"] = [decode_audio(self.source[row]["audio"], self.rate, *piece) for row, *piece in pieces]
        return batch


def decode_audio(
    value: dict[str, Any], rate: int, start: int = 0, frames: int = -1, mpeg_frames: int = 0
) -> np.ndarray:
    """Decodes sound to one channel, the mean of all channels, float32 (samples,).

    Args:
        value: {"bytes": encoded file or None, "path": its path}.
        rate: the sampling rate of the result, in Hz.
        start: the first frame of the piece, at the rate of the file.
        frames: the number of frames of the piece, at the rate of the file; -1 reads to the end.
        mpeg_frames: the number of frames of an MP3 file that does not state it; otherwise 0.
    """
    sound, found = soundfile.read(
        _opened(value, mpeg_frames), frames=frames, start=start, dtype="float32", always_2d=True
    )
    mono = sound[:, 0] if sound.shape[1] == 1 else sound.mean(axis=1)
    return mono if found == rate else soxr.resample(mono, found, rate)


def _pieces(frames: int, rate: int, longest: float, shortest: float) -> list[tuple[int, int]]:
    """Consecutive pieces of `longest` seconds, as (start, frames), without a last one below `shortest` seconds."""
    size = int(longest * rate)
    found = [(start, min(size, frames - start)) for start in range(0, frames, size)]
    if len(found) > 1 and found[-1][1] < shortest * rate + 1:  # + 1: resampling rounds
        found.pop()
    return found


def _inspect(value: dict[str, Any] | None) -> dict[str, Any]:
    """Decodes a clip to find what is wrong with it ("" if nothing), its length in frames and its rate."""
    nothing = {"frames": 0, "rate": 0, "mpeg_frames": 0}
    if value is None or (value["bytes"] is None and value["path"] is None):
        return {**nothing, "problem": "no sound"}
    try:
        with soundfile.SoundFile(encoded_file(value)) as sound:
            is_mpeg = sound.format == "MP3"
        mpeg_frames = uncounted_frames(_content(value)) if is_mpeg else 0
        with soundfile.SoundFile(_opened(value, mpeg_frames)) as sound:
            if problem := _implausible(sound):
                return {**nothing, "problem": problem}
            frames, problem = _read_through(sound)
            problem = _truncation(sound, value) or problem
            return {"problem": problem, "frames": frames, "rate": sound.samplerate, "mpeg_frames": mpeg_frames}
    except Exception as error:  # libsndfile and its codecs raise exceptions of several types
        return {**nothing, "problem": f"{type(error).__name__}: {error}"}


def _opened(value: dict[str, Any], mpeg_frames: int) -> io.BytesIO | str:
    """The file for soundfile, repaired if it is an MP3 file that does not state its number of frames."""
    return io.BytesIO(with_frame_count(_content(value), mpeg_frames)) if mpeg_frames else encoded_file(value)


def _content(value: dict[str, Any]) -> bytes:
    file = encoded_file(value)
    return Path(file).read_bytes() if isinstance(file, str) else file.getvalue()


def _implausible(sound: soundfile.SoundFile) -> str:
    """What in the header would take too much memory; "" if nothing."""
    lowest, highest = _RATES
    if not lowest <= sound.samplerate <= highest:
        return f"a rate of {sound.samplerate} Hz, which is not within {lowest} to {highest}"
    if sound.channels > _MOST_CHANNELS:
        return f"{sound.channels} channels, more than {_MOST_CHANNELS}"
    return ""


def _read_through(sound: soundfile.SoundFile) -> tuple[int, str]:
    """The number of frames that can be decoded, and what is wrong with them ("" if nothing)."""
    frames, problem = 0, ""
    # Not by `sound.blocks`: with fewer frames than the header states, it returns uninitialised memory.
    while len(block := sound.read(_BLOCK // sound.channels, dtype="float32", always_2d=True)):
        frames += len(block)
        if not (np.abs(block) <= _LOUDEST).all():  # also finds NaN, which is not <= anything
            problem = "samples that are not finite, or beyond any sound"
    if frames < sound.frames:
        return frames, f"truncated: {frames} of {sound.frames} samples are there"
    return frames, problem if frames else "no samples"


def _truncation(sound: soundfile.SoundFile, value: dict[str, Any]) -> str:
    """Why the file is truncated; "" if it is not. A truncated wav or ogg is read without an error, unlike a flac."""
    if remark := _SHORTFALL.search(sound.extra_info):
        promised, present = int(remark[1]), int(remark[2])
        if present < promised < _UNKNOWN_LENGTH:
            return f"truncated: {present} of {promised} bytes are there"
    if sound.format == "OGG" and not _ends_with_last_page(_tail(value, _OGG_LARGEST_PAGE)):
        return "truncated: the stream has no last page, or a part of it only"
    return ""


def _ends_with_last_page(tail: bytes) -> bool:
    """Whether an Ogg stream ends with a complete page that is marked as the last one."""
    page = tail.rfind(b"OggS")
    header = tail[page : page + 27] if page >= 0 else b""
    if len(header) < 27 or not header[5] & _OGG_LAST_PAGE:
        return False
    sizes = tail[page + 27 : page + 27 + header[26]]
    return len(sizes) == header[26] and page + 27 + len(sizes) + sum(sizes) <= len(tail)


def _tail(value: dict[str, Any], size: int) -> bytes:
    """The last `size` bytes of the file."""
    file = encoded_file(value)
    with io.FileIO(file) if isinstance(file, str) else file as stream:
        stream.seek(0, io.SEEK_END)
        stream.seek(max(0, stream.tell() - size))
        return stream.read()
