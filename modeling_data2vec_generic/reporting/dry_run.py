"""What a dry run prints: what a run would be, what it would read, and what time and memory it would take."""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import zip_longest
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..data.summary import take_notes
from ..finetuning.arguments import FinetuningArguments
from ..modalities.base_modality import Modality
from ..modeling_data2vec_generic import Data2VecGenericForPreTraining
from ..training.arguments import Data2VecTrainingArguments
from ..training.checkpointing.output_dir import held_by
from ..training.trainer import Data2VecTrainer
from .card_sections import duration
from .provenance import Setting, chosen, shown

if TYPE_CHECKING:
    from ..finetuning.trainer import FinetuningTrainer  # the tasks need the packages of all kinds of data

LINE = 119  # characters
WIDEST = 36  # of a column but the last one; longer cells take several lines
_GIB = 2**30

Rows = list[tuple[str, ...]]
Section = tuple[str, Rows]


@dataclass(frozen=True)
class Cost:
    """What the steps of a dry run have shown.

    Args:
        steps: optimizer steps of the whole run.
        samples: per optimizer step, on all processes.
        rows: samples of the training data; None for streams.
        epochs: passes over the training data in the whole run; of no meaning for streams.
        seconds: of an optimizer step.
        measured: the number of steps that this is the mean of; 0 if the run has a single step, which warms up too.
        peak: memory at its highest, in bytes: what tensors have taken on the GPU, or the process on a CPU.
        grown: by how many bytes the steps let the process grow, on a CPU.
        total: memory of the device in bytes.
        on_gpu: whether the device is a GPU.
        waited: the share of the time in which the steps waited for data; None if it was not measured.
        batch: what the model read last.
    """

    steps: int
    samples: int
    rows: int | None
    epochs: float
    seconds: float
    measured: int
    peak: int
    grown: int
    total: int
    on_gpu: bool
    waited: float | None
    batch: Mapping[str, Any]

    def metrics(self) -> dict[str, float]:
        """By name, for callers in Python."""
        return {
            "steps": self.steps,
            "seconds_per_step": self.seconds,
            "samples_per_second": self.samples / self.seconds,
            "estimated_seconds": self.steps * self.seconds,
            "peak_memory_gib": self.peak / _GIB,
        }


def token_rows(batch: Mapping[str, Any], modality: Modality, model: Data2VecGenericForPreTraining) -> Rows:
    """What a batch says about tokens.

    Args:
        batch: what the model has read.
        modality: whose positions are counted.
    """
    main_input = model.main_input_name
    measurements = model.measurements
    prefix = 0 if measurements is None else measurements.prefix
    visible_only = model.config.student_input == "visible"
    mask: Tensor = batch["mask"]
    real = batch["mask_positions"].real
    real = torch.ones_like(mask[:, 0]) if real is None else real
    lengths = real.sum(1).tolist()
    masked = mask.sum(2).flatten().tolist()
    seen = (real[:, None] & ~mask).sum(2).flatten().tolist()
    grid = getattr(modality, "grid", None)
    size = " x ".join(map(str, batch[main_input].shape[1:]))
    shape = "" if grid is None else f"{' x '.join(map(str, grid))} = "
    ahead = f", and {prefix} in front" if prefix else ""
    unit = modality.unit
    reads = "visible ones alone" if visible_only else "all of them, with masked ones hidden"
    return [
        ("input", f"{main_input}, {size} per sample"),
        ("positions", f"{shape}{_range(lengths)} {unit}{ahead}"),
        ("masks", f"{mask.shape[1]} per sample"),
        ("masked", f"{_range(masked)} {unit} per mask, {sum(masked) / (sum(lengths) * mask.shape[1]):.0%}"),
        ("visible", f"{_range(seen)} {unit} per mask; the student reads {reads}"),
    ]


def _range(values: Sequence[int]) -> str:
    """The values in words: the only one, or the lowest, the highest and the mean."""
    lowest, highest = min(values), max(values)
    if lowest == highest:
        return f"{lowest:,}"
    return f"{lowest:,} to {highest:,} (mean {sum(values) / len(values):,.1f})"


