"""Looks at clips before training, cuts long ones, and decodes on access.

A clip is a list of images (files or encoded bytes), not a video file, so that no video codec is needed.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow.compute
import torch
from datasets import Dataset, Value
from numpy.typing import NDArray

from ...data.arguments import DataArguments
from ...data.quality.processes import processes_for
from ...data.quality.reading import Unreadable, readable
from ...data.quality.screening import first_look, good_rows, inspected
from ...masking.sample_rng import RowGenerators
from ..vision.images import INSPECTED, Decoding, decode_image, examine_image, settle_inspected
from ..vision.pixels import Picture, PixelPipeline, RandomResizedCrop
from ..window_counts import count_windows

_EMPTY = "no frames"


def prepare_video(raw: Dataset, args: DataArguments, split: str, num_frames: int, processor: Any = None) -> Dataset:
    """Checks clips and cuts them into consecutive pieces of `num_frames` frames.

    Each piece has the label of its clip. The remainder at the end of a clip is dropped. Clips with fewer frames, with
    frames that cannot be decoded, or with frames of different sizes are bad rows (see `good_rows`). Frames are counted
    in all clips, and decoded in some of them (`first_look`).

    Args:
        raw: the rows, as `load_raw_datasets` gives them.
        args: the flags.
        split: the split, for messages.
        num_frames: frames in a piece.
        processor: as in `prepare_images`.

    Returns:
        A map-style dataset of `video` (list of `num_frames` images of one size, PIL RGB or `ArrayImage`, decoded on
        access; an `Unreadable` if they cannot be decoded), `sample_index`, `clip` (the `sample_index` of the whole
        clip) and, if `raw` has it, `label`.

    Raises:
        ValueError: too many clips are bad, or none is left.
    """
    looked_at = first_look(raw, args)
    report = inspected(
        looked_at,
        _inspect,
        "video",
        INSPECTED | {"frames": Value("int64")},
        fn_kwargs={"decoding": Decoding.by(processor)},
        num_proc=processes_for(len(looked_at), args),
        desc=f"Checking {split} clips",
    )
    settings: dict[str, Any] = {"noun": "clip", "split": split, "max_bad_fraction": args.max_bad_fraction}
    short = _too_short(np.array(report["frames"][:]), num_frames)
    problems = [problem or other for problem, other in zip(report["problem"][:], short, strict=True)]
    good = good_rows(problems, looked_at, column="video", total=len(raw), **settings)
    decoding = settle_inspected(report.select(good), args, split, "clip", processor, looked_at is raw)
    frames = _frames_of(raw)
    if looked_at is not raw:
        good = good_rows(_too_short(frames, num_frames), raw, column="video", **settings)
    counts = count_windows(frames[good], num_frames, noun="clips", split=split)
    rows = np.repeat(good, counts)
    starts = (np.arange(len(rows)) - np.repeat(counts.cumsum() - counts, counts)) * num_frames
    clips = raw.select_columns("sample_index").with_format("numpy")["sample_index"][:][rows]
    pieces = Dataset.from_dict({"row": rows, "start": starts, "sample_index": np.arange(len(rows)), "clip": clips})
    if "label" in raw.features:
        labels = raw["label"][:]
        pieces = pieces.add_column("label", [labels[row] for row in rows], feature=raw.features["label"])
    return pieces.with_transform(FrameReader(raw.select_columns("video"), num_frames, decoding))


class FrameReader:
    """A transform for `Dataset.with_transform`: decodes `video` from the clips of `source`.

    A piece is given by the columns `row` and `start`.
    """

    def __init__(self, source: Dataset, num_frames: int, decoding: Decoding) -> None:
        self.source = source
        self.num_frames = num_frames
        self.decoding = decoding

    def __call__(self, batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        if not {"row", "start"} <= batch.keys():  # other columns were selected
            return batch
        places = zip(batch.pop("row"), batch.pop("start"), strict=True)
        batch["video"] = [readable(self._decoded, self.source[row]["video"], start) for row, start in places]
        return batch

    def _decoded(self, clip: list[dict[str, Any] | None], start: int) -> list[Picture]:
        """The frames of the piece of a clip that begins at `start`."""
        frames: list[Picture] = []
        for number, frame in enumerate(clip[start : start + self.num_frames], start=start):
            with _naming(number):
                frames.append(decode_image(frame, self.decoding))
        _check_sizes({frame.size for frame in frames})
        return frames


class FrameProcessor:
    """Wraps an image or video processor so that it processes single frames, as `PixelPipeline` needs."""

    def __init__(self, processor: Any) -> None:
        self.processor = processor

    def __getattr__(self, name: str) -> Any:
        if name == "processor":  # does not exist yet during unpickling
            raise AttributeError(name)
        return getattr(self.processor, name)

    def __call__(self, frames: list[Any], **settings: Any) -> dict[str, torch.Tensor]:
        pixels = self.processor(frames, **settings)["pixel_values"]  # (1, F, C, H, W) or (F, C, H, W)
        return {"pixel_values": pixels.reshape(-1, *pixels.shape[-3:])}


class ClipPipeline:
    """Turns clips (lists of images, all of one length) into pixels, as `PixelPipeline` does for images.

    Attributes:
        normalisation: the last step, which `normalised=False` leaves out.
    """

    def __init__(self, image_processor: Any) -> None:
        self._pixels = PixelPipeline(FrameProcessor(image_processor))
        self.normalisation = self._pixels.normalisation

    def plain(self, clips: Sequence[list[Picture]], normalised: bool = True) -> torch.Tensor:
        """The result of the processor, (B, F, C, H, W) float32."""
        frames = [frame for clip in clips for frame in clip]
        return self._pixels.plain(frames, normalised).unflatten(0, (len(clips), -1))

    def cropped(
        self,
        clips: Sequence[list[Picture]],
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


def _frames_of(raw: Dataset) -> NDArray[np.int64]:
    """The number of frames of each clip; 0 where there is none. No frame is read, even where rows were selected."""
    lengths = pyarrow.compute.list_value_length(raw.data.column("video")).fill_null(0)
    if raw._indices is not None:
        lengths = lengths.take(raw._indices.column(0))
    return np.asarray(lengths, dtype=np.int64)


def _too_short(frames: NDArray[np.int64], num_frames: int) -> list[str]:
    """For each number of frames what is wrong with the clip; "" if nothing."""
    return [
        ""
        if count >= num_frames
        else f"too short ({count} frames, the encoder reads {num_frames})"
        if count
        else _EMPTY
        for count in frames.tolist()
    ]


def _inspect(frames: list[dict[str, Any] | None] | None, decoding: Decoding) -> dict[str, Any]:
    """Decodes all frames of a clip, and returns the fields of INSPECTED for the clip and its number of frames."""
    found = readable(_examine, frames or [], decoding)
    if isinstance(found, Unreadable):
        found = {"problem": found.reason, "black": None, "white": None, "several": False, "stacked": False}
    return {**found, "frames": len(frames or [])}


def _examine(frames: list[dict[str, Any] | None], decoding: Decoding) -> dict[str, Any]:
    """The fields of INSPECTED for a clip. Raises [`Unreadable`] for a bad one."""
    if not frames:
        raise Unreadable(_EMPTY)
    sizes, found = set(), []
    for number, frame in enumerate(frames):
        with _naming(number):
            size, report = examine_image(frame, decoding)
        sizes.add(size)
        found.append(report)
    _check_sizes(sizes)
    return {
        "problem": "",
        "black": min((report["black"] for report in found if report["black"] is not None), default=None),
        "white": max((report["white"] for report in found if report["white"] is not None), default=None),
        "several": any(report["several"] for report in found),
        "stacked": any(report["stacked"] for report in found),
    }


@contextmanager
def _naming(number: int) -> Iterator[None]:
    """Whatever a decoder raises becomes an [`Unreadable`] that names the frame."""
    try:
        yield
    except Exception as error:
        reason = str(error) if isinstance(error, Unreadable) else f"{type(error).__name__}: {error}"
        raise Unreadable(f"frame {number}: {reason}") from error


def _check_sizes(sizes: set[tuple[int, int]]) -> None:
    if len(sizes) > 1:
        raise Unreadable(f"frames of {len(sizes)} different sizes")
