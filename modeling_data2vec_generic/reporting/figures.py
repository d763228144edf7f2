"""Pictures of a run: its curves over the optimizer steps, and the mask of one sample."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

# Figure objects alone, no pyplot: drawing leaves the caller's matplotlib state as it is and needs no display.
try:
    from matplotlib.colors import to_rgb
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    from .fonts import choose_fonts
except ImportError as error:
    raise ImportError("The figures need matplotlib, which is not installed: `pip install matplotlib`.") from error

LogHistory = Sequence[Mapping[str, Any]]
"""`trainer.state.log_history`: one dict per log, each with its `step`."""

DPI = 120
MASKED = "tab:orange"

# File name: what the y axis shows, then each curve's label, style and the keys of the log it joins.
CURVES: dict[str, tuple[str, tuple[tuple[str, str, tuple[str, ...]], ...]]] = {
    "loss": ("loss per masked position", (("training", "-", ("loss",)), ("validation", "o-", ("eval_loss",)))),
    # Both going to zero together is collapse, however low the loss.
    "spread": (
        "standard deviation over masked positions",
        (
            ("targets, training", "C0-", ("target_std",)),
            ("targets, validation", "C0o--", ("eval_target_std",)),
            ("predictions, training", "C1-", ("prediction_std",)),
            ("predictions, validation", "C1o--", ("eval_prediction_std",)),
        ),
    ),
    "rank": ("effective rank of the features", (("validation", "o-", ("eval_effective_rank",)),)),
    "probe": (
        "accuracy on frozen features",
        (
            ("nearest neighbours", "o-", ("init_knn_accuracy", "eval_knn_accuracy")),
            ("linear classifier", "o-", ("init_linear_accuracy", "eval_linear_accuracy")),
        ),
    ),
}


def series(log_history: LogHistory, keys: Sequence[str]) -> tuple[list[float], list[float]]:
    """Steps and values of every log entry that holds one of `keys`."""
    points = [(entry["step"], entry[key]) for entry in log_history for key in keys if key in entry]
    return [step for step, _ in points], [value for _, value in points]


def save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    choose_fonts(figure)
    figure.savefig(path, dpi=DPI)


def plot_training(log_history: LogHistory, directory: Path) -> list[Path]:
    """One PNG per entry of CURVES that the log has values for; returns their paths."""
    paths = []
    for name, (ylabel, curves) in CURVES.items():
        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.add_subplot(xlabel="optimizer step", ylabel=ylabel)
        for label, style, keys in curves:
            steps, values = series(log_history, keys)
            if steps:
                axes.plot(steps, values, style, label=label, markersize=4)
        if axes.lines:
            axes.grid(alpha=0.3)
            axes.legend()
            paths.append(directory / f"{name}.png")
            save(figure, paths[-1])
    return paths


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


def plot_video_mask(pixels: np.ndarray, mask: np.ndarray, path: Path, most: int = 8) -> None:
    """Frames of a clip, at most `most`, above the same frames with their masked patches painted over.

    pixels (frames, channels, height, width), normalised in any way; mask (steps, rows, columns) bool, each step
    covering equally many frames.
    """
    pictures = as_pictures(pixels)
    shown = np.unique(np.linspace(0, len(pictures) - 1, min(most, len(pictures))).round().astype(int))
    figure = Figure(figsize=(max(1.2 * len(shown), 4), 3.0), layout="constrained")
    figure.suptitle(f"above: clip; below: seen by the student, {mask.sum()} of {mask.size} patches masked", fontsize=9)
    for place, number in enumerate(shown):
        masked = painted_over(pictures[number], mask[number * len(mask) // len(pictures)])
        for row, picture in enumerate((pictures[number], masked)):
            axes = figure.add_subplot(2, len(shown), row * len(shown) + place + 1)
            axes.imshow(picture, interpolation="nearest")
            axes.set_axis_off()
    save(figure, path)


def runs(mask: np.ndarray) -> list[tuple[int, int]]:
    """(first, one past the last) of every run of True in `mask` (T,)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def plot_speech_mask(waveform: np.ndarray, mask: np.ndarray, sampling_rate: int, path: Path) -> None:
    """The waveform (samples,) of one clip without its padding, the time that its masked frames (T,) cover shaded."""
    seconds = len(waveform) / sampling_rate
    figure = Figure(figsize=(9, 3), layout="constrained")
    axes = figure.add_subplot(xlabel="seconds", ylabel="amplitude", xlim=(0, seconds))
    axes.set_title(f"{mask.sum()} of {mask.size} frames masked", fontsize=9)
    axes.plot(np.arange(len(waveform)) / sampling_rate, waveform, linewidth=0.5)
    for start, end in runs(mask):
        axes.axvspan(start / mask.size * seconds, end / mask.size * seconds, color=MASKED, alpha=0.3, linewidth=0)
    save(figure, path)


def plot_series_mask(values: np.ndarray, mask: np.ndarray, path: Path, most: int = 8) -> None:
    """The channels of a series, at most the first `most`, one below the other, with what is masked shaded.

    values (T, channels); mask (channels, patches) bool, or (1, patches) if it is one for all channels. Patches are
    drawn side by side, also where an encoder's overlap.
    """
    length, channels = values.shape
    shown = min(most, channels)
    figure = Figure(figsize=(9, 1 + 1.5 * shown), layout="constrained")
    figure.suptitle(f"{mask.sum()} of {mask.size} patches masked", fontsize=9)
    for channel in range(shown):
        axes = figure.add_subplot(shown, 1, channel + 1, ylabel=f"channel {channel}", xlim=(0, length))
        axes.plot(np.arange(length) + 0.5, values[:, channel], linewidth=0.8)
        for start, end in runs(mask[channel % len(mask)]):
            first, last = (edge / mask.shape[1] * length for edge in (start, end))
            axes.axvspan(first, last, color=MASKED, alpha=0.3, linewidth=0)
    figure.axes[-1].set_xlabel("values")
    save(figure, path)


def plot_text_mask(tokens: Sequence[str], mask: np.ndarray, path: Path, columns: int = 100) -> None:
    """The tokens of one sample in lines of `columns` characters, the masked ones (T,) on a coloured ground."""
    font_size = 8.0
    character, line = 0.602 * font_size / 72, 1.8 * font_size / 72  # inches; .602 em: the advance of DejaVu Sans Mono

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
