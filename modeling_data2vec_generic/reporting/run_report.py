"""What a finished run leaves for people to read: figures and the model card."""

import json
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from transformers.utils import logging

from .model_card import RunSummary, write_model_card

logger = logging.get_logger(__name__)


def write_figures(log_history: Sequence[Mapping[str, Any]], plot_mask: Any, output_dir: Path) -> list[Path]:
    """Draw `figures/*.png`: the curves of a run and, by `plot_mask(path)`, one sample's mask."""
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
    """Write figures and model card of the run whose `all_results.json` is in `output_dir`."""
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
