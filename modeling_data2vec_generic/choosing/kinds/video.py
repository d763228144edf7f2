"""Clips: how many frames are read, and in which patches."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import Dataset

from ...data.arguments import DataArguments
from ...data.quality.screening import some_rows
from ..plan import Look, Plan, Scale, blocks_of
from ..tried import Tried
from .pictures import (
    Sizes,
    about_patches,
    crops_for,
    first_files,
    masks_for,
    patches_for,
    sizes_of,
)

_TUBELET = 2  # frames that a patch spans
_MOST_FRAMES = {"tiny": 8, "small": 8}  # of other sizes 16
_MOST_FRAMES_OTHERS = 16
_SHORTEST = 5  # percentile of the number of frames: shorter clips would be left out


@dataclass(frozen=True)
class Clips(Look):
    """A look at clips.

    Args:
        sizes: of their frames.
        frames: that all but the shortest clips have.
        usual_frames: the mean number of them.
    """

    sizes: Sizes
    frames: int
    usual_frames: float


def look(raw: Dataset, rows: int | None, args: DataArguments) -> Clips:
    clips = some_rows(raw)["video"][:]
    counts = [len(clip or ()) for clip in clips]
    shortest = int(np.percentile(counts, _SHORTEST, method="lower"))
    return Clips("video", rows, 1.0, sizes_of(first_files(clips)), shortest, float(np.mean(counts)))


def plan(seen: Clips, scale: Scale, tried: Tried, given: Mapping[str, Any]) -> Plan:
    most = _MOST_FRAMES.get(scale.name, _MOST_FRAMES_OTHERS)
    frames = max(_TUBELET, min(most, seen.frames) // _TUBELET * _TUBELET)
    patches = patches_for(seen.sizes, scale)
    pieces = None if seen.rows is None else round(seen.rows * max(1, seen.usual_frames // frames))
    return Plan(
        overrides={
            "image_size": patches.side,
            "patch_size": patches.patch,
            "num_frames": frames,
            "tubelet_size": _TUBELET,
            **blocks_of(scale),
        },
        reason=f"{about_patches(seen.sizes, patches)}, in each pair of {frames} frames, of which clips have "
        f"{seen.frames} or more; {scale}, {scale.reason}",
        settings={**crops_for(seen.sizes), **masks_for(patches)},
        samples=pieces,
        positions=patches.grid**2 * frames // _TUBELET,
        axes=2,
    )
