"""Checks all frames of clips before training, cuts long clips, and decodes on access.

A clip is a list of images (files or encoded bytes), not a video file, so that no video codec is needed.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from datasets import Dataset, Features, Value
from PIL import Image

from ...data.arguments import DataArguments
from ...data.quality.screening import good_rows
from ...masking.sample_rng import RowGenerators
from ..vision.images import INSPECTED, decode_image, examine_image, settle_inspected
from ..vision.intensity_levels import Levels
from ..vision.pixels import PixelPipeline, RandomResizedCrop
from ..window_counts import count_windows


def prepare_video(raw: Dataset, args: DataArguments, split: str, num_frames: int, processor: Any = None) -> Dataset:
    """Checks clips and cuts them into consecutive pieces of `num_frames` frames.

    Each piece has the label of its clip. The remainder at the end of a clip is dropped. Clips with fewer frames, with
    frames that cannot be decoded, or with frames of different sizes are bad rows (see `good_rows`).

    Args:
        raw: the rows, as `load_raw_datasets` gives them.
        args: the flags.
        split: the split, for messages.
        num_frames: frames in a piece.
        processor: as in `prepare_images`.

    Returns:
        A map-style dataset of `video` (list of `num_frames` PIL RGB images of one size, decoded on access),
        `sample_index`, `clip` (the `sample_index` of the whole clip) and, if `raw` has it, `label`.

    Raises:
        ValueError: too many clips are bad, or none is left.
    """
    report = raw.map(
        _inspect,
        input_columns="video",
        remove_columns=raw.column_names,
        features=Features(INSPECTED | {"frames": Value("int64")}),
        num_proc=args.preprocessing_num_workers,
        desc=f"Checking {split} clips",
    )
    frames = np.array(report["frames"][:])
    problems = [
        problem or (f"too short ({count} frames, the encoder reads {num_frames})" if count < num_frames else "")
        for problem, count in zip(report["problem"][:], frames, strict=True)
    ]
    good = good_rows(problems, raw, noun="clip", split=split, max_bad_fraction=args.max_bad_fraction, column="video")
    levels = settle_inspected(report.select(good), args, split, "clip", processor)
    counts = count_windows(frames[good], num_frames, noun="clips", split=split)
    rows = np.repeat(good, counts)
    starts = np.concatenate([np.arange(count) * num_frames for count in counts])
    clips = np.array(raw["sample_index"][:])[rows]
    pieces = Dataset.from_dict({"row": rows, "start": starts, "sample_index": np.arange(len(rows)), "clip": clips})
    if "label" in raw.features:
        labels = raw["label"][:]
        pieces = pieces.add_column("label", [labels[row] for row in rows], feature=raw.features["label"])
    return pieces.with_transform(FrameReader(raw.select_columns("video"), num_frames, levels))


class FrameReader:
    """A transform for `Dataset.with_transform`: decodes `video` from the clips of `source`.

    A piece is given by the columns `row` and `start`.
    """

    def __init__(self, source: Dataset, num_frames: int, levels: Levels | None) -> None:
        self.source = source
        self.num_frames = num_frames
        self.levels = levels

    def __call__(self, batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        if not {"row", "start"} <= batch.keys():  # other columns were selected
            return batch
        places = zip(batch.pop("row"), batch.pop("start"), strict=True)
        batch["video"] = [
            [decode_image(frame, self.levels) for frame in self.source[row]["video"][start : start + self.num_frames]]
            for row, start in places
        ]
        return batch


class FrameProcessor:
    """Wraps an image or video processor so that it processes single frames, as `PixelPipeline` needs."""

    def __init__(self, processor: Any) -> None:
        self.processor = processor

    def __getattr__(self, name: str) -> Any:
        if name == "processor":  # does not exist yet during unpickling
            raise AttributeError(name)
        return getattr(self.processor, name)

    def __call__(self, frames: list[Image.Image], **settings: Any) -> dict[str, torch.Tensor]:
        pixels = self.processor(frames, **settings)["pixel_values"]  # (1, F, C, H, W) or (F, C, H, W)
        return {"pixel_values": pixels.reshape(-1, *pixels.shape[-3:])}


class ClipPipeline:
    """Turns clips (lists of PIL images, all of one length) into pixels, as `PixelPipeline` does for images.

    Attributes:
        normalisation: the last step, which `normalised=False` leaves out.
    """

    def __init__(self, image_processor: Any) -> None:
        self._pixels = PixelPipeline(FrameProcessor(image_processor))
        self.normalisation = self._pixels.normalisation

    def plain(self, clips: Sequence[list[Image.Image]], normalised: bool = True) -> torch.Tensor:
        """The result of the processor, (B, F, C, H, W) float32."""
        frames = [frame for clip in clips for frame in clip]
        return self._pixels.plain(frames, normalised).unflatten(0, (len(clips), -1))

    def cropped(
        self,
        clips: Sequence[list[Image.Image]],
        crop: RandomResizedCrop,
        rng: RowGenerators,
        normalised: bool = True,
    ) -> torch.Tensor:
        """A random crop of each clip, the same for all its frames, (B, F, C, H, W) float32.

        Clip b is cropped with row b of `rng`.
        """
        frames = [frame for clip in clips for frame in clip]
        per_frame = RowGenerators(np.repeat(rng.keys, [len(clip) for clip in clips]))
        return self._pixels.cropped(frames, crop, per_frame, normalised).unflatten(0, (len(clips), -1))


def _inspect(frames: list[dict[str, Any] | None] | None) -> dict[str, Any]:
    """Decodes all frames of a clip, and returns the fields of INSPECTED for the clip and its number of frames."""
    nothing = {"black": None, "white": None, "several": False, "narrowed": False, "frames": len(frames or [])}
    if not frames:
        return {**nothing, "problem": "no frames"}
    sizes, found = set(), []
    for number, frame in enumerate(frames):
        if frame is None or (frame["bytes"] is None and frame["path"] is None):
            return {**nothing, "problem": f"frame {number} is missing"}
        try:
            size, report = examine_image(frame)
        except Exception as error:  # for broken files, decoders raise exceptions of many types
            return {**nothing, "problem": f"frame {number}: {type(error).__name__}: {error}"}
        sizes.add(size)
        found.append(report)
    return {
        "problem": f"frames of {len(sizes)} different sizes" if len(sizes) > 1 else "",
        "black": min((report["black"] for report in found if report["black"] is not None), default=None),
        "white": max((report["white"] for report in found if report["white"] is not None), default=None),
        "several": any(report["several"] for report in found),
        "narrowed": any(report["narrowed"] for report in found),
        "frames": len(frames),
    }