def _cost_rows(cost: Cost, args: Any) -> Rows:
    """What a step and the whole run cost.

    Args:
        args: the training arguments that were asked for.
    """
    epochs = "" if cost.rows is None else f", {cost.epochs:.3g} times all {cost.rows:,} samples"
    more = _not_counted(cost.steps, args)
    rate = f"{cost.seconds:.3g} s, {cost.samples / cost.seconds:,.3g} samples per second"
    how = f"the mean of {cost.measured} steps, after one that warmed up" if cost.measured else "of the only step"
    waited = "" if cost.waited is None else f"; {cost.waited:.0%} of it waiting for data"
    parts = f"{args.per_device_train_batch_size} on a device"
    parts += f" x {args.gradient_accumulation_steps} batches" if args.gradient_accumulation_steps > 1 else ""
    parts += f" x {args.world_size} processes" if args.world_size > 1 else ""
    if cost.on_gpu:
        memory = (
            f"{cost.peak / _GIB:.2f} GiB of {cost.total / _GIB:.1f} GiB on the GPU, at its highest in these steps: "
            "weights, gradients, optimizer and activations, without what torch and CUDA need themselves"
        )
    else:
        memory = (
            f"the process grew by {cost.grown / _GIB:.2f} GiB in these steps, to {cost.peak / _GIB:.2f} GiB of "
            f"{cost.total / _GIB:.1f} GiB at its highest"
        )
    return [
        ("batch", f"{cost.samples:,} samples per step ({parts})"),
        ("time of a step", f"{rate} ({how}{waited})"),
        ("memory", memory),
        ("steps", f"{cost.steps:,}{epochs}"),
        ("time of the run", f"about {duration(cost.steps * cost.seconds)} for them, without {more}"),
    ]


