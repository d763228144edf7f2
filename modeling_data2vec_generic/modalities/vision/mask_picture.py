"""A picture of what is masked in an image."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ...figures.drawing import as_pictures, painted_over, save


def plot_image_mask(pixels: np.ndarray, mask: np.ndarray, grid: tuple[int, int], path: Path) -> None:
    """The image beside the same image with its masked patches painted over.

    pixels (channels, height, width), normalised in any way; mask (rows * columns,) bool, True = to be predicted.
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
