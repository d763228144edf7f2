"""What all figures share: one style and one width, the colour of masks, pictures of pixels, and saving.

Figure objects alone, no pyplot: drawing leaves the caller's matplotlib state as it is and needs no display.
"""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from cycler import cycler
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from .fonts import choose_fonts

DPI = 120
WIDTH = 7.0  # inches: 840 pixels, about the width of a page on the Hub and on GitHub
LARGEST = 100_000  # bytes; larger files are stored with 256 colours, which makes those of photos a third as large,
_HEAVY = 190_000  # and those that are still larger than this with 64

# The colours of Okabe and Ito (2008), which can be told apart with any kind of colour blindness. Grey stands in
# place of their yellow, which is faint on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#999999")
MASKED = "#E69F00"

styled = rc_context(
    {
        "font.size": 9,
        "axes.titlesize": 9.5,
        "axes.titleweight": "bold",
        "axes.labelsize": 9,
        "xtick.labelsize": 8.5,
        "ytick.labelsize": 8.5,
        "legend.fontsize": 8.5,
        "legend.frameon": False,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.prop_cycle": cycler(color=COLOURS),
        "grid.alpha": 0.3,
        "lines.linewidth": 1.4,
        "lines.markersize": 4,
    }
)
"""Decorates functions that draw, so that all figures look alike. Sizes are for figures of WIDTH."""


def canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure with one axes for all of it, whose coordinates are inches from the left and from the top.

    Figures of many small pictures are drawn much faster on it than with axes for each of them.
    """
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0), autoscale_on=False)
    axes.set_axis_off()
    return figure, axes


def save(figure: Figure, path: Path) -> None:
    """Write a PNG that is light enough to be looked at over a network."""
    path.parent.mkdir(parents=True, exist_ok=True)
    choose_fonts(figure)
    written = BytesIO()
    figure.savefig(written, dpi=DPI, format="png")
    if written.tell() <= LARGEST:
        path.write_bytes(written.getvalue())
        return
    with Image.open(written) as picture:
        for colours in (256, 64):
            picture.convert("RGB").quantize(colours).save(path, optimize=True)
            if path.stat().st_size <= _HEAVY:
                return


def as_pictures(pixels: np.ndarray) -> np.ndarray:
    """(..., channels, height, width), normalised in any way, as (..., height, width, 3) of 0 to 1."""
    colours = pixels if pixels.shape[-3] == 3 else np.repeat(pixels.mean(axis=-3, keepdims=True), 3, axis=-3)
    pictures = np.moveaxis(colours, -3, -1).astype(np.float64)
    return (pictures - pictures.min()) / max(pictures.max() - pictures.min(), 1e-12)


def enlarged(patches: np.ndarray, height: int, width: int) -> np.ndarray:
    """Patches (rows, columns, ...) as pixels (height, width, ...), each of the value of the patch that it lies in."""
    rows, columns = np.arange(height) * len(patches) // height, np.arange(width) * patches.shape[1] // width
    return patches[rows][:, columns]


def painted_over(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A picture (height, width, 3) with its masked patches (rows, columns) in one colour."""
    return np.where(enlarged(mask, *picture.shape[:2])[..., None], to_rgb(MASKED), picture)


def side_by_side(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures (height, width, 3) of one size in a row, with a white gap of a twentieth of their width between."""
    height, width = pictures[0].shape[:2]
    gap = np.ones((height, max(1, width // 20), 3))
    parts = [part for picture in pictures for part in (gap, picture)][1:]
    return np.concatenate(parts, axis=1)


def runs(mask: np.ndarray) -> list[tuple[int, int]]:
    """(first, one past the last) of every run of True in `mask` (T,)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
