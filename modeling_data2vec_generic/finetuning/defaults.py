"""A task's published settings, for the flags that the user leaves out."""

from collections.abc import Iterable
from typing import Any

from transformers.utils import logging

from ..cli import as_flags, parse
from .tasks import Task

logger = logging.get_logger(__name__)


def with_defaults(task: type[Task], label: Any, flags: list[str], groups: Iterable[Any]) -> tuple[Any, ...]:
    """The flags once more, after the task's defaults for such labels, which they override. The log says which of these
    hold.

    A default learning rate is for `task.reference_batch_size` samples per optimizer step, and is scaled to those of
    this run (linearly: arXiv 1706.02677).

    Args:
        label: type of the label column.
        flags: of the command line and its recipe.
        groups: as for `cli.parse`; the last of them is the training arguments.
    """
    problem_type = _by_name(parse(flags, groups))["problem_type"]
    defaults = dict(task.defaults_for(label, problem_type))
    if task.reference_batch_size is not None:
        training = parse(as_flags(defaults) + flags, groups)[-1]
        batch_size = training.train_batch_size * training.gradient_accumulation_steps * training.world_size
        defaults["learning_rate"] *= batch_size / task.reference_batch_size
    parsed = parse(as_flags(defaults) + flags, groups)
    held = _by_name(parsed)
    listed = ", ".join(f"{name} {value}" for name, value in defaults.items() if held[name] == value)
    logger.info(f"Defaults of {task.name} that hold: {listed or 'none'}.")
    return parsed


def _by_name(parsed: Iterable[Any]) -> dict[str, Any]:
    return {name: value for group in parsed for name, value in vars(group).items()}
