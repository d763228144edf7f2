"""What all figures are drawn with: the colour of masks, pictures of pixels, and saving.

Figure objects alone, no pyplot: drawing leaves the caller's matplotlib state as it is and needs no display.
"""

from pathlib import Path

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from .fonts import choose_fonts

DPI = 120
MASKED = "tab:orange"


def save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    choose_fonts(figure)
    figure.savefig(path, dpi=DPI)


def as_pictures(pixels: np.ndarray) -> np.ndarray:
    """(..., channels, height, width), normalised in any way, as (..., height, width, 3) of 0 to 1."""
    colours = pixels if pixels.shape[-3] == 3 else np.repeat(pixels.mean(axis=-3, keepdims=True), 3, axis=-3)
    pictures = np.moveaxis(colours, -3, -1).astype(np.float64)
    return (pictures - pictures.min()) / max(pictures.max() - pictures.min(), 1e-12)


def painted_over(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A picture (height, width, 3) with its masked patches (rows, columns) in one colour."""
    height, width = picture.shape[:2]
    rows, columns = np.arange(height) * mask.shape[0] // height, np.arange(width) * mask.shape[1] // width
    return np.where(mask[rows][:, columns][..., None], to_rgb(MASKED), picture)


def runs(mask: np.ndarray) -> list[tuple[int, int]]:
    """(first, one past the last) of every run of True in `mask` (T,)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
