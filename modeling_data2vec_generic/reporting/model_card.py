"""The model card of a run, README.md: what the model is, how to load it, its training data, settings and results."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..hub.card import encoder_section, full_section
from ..modalities import modality_class

# Captions of the figures, by the names of their files.
CAPTIONS = {
    "loss": "Loss per masked position. It says little by itself: the targets change as the teacher does.",
    "spread": "Spread of targets and predictions. Both near zero would mean that the model has collapsed.",
    "rank": "Effective rank of the encoder's features: how many dimensions they really use.",
    "probe": "Accuracy of nearest neighbours and of a linear classifier on frozen features. Step 0: untrained.",
    "mask": "One sample and its mask.",
}

# Names of metrics in `all_results.json`, and what the card calls them.
METRICS = {
    "train_loss": "training loss, mean over the run",
    "eval_loss": "validation loss",
    "eval_target_std": "spread of the targets, validation",
    "eval_prediction_std": "spread of the predictions, validation",
    "eval_effective_rank": "effective rank of the features",
    "init_knn_accuracy": "nearest-neighbour accuracy before training",
    "eval_knn_accuracy": "nearest-neighbour accuracy",
    "init_linear_accuracy": "linear accuracy before training",
    "eval_linear_accuracy": "linear accuracy",
}


@dataclass(frozen=True)
class RunSummary:
    """The contents of a model card.

    `data`, `objective` and `training` are shown as tables in the given order, without entries that are None.

    Args:
        name: title of the card.
        model_type: the encoder's `config.model_type`.
        modality: the name of a modality.
        num_parameters: number of parameters of the encoder, without teacher and predictor.
        data: source and amount of the training data.
        objective: settings of the objective and of the masks.
        training: settings of the optimisation.
        results: contents of `all_results.json`.
        figures: paths of the PNG files, inside the output directory.
    """

    name: str
    model_type: str
    modality: str
    num_parameters: int
    data: Mapping[str, object]
    objective: Mapping[str, object]
    training: Mapping[str, object]
    results: Mapping[str, float]
    figures: Sequence[Path] = field(default=())


def table(header: tuple[str, str], rows: Mapping[str, object]) -> str:
    """A Markdown table of two columns, without rows whose value is None."""

    def cell(value: object) -> str:
        text = f"{value:.4g}" if isinstance(value, float) else str(value)
        return text.replace("|", "\\|").replace("\n", " ")

    lines = [f"| {cell(name)} | {cell(value)} |" for name, value in rows.items() if value is not None]
    return "\n".join([f"| {header[0]} | {header[1]} |", "|---|---|", *lines])


def model_card(summary: RunSummary, output_dir: Path) -> str:
    """The Markdown text of the card. Links to figures are relative to `output_dir`, and code loads the models from it;
    for the Hub, `hub_card` makes another of it."""
    modality = modality_class(summary.modality)
    processor = None if modality.processor_class is None else modality.processor_class.__name__
    results = {METRICS[name]: summary.results[name] for name in METRICS if name in summary.results}
    figures = "\n\n".join(
        f"![{CAPTIONS[path.stem]}]({path.relative_to(output_dir).as_posix()})\n\n{CAPTIONS[path.stem]}"
        for path in summary.figures
    )
    return (
        f"""---
library_name: transformers
pipeline_tag: {modality.pipeline_tag}
tags:
- data2vec
- self-supervised
- {summary.modality}
- {summary.model_type}
---

# {summary.name}

A `{summary.model_type}` encoder of {summary.num_parameters:,} parameters, pre-trained without labels by data2vec
([arXiv 2202.03555](https://arxiv.org/abs/2202.03555), [arXiv 2212.07525](https://arxiv.org/abs/2212.07525)): a student
that sees part of the input predicts, at the masked places, what a slow moving average of itself makes of the whole.

## How to load

{encoder_section(str(output_dir), processor, modality.encoder_call)}

{full_section(str(output_dir))}

## Data

{table(("data", "value"), summary.data)}

## Objective

{table(("setting", "value"), summary.objective)}

## Training

{table(("setting", "value"), summary.training)}

## Results

{table(("measure", "value"), results)}

{figures}
""".rstrip()
        + "\n"
    )


def write_model_card(output_dir: Path, summary: RunSummary) -> Path:
    """Write `output_dir`/README.md and return its path."""
    path = output_dir / "README.md"
    path.write_text(model_card(summary, output_dir), encoding="utf-8")
    return path
