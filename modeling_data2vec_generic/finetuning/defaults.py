"""A task's published settings, for the flags that the user leaves out."""

from collections.abc import Iterable
from typing import Any

from transformers.utils import logging

from ..recipes import as_flags, parse
from .tasks import Task

logger = logging.get_logger(__name__)


def with_defaults(task: type[Task], flags: list[str], groups: Iterable[Any]) -> tuple[Any, ...]:
    """The flags once more, with those of `task.defaults` that are not among them, which the log names.

    A default learning rate is for `task.reference_batch_size` samples per optimizer step, and is scaled to those of
    this run (linearly: arXiv 1706.02677).

    Args:
        flags: of the command line and its recipe.
        groups: as for `recipes.parse`; the last of them is the training arguments.
    """
    given = {flag.removeprefix("--").partition("=")[0] for flag in flags if flag.startswith("--")}
    chosen = {name: value for name, value in task.defaults.items() if name not in given}
    parsed = parse(as_flags(chosen) + flags, groups)
    if "learning_rate" in chosen and task.reference_batch_size is not None:
        training = parsed[-1]
        batch_size = training.train_batch_size * training.gradient_accumulation_steps * training.world_size
        training.learning_rate *= batch_size / task.reference_batch_size
        chosen["learning_rate"] = training.learning_rate
    listed = ", ".join(f"{name} {value}" for name, value in chosen.items())
    logger.info(f"Defaults of {task.name}: {listed or 'none, all of them are given'}.")
    return parsed
