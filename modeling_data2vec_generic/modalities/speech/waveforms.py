"""Sound: check every clip before training, cut long ones into pieces, decode, mix down and resample on access.

soundfile decodes (wav, flac, ogg, mp3, …) and soxr resamples: datasets' own decoding needs torchcodec.
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
from ...data.screening import NothingLeft, good_rows
from ...data.summary import note
from .mp3 import uncounted_frames, with_frame_count

_BLOCK = 1 << 20  # samples, of all channels together, read at a time while checking
# What a damaged header claims; resampling 1 Hz to 16 kHz would take 16,000 times the memory.
_RATES = (100, 1_000_000)
_MOST_CHANNELS = 64
_LOUDEST = 2.0**31  # of sound that is stored as whole numbers; the squares of much larger ones overflow
_UNKNOWN_LENGTH = 0x7FFF0000  # what a recorder that writes to a pipe puts for the length is above this
# libsndfile's remarks on the headers of wav, aiff and au.
_SHORTFALL = re.compile(r"^ *(?:data|SSND|Data Size) *: (\d+) \(should be (\d+)\)", re.MULTILINE)
_OGG_LAST_PAGE = 0x04  # flag in the header of a page of an Ogg stream
_OGG_LARGEST_PAGE = 65307
_COUNTS = ("frames", "rate", "mpeg_frames")  # of the report on a clip


class HasSamplingRate(Protocol):
    """A transformers feature extractor for sound."""

    sampling_rate: int


def prepare_speech(
    raw: Dataset, feature_extractor: HasSamplingRate, args: DataArguments, split: str, min_samples: int
) -> Dataset:
    """Map-style dataset of `audio` (float32 (samples,), mono, at the extractor's rate, decoded on access),
    `sample_index`, `clip` (the `sample_index` of the clip that it is a piece of), `length` (samples, by which Trainer
    can group) and, if `raw` has it, `label`.

    `raw` as load_raw_datasets gives it; `min_samples` is the fewest samples, at the extractor's rate, that the model
    can use. Clips longer than `max_duration_in_seconds` become consecutive pieces of that length, each with the clip's
    label; a last piece that is too short is dropped. Clips that are broken, truncated or below `min_samples` are left
    out as bad (see `good_rows`); those below `min_duration_in_seconds` as wished, without counting as bad.
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
    """As `prepare_speech`, but of whole clips, for labels that say what happens when, such as transcripts: clips
    longer than `max_duration_in_seconds` are left out as wished, without counting as bad.

    `label_problem` says what is wrong with a clip's label, given that and the clip's samples at the extractor's rate
    ("" if nothing); such clips are left out as bad.
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
    """Of each clip what is wrong with it ("" if nothing), its length in frames, its rate, how many samples resampling
    makes of it, and how many frames of MP3 it has if it does not say so itself (else 0)."""

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
        num_proc=args.preprocessing_num_workers,
        desc=f"Checking {split} sound",
    )
    frames, rates, mpeg_frames = (np.array(report[name][:]) for name in _COUNTS)
    if uncounted := int((mpeg_frames > 0).sum()):
        note(
            split, f"{uncounted} of {len(raw)} sounds are MP3 files that do not state their whole length: all is read."
        )
    samples = frames * rate // np.maximum(rates, 1)  # as many as resampling leaves
    problems = [
        problem or (f"too short ({count} samples, the model needs {min_samples})" if count < min_samples else "")
        for problem, count in zip(report["problem"][:], samples, strict=True)
    ]
    return _Checked(problems, frames, rates, samples, mpeg_frames)


def _usable(
    raw: Dataset, problems: list[str], samples: NDArray[np.int64], rate: int, args: DataArguments, split: str
) -> NDArray[np.int64]:
    """Positions of the clips that are neither bad nor shorter than is wished."""
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
    seconds = sum(frames / rates[row] for row, _, frames in pieces)
    scale, unit = (3600, "hours") if seconds >= 3600 else (60, "minutes") if seconds >= 60 else (1, "seconds")
    note(split, f"{seconds / scale:.1f} {unit} of sound.")


def _read_on_access(raw: Dataset, pieces: list[tuple[int, int, int]], checked: _Checked, rate: int) -> Dataset:
    """The dataset of (position in `raw`, first frame, frames), given what was found of all clips of `raw`."""
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
    """Transform of a dataset of pieces (row, start, frames, mpeg_frames) into one of `audio`, read from the clips of
    `source`."""

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
    """Mean of the channels, float32 (samples,) at `rate`, from {"bytes": encoded file or None, "path": its path}.

    `start` and `frames` choose a piece, counted in frames of the file; -1 reads to the end.
    `mpeg_frames` is how many frames an MP3 file has that does not say so itself.
    """
    sound, found = soundfile.read(
        _opened(value, mpeg_frames), frames=frames, start=start, dtype="float32", always_2d=True
    )
    mono = sound[:, 0] if sound.shape[1] == 1 else sound.mean(axis=1)
    return mono if found == rate else soxr.resample(mono, found, rate)


def _pieces(frames: int, rate: int, longest: float, shortest: float) -> list[tuple[int, int]]:
    """(start, frames) of consecutive pieces of `longest` seconds; a last one below `shortest` seconds is dropped."""
    size = int(longest * rate)
    found = [(start, min(size, frames - start)) for start in range(0, frames, size)]
    if len(found) > 1 and found[-1][1] < shortest * rate + 1:  # + 1: resampling rounds
        found.pop()
    return found


def _inspect(value: dict[str, Any] | None) -> dict[str, Any]:
    """What is wrong with a clip ("" if nothing), its length in frames and its rate. Reads all of it."""
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
    except Exception as error:  # libsndfile and its codecs raise in several ways; the reason is reported
        return {**nothing, "problem": f"{type(error).__name__}: {error}"}


def _opened(value: dict[str, Any], mpeg_frames: int) -> io.BytesIO | str:
    return io.BytesIO(with_frame_count(_content(value), mpeg_frames)) if mpeg_frames else encoded_file(value)


def _content(value: dict[str, Any]) -> bytes:
    file = encoded_file(value)
    return Path(file).read_bytes() if isinstance(file, str) else file.getvalue()


def _implausible(sound: soundfile.SoundFile) -> str:
    """What in the header would take too much memory, or ""."""
    lowest, highest = _RATES
    if not lowest <= sound.samplerate <= highest:
        return f"a rate of {sound.samplerate} Hz, which is not within {lowest} to {highest}"
    if sound.channels > _MOST_CHANNELS:
        return f"{sound.channels} channels, more than {_MOST_CHANNELS}"
    return ""


def _read_through(sound: soundfile.SoundFile) -> tuple[int, str]:
    """How many frames can be decoded, and what is wrong with them ("" if nothing)."""
    frames, problem = 0, ""
    # Not `sound.blocks`: where there are fewer frames than the header says, it gives what happened to be in memory.
    while len(block := sound.read(_BLOCK // sound.channels, dtype="float32", always_2d=True)):
        frames += len(block)
        if not (np.abs(block) <= _LOUDEST).all():  # nor is NaN
            problem = "samples that are not finite, or beyond any sound"
    if frames < sound.frames:
        return frames, f"truncated: {frames} of {sound.frames} samples are there"
    return frames, problem if frames else "no samples"


def _truncation(sound: soundfile.SoundFile, value: dict[str, Any]) -> str:
    """Why the file counts as cut off, or "". What is left of a wav or ogg is read without an error, unlike a flac."""
    if remark := _SHORTFALL.search(sound.extra_info):
        promised, present = int(remark[1]), int(remark[2])
        if present < promised < _UNKNOWN_LENGTH:
            return f"truncated: {present} of {promised} bytes are there"
    if sound.format == "OGG" and not _ends_with_last_page(_tail(value, _OGG_LARGEST_PAGE)):
        return "truncated: the stream has no last page, or a part of it only"
    return ""


def _ends_with_last_page(tail: bytes) -> bool:
    """Whether an Ogg stream ends with a page that says it is the last, and that is all there."""
    page = tail.rfind(b"OggS")
    header = tail[page : page + 27] if page >= 0 else b""
    if len(header) < 27 or not header[5] & _OGG_LAST_PAGE:
        return False
    sizes = tail[page + 27 : page + 27 + header[26]]
    return len(sizes) == header[26] and page + 27 + len(sizes) + sum(sizes) <= len(tail)


def _tail(value: dict[str, Any], size: int) -> bytes:
    file = encoded_file(value)
    with io.FileIO(file) if isinstance(file, str) else file as stream:
        stream.seek(0, io.SEEK_END)
        stream.seek(max(0, stream.tell() - size))
        return stream.read()
