"""The help of a command: a short one by topics, and one of all flags."""

import re
import shutil
import textwrap
from argparse import Action
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from enum import Enum
from typing import Any

from transformers import TrainingArguments

from .parsing import new_parser

_HELP = ("-h", "--help")
_HELP_ALL = ("--help_all", "--help-all")
_INDENT = 32  # of the text beside the flags
_WIDTH = (80, 120)  # least and most characters in a line
_LONGEST_HEADING = 60  # characters in the title of a section of transformers' documentation; longer lines are tips
_LONGEST_CHOICE = 40  # characters of the values of a flag that are listed beside its name
# The flags on the result of a run, in the short help of the commands that train.
RESULT = (
    "output_dir",
    "overwrite_output_dir",
    "dry_run",
    "resume_from_checkpoint",
    "save_steps",
    "logging_steps",
    "eval_strategy",
    "report_to",
    "push_to_hub",
)
# What the short help of a run says of flags whose own text begins with details, or is for readers who know Trainer.
_IN_SHORT = {
    "bf16": "Mixed precision with bfloat16, on GPUs that have it.",
    "compare": "Run all methods: from scratch, linear probe, nearest neighbours, fine-tuned.",
    "dataloader_num_workers": "Processes that load and decode data, besides the one that trains.",
    "dataset_name": "A dataset of the Hub or in a folder; digits and python_docs are built in.",
    "dry_run": "Train nothing: say what the run would be, and what it would take.",
    "eval_strategy": "When to evaluate, with the probe where there are labels. With steps: every --eval_steps.",
    "learning_rate": "The highest learning rate.",
    "logging_steps": "Optimizer steps between two lines of the log; below 1 a share of all steps.",
    "lr_scheduler_type": "How the learning rate goes on after warm-up: linear, cosine, constant, ...",
    "mask_strategy": "The shape of masks: single positions, spans or blocks.",
    "max_steps": "Optimizer steps to train, in place of --num_train_epochs.",
    "max_train_samples": "Use at most this many training rows.",
    "num_train_epochs": "Passes over the training data.",
    "output_dir": "Folder of the result: the model, its encoder, the model card and the figures.",
    "per_device_train_batch_size": "Samples per step on each device. --gradient_accumulation_steps multiplies it.",
    "push_to_hub": "Push the run to the Hugging Face Hub.",
    "report_to": "Where the log goes too: tensorboard, wandb, trackio, ...",
    "resume_from_checkpoint": "A checkpoint to go on from; true: the last one of the output directory.",
    "save_steps": "Optimizer steps between two checkpoints; --save_strategy no: none.",
    "seed": "Of the new weights, the order of the data, and the masks.",
    "seeds": "Repeat the run with each of these seeds, and report means.",
    "streaming": "Read the training rows during training, and not before it.",
    "task": "image-classification, ctc, ... Default: what the data are for.",
    "train_file": "Training rows: csv, JSON, text, parquet, Arrow, tar or FASTA files.",
    "use_cpu": "Train on the CPU, also where there is a GPU.",
    "warmup_steps": "Optimizer steps in which the learning rate rises; below 1 a share of all steps.",
    "weight_decay": "Of weight matrices; biases and norms are not decayed.",
}


def help_for(
    words: Sequence[str], usage: str, topics: Mapping[str, Sequence[str]], groups: Sequence[Any]
) -> str | None:
    """The help that the words of a command line ask for; None if they ask for none.

    Args:
        words: of the command line. The short help has what a first run needs, and that of --help_all all flags.
        usage: what the help begins with: what the command does, and examples.
        topics: by title, the names of the flags of the short help.
        groups: dataclasses whose fields are the flags.
    """
    whole = not {*_HELP_ALL}.isdisjoint(words)
    if not whole and {*_HELP}.isdisjoint(words):
        return None
    actions = _actions(groups)
    titled = _all_topics(groups) if whole else topics
    in_short = _IN_SHORT if "num_train_epochs" in actions else {}
    lines = [usage.strip()]
    for title, names in titled.items():
        lines += ["", f"{title}:"]
        lines += [line for name in names for line in _entry(actions[name], whole, in_short)]
    if not whole:
        others = len(actions) - sum(map(len, topics.values()))
        among = ", all of TrainingArguments among them" if in_short else ""
        lines += ["", f"--help_all explains these in full, and {others} more{among}."]
    return "\n".join(lines) + "\n"


def _actions(groups: Iterable[Any]) -> dict[str, Action]:
    """By the name of each flag, what argparse knows of it."""
    found: dict[str, Action] = {}
    for action in new_parser(groups)._actions:
        found.setdefault(action.dest, action)  # --horizontal_flip comes before --no_horizontal_flip
    return found


def _all_topics(groups: Sequence[Any]) -> dict[str, list[str]]:
    """All flags by topics: our own by their dataclass, TrainingArguments' as in the documentation of that."""
    of_transformers = _sections()
    topics: dict[str, list[str]] = {}
    for group in groups:
        for field in fields(group):
            if not field.init:
                continue
            owner = next(parent for parent in group.__mro__ if field.name in vars(parent).get("__annotations__", {}))
            if owner is TrainingArguments:
                title = "TrainingArguments: " + of_transformers.get(field.name, "others")
            else:
                title = (owner.__doc__ or owner.__name__).strip().split(".")[0]
            topics.setdefault(title, []).append(field.name)
    own = {title: names for title, names in topics.items() if not title.startswith("TrainingArguments: ")}
    return own | topics


def _sections() -> dict[str, str]:
    """By the name of a flag of TrainingArguments, the title of its section in their documentation."""
    titles: dict[str, str] = {}
    title = "others"
    for line in (TrainingArguments.__doc__ or "").splitlines():
        heading = re.match(r"\s+> (\w.*)", line)
        if heading and len(heading[1]) < _LONGEST_HEADING:
            title = heading[1].strip().lower()
        elif entry := re.match(r"\s+(\w+) \(", line):
            titles.setdefault(entry[1], title)
    return titles


def _entry(action: Action, whole: bool, in_short: Mapping[str, str]) -> Iterator[str]:
    """The lines on one flag; `whole`: all of its text, in place of what `in_short` has or the first sentence."""
    width = max(_WIDTH[0], min(_WIDTH[1], shutil.get_terminal_size().columns))
    name = f"  {action.option_strings[0]} {_value(action)}".rstrip()
    text = " ".join((action.help or "").replace("%%", "%").split())
    if not whole:
        text = in_short.get(action.dest) or re.split(r"(?<=\S\.)\s+(?=[A-Z])", text)[0]
    elif action.choices is not None and _choices(action) not in name:
        text = f"{text} One of {', '.join(map(str, action.choices))}."
    default = action.default.value if isinstance(action.default, Enum) else action.default
    if default not in (None, False, "", -1) and "default" not in text.lower():
        text = f"{text} Default: {default}."
    lines = textwrap.wrap(text, width - _INDENT)
    if len(name) < _INDENT - 1 and lines:
        name, lines = f"{name:<{_INDENT}}{lines[0]}", lines[1:]
    yield name
    yield from (" " * _INDENT + line for line in lines)


def _value(action: Action) -> str:
    if action.choices is not None and len(choices := _choices(action)) <= _LONGEST_CHOICE:
        return choices
    if action.nargs == "?":
        return "true|false" if action.default else ""
    kind = "N" if action.type is int else "X" if action.type is float else "VALUE"
    return f"{kind} ..." if action.nargs == "+" else kind


def _choices(action: Action) -> str:
    return "|".join(map(str, action.choices or ()))
