"""The report of a finished pre-training run: its figures and its model card."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from transformers.utils import logging

from .model_card import write_model_cards
from .run_summary import RunSummary, about_health

# What the figures show, by the names of their files.
CAPTIONS = {
    "loss": "Loss per masked position. It says little by itself: the targets change as the teacher does.",
    "spread": "Spread of targets and predictions. Both near zero would mean that the model has collapsed.",
    "rank": "Effective rank of the encoder's features: how many dimensions they really use.",
    "probe": "Accuracy of nearest neighbours and of a linear classifier on frozen features. Step 0: untrained.",
    "mask": "One sample and its mask.",
}

logger = logging.get_logger(__name__)


def write_figures(log_history: Sequence[Mapping[str, Any]], plot_mask: Any, output_dir: Path) -> list[Path]:
    """Draw `figures/*.png`: the curves of a run, and one sample with its mask.

    Args:
        log_history: Trainer's `state.log_history`.
        plot_mask: draws the sample with its mask into a file, of which it is given the path.
        output_dir: where `figures` is made.

    Returns:
        Paths of the figures; an empty list if matplotlib is not installed.
    """
    if find_spec("matplotlib") is None:
        logger.warning("matplotlib is not installed, so no figures are drawn: `pip install matplotlib`.")
        return []
    from ..figures.curves import plot_training

    directory = output_dir / "figures"
    paths = plot_training(log_history, directory)
    plot_mask(directory / "mask.png")
    return [*paths, directory / "mask.png"]


def report(*, output_dir: Path, summary: RunSummary, log_history: Sequence[Mapping[str, Any]], plot_mask: Any) -> None:
    """Write the figures and the model cards of the run whose `all_results.json` is in `output_dir`.

    Args:
        summary: what the card tells, without results, health and figures.
        log_history, plot_mask: as for `write_figures`.
    """
    figures = write_figures(log_history, plot_mask, output_dir)
    results = json.loads((output_dir / "all_results.json").read_text(encoding="utf-8"))
    captioned = [(path.relative_to(output_dir).as_posix(), CAPTIONS[path.stem]) for path in figures]
    health: dict[str, Any] = about_health(log_history)
    write_model_cards(output_dir, dataclasses.replace(summary, results=results, figures=captioned, **health))
