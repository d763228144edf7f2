"""Draws which patches of a clip are masked."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ...figures.drawing import as_pictures, painted_over, save


def plot_video_mask(pixels: np.ndarray, mask: np.ndarray, path: Path, most: int = 8) -> None:
    """Saves a picture of frames of a clip, above the same frames with masked patches painted over.

    Args:
        pixels: (frames, channels, height, width), normalised in any way.
        mask: bool (steps, rows, columns). All steps cover the same number of frames.
        path: the file.
        most: the number of frames that are shown at most.
    """
    pictures = as_pictures(pixels)
    shown = np.unique(np.linspace(0, len(pictures) - 1, min(most, len(pictures))).round().astype(int))
    figure = Figure(figsize=(max(1.2 * len(shown), 4), 3.0), layout="constrained")
    figure.suptitle(f"above: clip; below: seen by the student, {mask.sum()} of {mask.size} patches masked", fontsize=9)
    for place, number in enumerate(shown):
        masked = painted_over(pictures[number], mask[number * len(mask) // len(pictures)])
        for row, picture in enumerate((pictures[number], masked)):
            axes = figure.add_subplot(2, len(shown), row * len(shown) + place + 1)
            axes.imshow(picture, interpolation="nearest")
            axes.set_axis_off()
    save(figure, path)
