"""The report of a finished pre-training run: its model card."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .model_card import write_model_cards
from .pictures import Figure
from .run_summary import RunSummary, about_health


def report(
    *, output_dir: Path, summary: RunSummary, log_history: Sequence[Mapping[str, Any]], figures: Sequence[Figure]
) -> None:
    """Write the model cards of the run whose `all_results.json` is in `output_dir`.

    Args:
        summary: what the card tells, without results, health and figures.
        log_history: Trainer's `state.log_history`.
        figures: what `PicturesCallback.write` has drawn.
    """
    results = json.loads((output_dir / "all_results.json").read_text(encoding="utf-8"))
    captioned = [(path.relative_to(output_dir).as_posix(), caption) for path, caption in figures]
    health: dict[str, Any] = about_health(log_history)
    write_model_cards(output_dir, dataclasses.replace(summary, results=results, figures=captioned, **health))
