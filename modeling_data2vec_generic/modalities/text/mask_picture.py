"""Draws which tokens of a text are masked."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ...figures.drawing import MASKED, save


def plot_text_mask(tokens: Sequence[str], mask: np.ndarray, path: Path, columns: int = 100) -> None:
    """Saves a picture of the T tokens of one sample, with masked ones, bool (T,), on a coloured background.

    Lines have at most `columns` characters, unless a token is longer.
    """
    font_size = 8.0
    character, line = 0.602 * font_size / 72, 1.8 * font_size / 72  # inches; DejaVu Sans Mono is 0.602 em wide

    places: list[tuple[int, int]] = []  # (line, column) of every token
    row = column = 0
    for token in tokens:
        if column > 0 and column + len(token) > columns:
            row, column = row + 1, 0
        places.append((row, column))
        column += len(token) + 1

    figure = Figure(figsize=((columns + 2) * character, (row + 3) * line))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(-1, columns + 1), ylim=(row + 1.5, -1.5))
    axes.set_axis_off()
    style: dict[str, Any] = {"family": "monospace", "size": font_size, "va": "center", "parse_math": False}
    axes.text(0, -0.8, f"{mask.sum()} of {mask.size} tokens masked", **style, weight="bold")
    for token, masked, (row, column) in zip(tokens, mask, places, strict=True):
        if masked:
            axes.add_patch(Rectangle((column, row - 0.4), len(token), 0.8, color=MASKED, alpha=0.5, linewidth=0))
        axes.text(column, row, "".join(c if c.isprintable() else "·" for c in token), **style)
    save(figure, path)
