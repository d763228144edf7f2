"""The curves of a run over its optimizer steps."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from .drawing import save

LogHistory = Sequence[Mapping[str, Any]]
"""`trainer.state.log_history`: one dict per log, each with its `step`."""

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
