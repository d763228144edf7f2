"""The curves of a run over its optimizer steps, on one page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .drawing import COLOURS, WIDTH, save, styled

LogHistory = Sequence[Mapping[str, Any]]
"""`trainer.state.log_history`: one dict per log, each with its `step`."""

_BLUE, _RED, _GREEN = COLOURS[:3]
_DEPTHS = ("#9ECAE1", "#4292C6", "#08306B")  # from light to dark, as from the embeddings to the top
_MANY = 60  # points from which on a curve has no markers


@dataclass(frozen=True)
class Curve:
    """A curve: its label, its colour, its style, and the keys of the log that it joins."""

    label: str
    colour: str
    style: str
    keys: tuple[str, ...]


@dataclass(frozen=True)
class Panel:
    """A panel of the page.

    Args:
        title: what it shows.
        curves: those of them are drawn that the log has values for.
        beside: a curve with an axis of its own, on the right.
        from_zero: whether the axis begins at 0.
        headroom: how high the axis is in relation to its largest value, where it begins at 0.
    """

    title: str
    curves: tuple[Curve, ...]
    beside: Curve | None = None
    from_zero: bool = False
    headroom: float = 1.08


PANELS = (
    Panel(
        "loss per masked position",
        (
            Curve("training", _BLUE, "-", ("loss",)),
            Curve("validation", _RED, "o--", ("eval_loss",)),
        ),
    ),
    Panel(  # both spreads going to zero together is collapse, however low the loss
        "spread over masked positions",
        (
            Curve("targets", _BLUE, "-", ("target_std",)),
            Curve("predictions", _RED, "-", ("prediction_std",)),
            Curve("targets, validation", _BLUE, "o--", ("eval_target_std",)),
            Curve("predictions, validation", _RED, "o--", ("eval_prediction_std",)),
        ),
        from_zero=True,
    ),
    Panel(
        "accuracy on frozen features",
        (
            Curve("linear classifier", _BLUE, "o-", ("init_linear_accuracy", "eval_linear_accuracy")),
            Curve("nearest neighbours", _RED, "o-", ("init_knn_accuracy", "eval_knn_accuracy")),
        ),
    ),
    Panel(
        "effective rank of the features",
        (
            Curve("top block", _DEPTHS[2], "o-", ("health_rank_top",)),
            Curve("middle block", _DEPTHS[1], "o-", ("health_rank_middle",)),
            Curve("embeddings", _DEPTHS[0], "o-", ("health_rank_embeddings",)),
        ),
        from_zero=True,
        headroom=1.5,  # for the names of the curves, which leave no other place free
    ),
    Panel(
        "learning rate and EMA decay",
        (Curve("learning rate", _BLUE, "-", ("learning_rate",)),),
        beside=Curve("EMA decay", _RED, "-", ("ema_decay",)),
        from_zero=True,
    ),
    Panel("samples per second", (Curve("training", _GREEN, "-", ("samples_per_second",)),), from_zero=True),
)


def series(log_history: LogHistory, keys: Sequence[str]) -> tuple[list[float], list[float]]:
    """Steps and values of every log entry that holds one of `keys`."""
    points = [(entry["step"], entry[key]) for entry in log_history for key in keys if key in entry]
    return [step for step, _ in points], [value for _, value in points]


@styled
def plot_training(log_history: LogHistory, path: Path) -> bool:
    """Draw one page with those of PANELS that the log has values for.

    Returns:
        Whether there are any; if not, no file is written.
    """
    panels = [panel for panel in PANELS if any(series(log_history, curve.keys)[0] for curve in panel.curves)]
    if not panels:
        return False
    rows, columns = -(-len(panels) // 2), min(len(panels), 2)
    figure = Figure(figsize=(WIDTH, 2.2 * rows + 0.2), layout="constrained")
    last = max(entry["step"] for entry in log_history)
    for place, panel in enumerate(panels):
        axes = figure.add_subplot(rows, columns, place + 1, title=panel.title)
        _draw(axes, panel, log_history)
        axes.set_xlim(-0.02 * last, 1.02 * last)
        axes.grid()
        if place >= len(panels) - columns:
            axes.set_xlabel("optimizer step")
    save(figure, path)
    return True


def _draw(axes: Axes, panel: Panel, log_history: LogHistory) -> None:
    for curve in panel.curves:
        _plot(axes, curve, log_history)
    if panel.from_zero:
        axes.set_ylim(bottom=0, top=panel.headroom * axes.get_ylim()[1])
    if panel.beside is not None:
        right = axes.twinx()
        right.spines["right"].set_visible(True)
        _plot(right, panel.beside, log_history)
        right.ticklabel_format(useOffset=False)
        for side, curve in ((axes, panel.curves[0]), (right, panel.beside)):
            side.set_ylabel(curve.label, color=curve.colour)
    elif len(axes.lines) > 1:
        axes.legend()


def _plot(axes: Axes, curve: Curve, log_history: LogHistory) -> None:
    steps, values = series(log_history, curve.keys)
    if steps:
        style = curve.style.replace("o", "") if len(steps) > _MANY else curve.style
        axes.plot(steps, values, style, color=curve.colour, label=curve.label)
