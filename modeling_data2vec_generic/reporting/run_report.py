"""The report of a finished pre-training run: its figures and its model card."""

import json
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from transformers.utils import logging

from .model_card import RunSummary, write_model_card

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


def report(
    *,
    output_dir: Path,
    encoder: Any,
    modality: str,
    log_history: Sequence[Mapping[str, Any]],
    plot_mask: Any,
    data: Mapping[str, object],
    objective: Mapping[str, object],
    training: Mapping[str, object],
) -> None:
    """Write the figures and the model card of the run whose `all_results.json` is in `output_dir`.

    Args:
        encoder: the trained encoder.
        log_history, plot_mask: as for `write_figures`.
        modality, data, objective, training: as for `RunSummary`.
    """
    figures = write_figures(log_history, plot_mask, output_dir)
    write_model_card(
        output_dir,
        RunSummary(
            name=output_dir.resolve().name,
            model_type=encoder.config.model_type,
            modality=modality,
            num_parameters=encoder.num_parameters(),
            data=data,
            objective=objective,
            training=training,
            results=json.loads((output_dir / "all_results.json").read_text(encoding="utf-8")),
            figures=figures,
        ),
    )
