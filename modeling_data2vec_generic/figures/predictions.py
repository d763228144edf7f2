"""Pictures of predictions: which classes are taken for which, the surest errors, and runs side by side.

Names and texts are drawn with parse_math=False: a dollar sign in one would begin a formula, and stop the run where it
is none.
"""

import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from numpy.typing import NDArray

from .drawing import COLOURS, canvas, save, styled
from .fonts import drawable_names
from .samples import draw_sample

_NUMBERED = 20  # classes up to which each cell has its number written in it
_COLUMNS = 4
_CELL = (3.2, 2.4)  # width and height of each, in inches
_LINE_LENGTH, _TITLE_LINES = 52, 2  # of a title that fits
_NAME_LENGTH = 24  # characters of a class name beside a matrix
_CHARACTERS = 120  # of a transcript
_PAIRS = 25  # of confused characters
_VISIBLE = {"": "nothing", " ": "space"}


@styled
def plot_confusion(labels: NDArray[np.int64], predicted: NDArray[np.int64], names: Sequence[str], path: Path) -> Path:
    """A matrix with a row per true class, each cell the share of its rows that got the column's class."""
    counts = np.zeros((len(names), len(names)), dtype=np.int64)
    np.add.at(counts, (labels, predicted), 1)
    return plot_confusion_counts(counts, names, path)


@styled
def plot_confusion_counts(counts: NDArray[np.int64], names: Sequence[str], path: Path) -> Path:
    """The same of counts (K, K), a row per true class."""
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = min(max(4.0, 0.45 * len(names)), 14)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.add_subplot(xlabel="prediction", ylabel="label")
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, label="share of the label's rows")
    ticks, shown = range(len(names)), _shown(names)
    if shown != [_short(name) for name in names]:
        axes.set_title("numbers stand for names that no installed font can draw: id2label of config.json", fontsize=7)
    axes.set_xticks(ticks, shown, rotation=90, fontsize=8, parse_math=False)
    axes.set_yticks(ticks, shown, fontsize=8, parse_math=False)
    if len(names) <= _NUMBERED:
        for row, column in zip(*np.nonzero(counts), strict=True):
            colour = "white" if shares[row, column] > 0.5 else "black"
            text = str(counts[row, column])
            axes.text(column, row, text, ha="center", va="center", fontsize=7, color=colour)
    save(figure, path)
    return path


@styled
def plot_errors(titles: Sequence[str], samples: Sequence[Any], path: Path) -> Path:
    """Samples with a title each: images (H, W, 3), waveforms (S,), series (T, channels) or text."""
    rows = -(-len(samples) // _COLUMNS)
    figure, axes = canvas(_CELL[0] * _COLUMNS, _CELL[1] * rows)
    for place, (title, sample) in enumerate(zip(titles, samples, strict=True)):
        row, column = divmod(place, _COLUMNS)
        left, top = (column + 0.03) * _CELL[0], row * _CELL[1]
        heading = "\n".join(textwrap.wrap(title, _LINE_LENGTH)[:_TITLE_LINES])
        axes.text(left, top + 0.35, heading, fontsize=8, va="bottom", parse_math=False)
        draw_sample(axes, (left, top + 0.42, 0.94 * _CELL[0], _CELL[1] - 0.5), sample)
    save(figure, path)
    return path


@styled
def plot_transcripts(rows: Sequence[Mapping[str, Any]], path: Path) -> Path:
    """What was said (label) and below it what was understood (prediction), with the character error rate (cer)."""
    figure = Figure(figsize=(11, 0.5 * len(rows) + 0.5))
    axes = figure.add_axes((0.01, 0, 0.98, 1), ylim=(len(rows), -1))
    axes.set_axis_off()
    shown = [{"cer": "wrong", "label": "label", "prediction": "prediction"}]
    shown += [{**row, "cer": f"{row['cer']:.0%}"} for row in rows]
    for place, row in enumerate(shown):
        look: dict[str, Any] = {"fontsize": 8, "family": "monospace", "parse_math": False}
        axes.text(0, place - 0.75, row["cer"], va="center", **look)
        axes.text(0.06, place - 0.75, row["label"][:_CHARACTERS], va="center", **look)
        axes.text(0.06, place - 0.4, row["prediction"][:_CHARACTERS], va="center", color=COLOURS[1], **look)
    save(figure, path)
    return path


@styled
def plot_confused_characters(counts: Counter[tuple[str, str]], path: Path) -> Path:
    """A bar for each of the most frequent pairs of a character and what it was taken for; "" is none of them."""
    shown = counts.most_common(_PAIRS)[::-1]
    figure = Figure(figsize=(6, 0.25 * len(shown) + 1), layout="constrained")
    axes = figure.add_subplot(xlabel="times")
    names = [" → ".join(_VISIBLE.get(character, character) for character in pair) for pair, _ in shown]
    bars = axes.barh(range(len(shown)), [count for _, count in shown])
    axes.set_yticks(range(len(shown)), names, fontsize=8, parse_math=False)
    axes.bar_label(bars, fontsize=7)
    save(figure, path)
    return path


@styled
def plot_masks(
    titles: Sequence[str],
    images: Sequence[NDArray[np.uint8]],
    labels: Sequence[NDArray[np.uint8]],
    predicted: Sequence[NDArray[np.uint8]],
    names: Sequence[str],
    path: Path,
) -> Path:
    """A row for each image (H, W, 3): itself, its mask (H, W; masked pixels stay white) and the predicted mask."""
    figure = Figure(figsize=(8, 2.6 * len(images)), layout="constrained")
    axes = figure.subplots(len(images), 3, squeeze=False)
    colours = colormaps["tab20" if len(names) <= 20 else "nipy_spectral"].resampled(len(names))
    for row, panels in enumerate(zip(images, labels, predicted, strict=True)):
        for column, (panel, caption) in enumerate(zip(panels, (titles[row], "label", "prediction"), strict=True)):
            shown = axes[row, column].imshow(panel, colours, vmin=-0.5, vmax=len(names) - 0.5, interpolation="nearest")
            axes[row, column].set_title(caption, fontsize=8, parse_math=False)
            axes[row, column].set_axis_off()
    key = figure.colorbar(shown, ax=axes, ticks=range(len(names)), shrink=0.6)
    key.ax.set_yticklabels(_shown(names), fontsize=7, parse_math=False)
    save(figure, path)
    return path


@styled
def plot_comparison(results: Mapping[str, tuple[float, float | None]], metric: str, path: Path) -> Path:
    """A bar for each run: its value and, where there is one, half its confidence interval."""
    figure = Figure(figsize=(1.6 * len(results) + 1, 4), layout="constrained")
    axes = figure.add_subplot(ylabel=metric)
    names = [name.replace("_", " ") for name in results]
    values, halves = zip(*results.values(), strict=True)
    errors = None if None in halves else halves
    bars = axes.bar(names, values, yerr=errors, capsize=4)
    axes.bar_label(bars, fmt="%.3f", padding=3)
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    save(figure, path)
    return path


def _shown(names: Sequence[str]) -> list[str]:
    """Names of classes as they stand in a figure."""
    return [_short(name) for name in drawable_names(names)]


def _short(name: str) -> str:
    """One line of limited length."""
    line = " ".join(name.split())
    return line if len(line) <= _NAME_LENGTH else f"{line[: _NAME_LENGTH - 1]}…"
