"""Recordings: how much of each is read, and how wide the convolutions in front of the encoder are."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import Dataset

from ...cli.flags import Chosen
from ...data.arguments import DataArguments
from ...data.quality.screening import some_rows
from ...modalities.speech.inspection import read_header
from ..plan import Look, Plan, Scale, blocks_of, in_words
from ..tried import Tried

_RATE = 16_000  # Hz of what wav2vec 2.0's convolutions read, and of arrays that do not state theirs
_FRAMES = 50  # per second
_LONGEST = {"tiny": 5.0, "small": 10.0, "medium": 10.0}  # seconds of a sample at most; of other sizes 20
_LONGEST_OTHERS = 20.0
_COVERED = 95  # percent of recordings that are read as a whole
_CONVOLUTIONS = {"tiny": 64, "small": 128, "medium": 256}  # channels; of other sizes 512, as published
_CONVOLUTIONS_OTHERS = 512
_POSITIONS = {"tiny": 2, "small": 3}  # convolutions that encode positions; of other sizes 5
_POSITIONS_OTHERS = 5
_SHORT = 1.0  # seconds, below which masked spans are shortened
_SHORT_SPAN = 5


@dataclass(frozen=True)
class Recordings(Look):
    """A look at recordings.

    Args:
        usual: the median of their durations, in seconds.
        covering: a duration that nearly all of them are below, in seconds.
    """

    usual: float
    covering: float


def look(raw: Dataset, rows: int | None, args: DataArguments) -> Recordings:
    headers = [read_header(value, args.array_sampling_rate or _RATE) for value in some_rows(raw)["audio"]]
    seconds = [header["frames"] / header["rate"] for header in headers if header["rate"]]
    if not seconds:
        raise ValueError(
            f"No settings can be chosen: none of the {len(headers)} recordings that were looked at can be opened. "
            "Repair them or choose other data."
        )
    return Recordings(
        kind="speech",
        rows=rows,
        per_row=float(np.mean(seconds)) / 3600,
        usual=float(np.median(seconds)),
        covering=float(np.percentile(seconds, _COVERED)),
    )


def plan(seen: Recordings, scale: Scale, tried: Tried, given: Mapping[str, Any]) -> Plan:
    most = _LONGEST.get(scale.name, _LONGEST_OTHERS)
    longest = min(most, max(1.0, float(np.ceil(seen.covering))))
    why = f"{_COVERED}% of the recordings have {in_words(seen.covering)} seconds or less"
    if seen.covering > most:
        why += ", and samples are parts of longer ones, so that a step does not take long"
    channels = _CONVOLUTIONS.get(scale.name, _CONVOLUTIONS_OTHERS)
    overrides = {
        **blocks_of(scale),
        "conv_dim": [channels] * 7,
        "num_conv_pos_embeddings": _POSITIONS.get(scale.name, _POSITIONS_OTHERS),
    }
    settings = {
        "max_duration_in_seconds": Chosen(longest, why),
        "train_sampling_strategy": Chosen("group_by_length", "recordings differ in length: it saves padding"),
    }
    if seen.usual < _SHORT:
        settings |= {
            "mask_strategy": Chosen("span", "as published"),
            "mask_ratio": Chosen(0.65, "as published"),
            "mask_length": Chosen(
                _SHORT_SPAN, f"most recordings have less than {_SHORT:g} second, of which a span of 10 hides too much"
            ),
        }
    longest = given.get("max_duration_in_seconds", longest)
    seconds = min(longest, seen.per_row * 3600)
    return Plan(
        overrides=overrides,
        reason=f"{scale}, {scale.reason}; behind seven convolutions with {channels} channels, as in wav2vec 2.0, "
        f"which make {_FRAMES} positions of a second at {_RATE:,} Hz",
        settings=settings,
        samples=seen.rows,
        positions=max(1, round(seconds * _FRAMES)),
        seconds=seconds,
        convolutions=channels,
        longest=round(longest * _FRAMES),
    )
