"""Pictures of a run: its curves over the optimizer steps, and what pictures of masks are drawn with."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

# Figure objects alone, no pyplot: drawing leaves the caller's matplotlib state as it is and needs no display.
try:
    from matplotlib.colors import to_rgb
    from matplotlib.figure import Figure

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


def runs(mask: np.ndarray) -> list[tuple[int, int]]:
    """(first, one past the last) of every run of True in `mask` (T,)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
