"""Pictures of features: as colours beside samples, nearest neighbours, and a map."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from .drawing import COLOURS, WIDTH, canvas, save, styled
from .fonts import drawable_names
from .samples import Box, draw_sample

_HEADS = 0.8  # inches, for what the rows are
_LETTER = 0.085  # inches, more than most letters of a label are wide
_SAME, _OTHER = COLOURS[0], COLOURS[1]
_MARKERS = "o^"  # classes beyond the number of colours have another marker
_NAMED = len(COLOURS) * len(_MARKERS)
_NAME_LENGTH = 14  # characters of a class name
_OTHERS = "#DDDDDD"
_GAP = 0.12  # inches between groups of columns


@styled
def plot_rows(rows: Mapping[str, Sequence[np.ndarray]], path: Path) -> None:
    """Rows of pictures (height, width, 3), all of one size, each row with its name in front."""
    pictures = list(rows.values())
    columns = len(pictures[0])
    width = min((WIDTH - _HEADS) / columns, 2.0)
    height = width * pictures[0][0].shape[0] / pictures[0][0].shape[1]
    figure, axes = canvas(_HEADS + width * columns, len(rows) * height)
    for row, (name, shown) in enumerate(rows.items()):
        label = name.replace(" ", "\n", 1)
        axes.text(_HEADS - 0.1, (row + 0.5) * height, label, ha="right", va="center", multialignment="right")
        for column, picture in enumerate(shown):
            place = (_HEADS + (column + 0.02) * width, (row + 0.02) * height, 0.96 * width, 0.96 * height)
            draw_sample(axes, place, picture)
    save(figure, path)


@styled
def plot_strips(
    draw: Callable[[Axes, int], None], height: float, colours: Mapping[str, Sequence[np.ndarray]], path: Path
) -> None:
    """Samples that go from left to right, each above strips of colours.

    Args:
        draw: draws the sample of a number.
        height: of a sample, in inches.
        colours: what a strip is, and of each sample its colours (T, 3), or (rows, T, 3), from 0 to 1.
        path: the file.
    """
    count = len(next(iter(colours.values())))
    rows, columns, parts = -(-count // 2), min(count, 2), 1 + len(colours)
    ratios = (3, *(1,) * len(colours)) * rows
    figure = Figure(figsize=(WIDTH, rows * height * (1 + len(colours) / 3) * 1.15), layout="constrained")
    grid = figure.add_gridspec(parts * rows, columns, height_ratios=ratios, hspace=0.03, wspace=0.04)
    for number in range(count):
        row, column = divmod(number, columns)
        draw(figure.add_subplot(grid[parts * row, column]), number)
        for part, (name, strips) in enumerate(colours.items()):
            axes = figure.add_subplot(grid[parts * row + part + 1, column])
            axes.imshow(strips[number].reshape(-1, *strips[number].shape[-2:]), aspect="auto", interpolation="nearest")
            if column == 0:
                axes.set_ylabel(name.replace(" ", "\n", 1), rotation=0, ha="right", va="center")
    for axes in figure.axes:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    save(figure, path)


@dataclass(frozen=True)
class Shown:
    """A sample, as `draw_sample` takes it, and its class, None if there is none."""

    sample: Any
    label: int | None = None


@styled
def plot_neighbours(
    queries: Sequence[Shown], found: Mapping[str, Sequence[Sequence[Shown]]], names: Sequence[str], path: Path
) -> None:
    """A row for each query, with its nearest neighbours on the right, framed by whether they are of its class.

    Args:
        queries: at least one.
        found: what a group of columns is, and of each query its neighbours, nearest first. As many are drawn as fit.
        names: of the classes, by their numbers; empty if there are no classes.
        path: the file.
    """
    drawn, cell = _neighbours_that_fit(queries[0].sample)
    drawn = min(drawn, len(next(iter(found.values()))[0]))
    labels = _shown(names)
    longest = max((len(labels[query.label]) for query in queries if query.label is not None), default=0)
    head, above = (0.2 + _LETTER * longest, 0.5) if names else (0.05, 0.3)
    groups = max(len(found), 2)  # a single one is not larger
    width = (WIDTH - head - _GAP * groups) / (1 + drawn * groups)
    height = width * cell
    figure, axes = canvas(WIDTH, above + len(queries) * height)

    def box(left: float, row: int) -> Box:
        return left + 0.04 * width, above + (row + 0.06) * height, 0.92 * width, 0.88 * height

    def title(left: float, columns: int, text: str) -> None:
        axes.text(left + columns * width / 2, 0.08, text, weight="bold", ha="center", va="top")

    title(head, 1, "query")
    for row, query in enumerate(queries):
        draw_sample(axes, box(head, row), query.sample)
        if query.label is not None:
            middle = above + (row + 0.5) * height
            axes.text(head - 0.1, middle, labels[query.label], ha="right", va="center", parse_math=False)
    left = head + width + _GAP
    for name, neighbours in found.items():
        title(left, drawn, name)
        for row, (query, nearest) in enumerate(zip(queries, neighbours, strict=True)):
            for column, shown in enumerate(nearest[:drawn]):
                place = box(left + column * width, row)
                draw_sample(axes, place, shown.sample)
                if query.label is not None:
                    colour = _SAME if shown.label == query.label else _OTHER
                    axes.add_patch(Rectangle(place[:2], *place[2:], fill=False, edgecolor=colour, linewidth=1.8))
        left += drawn * width + _GAP
    if names:
        for number, (colour, text) in enumerate(((_SAME, "same class"), (_OTHER, "another class"))):
            axes.text(head + width + _GAP + 1.1 * number, 0.28, f"□ {text}", color=colour, va="top")
    save(figure, path)


def _neighbours_that_fit(sample: Any) -> tuple[int, float]:
    """How many neighbours are drawn in each group, and the height of a cell as a share of its width."""
    if isinstance(sample, str):
        return 1, 0.34
    if sample.ndim < 3:
        return 2, 0.5
    height, width = sample.shape[:2]
    return (4 if width < 2 * height else 2), height / width


@styled
def plot_map(places: Mapping[str, np.ndarray], labels: np.ndarray | None, names: Sequence[str], path: Path) -> None:
    """Maps of features, one beside the other, with a point for each sample in the colour of its class.

    Args:
        places: what a map is, and the points (N, 2).
        labels: (N,) numbers of classes; None if there are none.
        names: of the classes.
        path: the file.
    """
    groups: list[tuple[Any, str, str, str]] = [(slice(None), COLOURS[0], "o", "")]
    if labels is not None:
        groups = _groups(labels, names)
    columns = min(6, int(WIDTH / (0.5 + _LETTER * max(len(name) for *_, name in groups))))
    legend_rows = -(-len(groups) // columns) if labels is not None else 0
    figure = Figure(figsize=(WIDTH, 3.4 + 0.2 * legend_rows), layout="constrained")
    for place, (title, points) in enumerate(places.items()):
        axes = figure.add_subplot(1, len(places), place + 1, title=title, xticks=[], yticks=[])
        for order, (rows, colour, marker, name) in enumerate(groups):
            x, y = points[rows].T
            axes.scatter(
                x,
                y,
                s=14,
                zorder=2 - order / len(groups),
                color=colour,
                marker=marker,
                label=name,
                alpha=0.85,
                linewidths=0,
            )
        axes.spines[:].set(visible=True, color="#BBBBBB")
        axes.margins(0.06)
    if labels is not None:
        handles, texts = figure.axes[0].get_legend_handles_labels()
        key = figure.legend(
            handles, texts, loc="outside lower center", ncols=columns, markerscale=1.6, handletextpad=0.2
        )
        for text in key.get_texts():
            text.set_parse_math(False)
    save(figure, path)


def _groups(labels: np.ndarray, names: Sequence[str]) -> list[tuple[np.ndarray, str, str, str]]:
    """Rows, colour, marker and name of each of the most frequent classes and, last, of the rest."""
    classes, counts = np.unique(labels, return_counts=True)
    most = _NAMED if len(classes) <= _NAMED else _NAMED - 1
    chosen = np.sort(classes[np.argsort(-counts, kind="stable")][:most])
    shown = _shown(names)
    groups = [
        (labels == label, COLOURS[place % len(COLOURS)], _MARKERS[place // len(COLOURS)], shown[label])
        for place, label in enumerate(chosen)
    ]
    rest = ~np.isin(labels, chosen)
    return [*groups, (rest, _OTHERS, "o", f"{len(classes) - most} others")] if rest.any() else groups


def _shown(names: Sequence[str]) -> list[str]:
    lines = [" ".join(name.split()) for name in drawable_names(names)]
    return [line if len(line) <= _NAME_LENGTH else f"{line[: _NAME_LENGTH - 1]}…" for line in lines]