def _not_counted(steps: int, args: Any) -> str:
    """What takes more time in a run than its steps, in words."""
    found = []
    for name, words in (("eval", "evaluations"), ("save", "checkpoints")):
        strategy, every = getattr(args, f"{name}_strategy").value, getattr(args, f"{name}_steps")
        if strategy == "steps":
            number = int(steps // (every if every >= 1 else max(1, steps * every)))
            found += [f"{number:,} {words}"] if number else []
        elif strategy != "no":
            found.append(words)
    return " and ".join([*found, "what comes before and after"])


def report_pretraining(
    trainer: Data2VecTrainer,
    cost: Cost,
    asked: Data2VecTrainingArguments,
    settings: Sequence[Setting],
    modality: Modality,
    draw: Callable[[Path], None],
) -> None:
    """Print what a pre-training run would be, and write its picture of masks. The main process does so.

    Args:
        trainer: has taken the steps of `cost`.
        asked: the training arguments that were asked for.
        settings: those of the run.
        modality: fitted to the encoder.
        draw: writes a picture of masks into a file.
    """
    if not trainer.is_world_process_zero():
        return
    model, args = trainer.model, trainer.args
    parts = {"student (the encoder)": model.encoder, "teacher": model.teacher, "predictor": model.predictor}
    _print(
        f"Dry run: {asked.output_dir} is not trained.",
        [
            ("Data", _data_rows()),
            ("Tokens, of a batch that was read", token_rows(cost.batch, modality, model)),
            ("Parameters", _parameter_rows(parts, model)),
            ("Cost", _cost_rows(cost, asked)),
            ("Files", _picture_rows(Path(str(args.output_dir)), draw) + _warning_rows(asked)),
        ],
        settings,
        asked,
        model.encoder.config,
    )


def report_finetuning(
    trainer: "FinetuningTrainer | None",
    cost: Cost | None,
    asked: FinetuningArguments,
    settings: Sequence[Setting],
    encoder: PreTrainedModel,
    runs: int,
) -> None:
    """Print what a fine-tuning run would be. The main process calls this; arguments as above.

    Args:
        trainer, cost: None if no model is trained, but frozen features are used.
        encoder: what is fine-tuned.
        runs: how many models are trained, for several seeds and to compare.
    """
    model: Any = encoder if trainer is None else trainer.model
    parts = {"encoder": encoder} if trainer is None else {"encoder": encoder, "with its head": model}
    costs = [] if cost is None else _cost_rows(cost, asked)
    if runs > 1:
        costs.append(("runs", f"{runs} models are trained, and these numbers are of one"))
    sections = [("Data", _data_rows()), ("Parameters", _parameter_rows(parts, model)), ("Cost", costs)]
    _print(
        f"Dry run: {asked.output_dir} is not trained.",
        [*sections, ("Files", _warning_rows(asked))],
        settings,
        asked,
        model.config,
    )


def _print(title: str, sections: list[Section], settings: Sequence[Setting], asked: Any, config: Any) -> None:
    settings = [setting for setting in settings if setting.name != "dry_run"]
    few = chosen(settings)
    first = [("Settings that are no defaults", _settings_rows(few))]
    if asked.dry_run == "all":
        rest = [setting for setting in settings if not setting.is_chosen]
        groups = dict.fromkeys(setting.group for setting in rest)
        of_config: Rows = [(name, shown(value)) for name, value in sorted(config.to_dict().items())]
        sections += [
            (f"Defaults: {name}", _settings_rows(setting for setting in rest if setting.group == name))
            for name in groups
        ]
        sections.append((f"Configuration of the {config.model_type} model", of_config))
    else:
        sections.append(
            ("", [(f"{len(settings) - len(few)} settings have their defaults: --dry_run all lists them.",)])
        )
    sys.stdout.write(text_of(title, first + sections))


def _settings_rows(settings: Iterable[Setting]) -> Rows:
    return [(setting.name, shown(setting.value), setting.origin) for setting in settings]


def _data_rows() -> Rows:
    """What is to be said about the data, split by split."""
    return [(split, sentence) for split, sentences in take_notes().items() for sentence in sentences]


def _parameter_rows(parts: Mapping[str, nn.Module], model: nn.Module) -> Rows:
    """Numbers of parameters of parts of a model, by what they are called, and of those that are trained."""
    numbers = {name: sum(weight.numel() for weight in part.parameters()) for name, part in parts.items()}
    numbers["trained"] = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    return [(name, f"{number:,}") for name, number in numbers.items()]


def _picture_rows(folder: Path, draw: Callable[[Path], None]) -> Rows:
    if find_spec("matplotlib") is None:
        return [("masks", "matplotlib is not installed, so no picture of masks is drawn: `pip install matplotlib`")]
    path = folder / "masks.png"
    draw(path)
    return [("masks", f"a picture of them is {path}")]


def _warning_rows(asked: Any) -> Rows:
    held = [path.name for paths in held_by(Path(str(asked.output_dir))) for path in paths]
    if not held or asked.overwrite_output_dir or asked.resume_from_checkpoint:
        return []
    listed = ", ".join(held[:3])
    return [("output_dir", f"it holds a run already ({listed}): resume that, name another, or --overwrite_output_dir")]


def text_of(title: str, sections: Sequence[Section]) -> str:
    """The text of a dry run: headings, and below each its rows in columns.

    Args:
        sections: heading and rows of each. The rows of one have equally many cells. Sections without rows are left
            out.
    """
    lines = [title]
    for heading, rows in sections:
        if not rows:
            continue
        lines += ["", heading] if heading else [""]
        widths = [min(max(map(len, column)), WIDEST) for column in list(zip(*rows, strict=True))[:-1]]
        widths.append(max(WIDEST, LINE - sum(widths) - 2 * len(widths) - 2))
        for row in rows:
            wrapped = [wrap(cell, width, break_long_words=False) for cell, width in zip(row, widths, strict=True)]
            for cells in zip_longest(*wrapped, fillvalue=""):
                padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)]
                lines.append("  " + "  ".join(padded).rstrip())
    return "\n".join(lines) + "\n"
