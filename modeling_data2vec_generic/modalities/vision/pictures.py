"""Draws which patches of images are masked, and features of patches as colours."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ...figures.drawing import enlarged, painted_over
from ...figures.features import plot_rows


def plot_image_masks(images: Sequence[np.ndarray], masks: np.ndarray, path: Path) -> None:
    """Saves a picture of images, above the same images with masked patches painted over.

    Args:
        images: (height, width, 3), from 0 to 1, all of one size.
        masks: bool (images, rows, columns), True if a patch is masked.
        path: the file.
    """
    masked = [painted_over(image, mask) for image, mask in zip(images, masks, strict=True)]
    plot_rows({"image": images, f"{masks.mean():.0%} masked": masked}, path)


def plot_image_features(images: Sequence[np.ndarray], colours: Mapping[str, Sequence[np.ndarray]], path: Path) -> None:
    """Saves a picture of images, above the features of their patches as colours.

    Args:
        images: as for `plot_image_masks`.
        colours: what a row is, and of each image the colours of its patches (rows, columns, 3), from 0 to 1.
        path: the file.
    """
    height, width = images[0].shape[:2]
    rows = {name: [enlarged(patches, height, width) for patches in row] for name, row in colours.items()}
    plot_rows({"image": images, **rows}, path)
