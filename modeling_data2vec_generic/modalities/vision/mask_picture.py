"""Draws which patches of an image are masked."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ...figures.drawing import as_pictures, painted_over, save


def plot_image_mask(pixels: np.ndarray, mask: np.ndarray, grid: tuple[int, int], path: Path) -> None:
    """Saves a picture of an image, beside the same image with masked patches painted over.

    Args:
        pixels: (channels, height, width), normalised in any way.
        mask: bool (rows * columns,), True if a patch is masked.
        grid: rows and columns.
        path: the file.
    """
    image = as_pictures(pixels)
    figure = Figure(figsize=(7, 3.8), layout="constrained")
    titles = ("image", f"seen by the student: {mask.sum()} of {mask.size} patches masked")
    for place, (title, picture) in enumerate(
        zip(titles, (image, painted_over(image, mask.reshape(grid))), strict=True)
    ):
        axes = figure.add_subplot(1, 2, place + 1)
        axes.imshow(picture, interpolation="nearest")
        axes.set_title(title, fontsize=9)
        axes.set_axis_off()
    save(figure, path)
