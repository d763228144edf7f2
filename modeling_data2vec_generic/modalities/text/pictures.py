"""Draws which tokens of texts are masked, and features of tokens as colours."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ...figures.drawing import MASKED, WIDTH, save, styled
from ...figures.samples import LINE, characters_across, draw_flowed, flowed

_FONT = 8.0  # a character is then as wide as a whole number of pixels, so that pieces of a word join
_LINES = 4  # of each text
_MARGIN = 0.1  # inches


@styled
def plot_text_masks(texts: Sequence[Sequence[str]], masks: Sequence[np.ndarray], path: Path) -> None:
    """Saves a picture of the beginnings of texts, with masked tokens on a coloured background.

    Args:
        texts: the tokens of each, or the first ones, with the blanks in front of them.
        masks: bool (T,) of each text, True if a token is masked.
        path: the file.
    """
    titles = [f"{mask.sum()} of {mask.size} tokens masked" for mask in masks]
    backgrounds = [[(MASKED, 0.55) if masked else None for masked in mask] for mask in masks]
    _plot([[title] for title in titles], texts, [[colours] for colours in backgrounds], path)


@styled
def plot_text_features(
    texts: Sequence[Sequence[str]], colours: Mapping[str, Sequence[np.ndarray]], path: Path
) -> None:
    """Saves a picture of the beginnings of texts, with the features of tokens as colours behind them.

    Args:
        texts: as for `plot_text_masks`.
        colours: what a column is, and of each text the colours of its tokens (T, 3), from 0 to 1.
        path: the file.
    """
    pale = {name: [0.5 + 0.5 * tokens for tokens in column] for name, column in colours.items()}  # black on them
    _plot(
        [list(colours) if number == 0 else [""] * len(colours) for number in range(len(texts))],
        texts,
        [[list(column[number]) for column in pale.values()] for number in range(len(texts))],
        path,
    )


def _plot(
    titles: Sequence[Sequence[str]],
    texts: Sequence[Sequence[str]],
    backgrounds: Sequence[Sequence[Sequence[Any]]],
    path: Path,
) -> None:
    """A row for each text, with a column for each of its titles and backgrounds."""
    columns = len(titles[0])
    width = (WIDTH - _MARGIN) / columns - _MARGIN
    characters = characters_across(width, _FONT)
    line = LINE * _FONT / 72
    laid_out = [flowed(text, characters, _LINES) for text in texts]
    heights = [lines + (1.2 if any(title) else 0) + 0.6 for title, (_, lines) in zip(titles, laid_out, strict=True)]
    figure = Figure(figsize=(WIDTH, line * sum(heights) + 2 * _MARGIN))
    tall = figure.get_figheight()
    top = tall - _MARGIN
    for title, (places, lines), shades in zip(titles, laid_out, backgrounds, strict=True):
        if any(title):
            top -= 1.2 * line
        for column in range(columns):
            left = _MARGIN + column * (width + _MARGIN)
            figure.text(left / WIDTH, (top + 0.25 * line) / tall, title[column], weight="bold", va="bottom")
            axes = figure.add_axes((left / WIDTH, (top - lines * line) / tall, width / WIDTH, lines * line / tall))
            draw_flowed(axes, places, shades[column][: len(places)], characters, lines, _FONT)
        top -= (lines + 0.6) * line
    save(figure, path)
