"""Draws which patches of clips are masked, and features of patches as colours."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ...figures.drawing import WIDTH, enlarged, painted_over, save, side_by_side, styled
from ...figures.features import plot_rows


def some_frames(frames: int, most: int = 4) -> list[int]:
    """The numbers of at most so many frames of a clip, the first and the last among them."""
    return np.unique(np.linspace(0, frames - 1, min(most, frames)).round().astype(int)).tolist()


def strip(clip: np.ndarray) -> np.ndarray:
    """The first, the middle and the last frame of a clip (frames, height, width, 3), as one picture."""
    return side_by_side([clip[number] for number in some_frames(len(clip), most=3)])


@styled
def plot_video_masks(clips: Sequence[np.ndarray], masks: np.ndarray, path: Path) -> None:
    """Saves a picture of frames of clips, above the same frames with masked patches painted over.

    Args:
        clips: (frames, height, width, 3), from 0 to 1, all of one size.
        masks: bool (clips, steps, rows, columns). All steps cover the same number of frames.
        path: the file.
    """
    numbers = some_frames(len(clips[0]))
    rows, columns = -(-len(clips) // 2), min(len(clips), 2)
    drawn = [
        np.concatenate([above, np.ones((max(1, len(above) // 20), *above.shape[1:])), below])
        for above, below in (
            (
                side_by_side([clip[i] for i in numbers]),
                side_by_side([painted_over(clip[i], mask[i * len(mask) // len(clip)]) for i in numbers]),
            )
            for clip, mask in zip(clips, masks, strict=True)
        )
    ]
    height, width = drawn[0].shape[:2]
    figure = Figure(figsize=(WIDTH, 0.3 + rows * (WIDTH / columns * height / width + 0.1)), layout="constrained")
    figure.suptitle(f"above: frames of a clip; below: the same, {masks.mean():.0%} masked", fontsize="medium")
    for place, picture in enumerate(drawn):
        axes = figure.add_subplot(rows, columns, place + 1)
        axes.imshow(picture)
        axes.set_axis_off()
    save(figure, path)


def plot_video_features(clips: Sequence[np.ndarray], colours: Mapping[str, Sequence[np.ndarray]], path: Path) -> None:
    """Saves a picture of the middle frames of clips, above the features of their patches as colours.

    Args:
        clips: as for `plot_video_masks`.
        colours: what a row is, and of each clip the colours of its patches (steps, rows, columns, 3), from 0 to 1.
        path: the file.
    """
    frames, height, width = clips[0].shape[:3]
    rows = {
        name: [enlarged(patches[len(patches) // 2], height, width) for patches in row] for name, row in colours.items()
    }
    steps = len(next(iter(colours.values()))[0])
    plot_rows({"middle frame": [clip[steps // 2 * frames // steps] for clip in clips], **rows}, path)
