"""Draws samples of all kinds of data: images, sound, series and text, as people look at them."""

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from .drawing import COLOURS

_WINDOW = 512  # values of sound per column of a spectrogram
_MOST_COLUMNS = 300
_DECIBELS = 70.0  # from the loudest to what is drawn as silence
_FAINT = 0.1  # loudness up to which nothing is seen
_CHARACTER = 0.602  # width of a character of DejaVu Sans Mono, in heights of the font
_FONT = 7.5  # of a text, in points
_INSIDE = 0.04  # inches around it
_CHANNELS = 3  # of a series that are drawn at most
_LEADING = 1.35  # height of a line of it, in heights of the font
_OWN_LEADING = 1.17  # what matplotlib calls one line
LINE = 1.7  # height of a line of text, in heights of the font


Box = tuple[float, float, float, float]
"""Left, top, width and height on a canvas."""


def draw_sample(axes: Axes, box: Box, sample: Any) -> None:
    """Draw a sample.

    Args:
        axes: of a canvas.
        box: where.
        sample: an image (H, W, 3), a waveform (S,), a series (T, channels), of which the first three channels are
            drawn, or a text.
    """
    left, top, width, height = box
    if isinstance(sample, str):
        left, top, width, height = left + _INSIDE, top + _INSIDE, width - 2 * _INSIDE, height - 2 * _INSIDE
        characters, lines = int(1.1 * characters_across(width, _FONT)), int(height * 72 / (_LEADING * _FONT))
        wrapped = [part for line in sample.strip().splitlines() for part in textwrap.wrap(line, characters) or [""]]
        if len(wrapped) > lines:
            wrapped = [*wrapped[: lines - 1], f"{wrapped[lines - 1][: characters - 1]}…"]
        look: dict[str, Any] = {"fontsize": _FONT, "linespacing": _LEADING / _OWN_LEADING}
        # A dollar sign would begin a formula.
        axes.text(left, top, "\n".join(wrapped), va="top", parse_math=False, **look)
    elif sample.ndim == 2:
        times = left + np.linspace(0, width, len(sample))
        scaled = (sample - sample.min()) / max(sample.max() - sample.min(), 1e-12)
        for number, values in enumerate(scaled.T[:_CHANNELS]):
            colour = COLOURS[number % len(COLOURS)]
            axes.plot(times, top + height * (0.95 - 0.9 * values), linewidth=0.7, color=colour)
    elif sample.ndim == 1:
        extent = (left, left + width, top + height, top)
        draw_spectrogram(axes, sample, extent)
    else:
        shrunk = min(width / sample.shape[1], height / sample.shape[0])
        across, down = shrunk * sample.shape[1], shrunk * sample.shape[0]
        left, top = left + (width - across) / 2, top + (height - down) / 2
        axes.imshow(sample, extent=(left, left + across, top + down, top), aspect="auto")


def spectrogram(waveform: np.ndarray) -> np.ndarray:
    """Loudness (frequencies, columns) of a waveform (S,), from 0, which is 70 dB below the loudest, to 1."""
    padded = np.pad(waveform, (0, max(0, _WINDOW - len(waveform))))
    step = max(_WINDOW // 4, -(-(len(padded) - _WINDOW + 1) // _MOST_COLUMNS))
    windows = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::step] * np.hanning(_WINDOW)
    power = np.abs(np.fft.rfft(windows, axis=1)).T ** 2
    loudness = 10 * np.log10(np.maximum(power, 1e-20) / max(power.max(), 1e-20))
    return np.clip(1 + loudness / _DECIBELS, 0, 1)


def draw_spectrogram(axes: Axes, waveform: np.ndarray, extent: Box = (0, 1, 0, 1)) -> None:
    """Draw the spectrogram of a waveform (S,) between left, right, bottom and top, up to its highest sounds."""
    loudness = spectrogram(waveform)
    heard = np.flatnonzero(loudness.max(axis=1) > _FAINT)  # recordings may have been sampled at a lower rate before
    shown = loudness[: max(heard.max(initial=0) + 1, len(loudness) // 8)]
    axes.imshow(shown, cmap="Greys", aspect="auto", origin="lower", extent=extent, vmin=0, vmax=1)


def characters_across(inches: float, fontsize: float) -> int:
    """How many characters of the monospaced font fit into a width."""
    return int(inches * 72 / (_CHARACTER * fontsize))


def flowed(pieces: Sequence[str], characters: int, lines: int) -> tuple[list[tuple[str, int, int]], int]:
    """Lay out pieces of a text, such as tokens with the blanks in front of them, in lines.

    Args:
        pieces: of the text, in their order.
        characters: of a line. A piece that is longer is cut.
        lines: at most.

    Returns:
        What is drawn of each piece that fits, with its line and its column; and the number of lines.
    """
    places: list[tuple[str, int, int]] = []
    row = column = 0
    for piece in pieces:
        shown = "".join(letter if letter.isprintable() else " " for letter in piece)[:characters]
        if column + len(shown) > characters:
            row, column = row + 1, 0
        if row == lines:
            return places, lines
        if column == 0:
            shown = shown.lstrip()
        places.append((shown, row, column))
        column += len(shown)
    return places, row + 1


def draw_flowed(
    axes: Axes,
    places: Sequence[tuple[str, int, int]],
    backgrounds: Sequence[Any],
    characters: int,
    lines: int,
    fontsize: float,
) -> None:
    """Draw what `flowed` has laid out.

    Args:
        axes: of the width of `characters`.
        places: of the pieces.
        backgrounds: the colour behind each piece; None: none.
        characters, lines: that fit into the axes.
        fontsize: in points.
    """
    axes.set_axis_off()
    axes.set_xlim(0, characters)
    axes.set_ylim(lines, 0)
    look: dict[str, Any] = {"family": "monospace", "size": fontsize, "va": "center", "parse_math": False}
    for (shown, row, column), colour in zip(places, backgrounds, strict=True):
        blank = len(shown) - len(shown.lstrip())
        if colour is not None and shown.strip():
            corner = (column + blank, row + 0.05)
            axes.add_patch(Rectangle(corner, len(shown) - blank, 0.9, color=colour, linewidth=0))
        if shown.strip():
            axes.text(column + blank, row + 0.5, shown.strip(), **look)
