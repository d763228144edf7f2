"""The published settings of a task, as defaults of the flags."""

from collections.abc import Iterable
from typing import Any

from transformers.utils import logging

from ..cli import as_flags, parse
from .tasks import Task

logger = logging.get_logger(__name__)


def with_defaults(task: type[Task], label: Any, flags: list[str], groups: Iterable[Any]) -> tuple[Any, ...]:
    """Parse the flags with the task's defaults for these labels. Given flags override the defaults.

    The log says which of the defaults are used. A default learning rate is for `task.reference_batch_size` samples per
    optimizer step and is scaled linearly to the batch of this run (arXiv 1706.02677).

    Args:
        task: the class of the task.
        label: type of the label column, a feature of `datasets`.
        flags: those of the command line and of its recipe.
        groups: dataclasses of flags, as for `cli.parse`; the last one is that of the training arguments.

    Returns:
        One object of each group.
    """
    problem_type = _by_name(parse(flags, groups))["problem_type"]
    defaults = dict(task.defaults_for(label, problem_type))
    if task.reference_batch_size is not None:
        training = parse(as_flags(defaults) + flags, groups)[-1]
        batch_size = training.train_batch_size * training.gradient_accumulation_steps * training.world_size
        defaults["learning_rate"] *= batch_size / task.reference_batch_size
    parsed = parse(as_flags(defaults) + flags, groups)
    used = _by_name(parsed)
    listed = ", ".join(f"{name} {value}" for name, value in defaults.items() if used[name] == value)
    logger.info(f"Defaults of {task.name} that are used: {listed or 'none'}.")
    return parsed


def _by_name(parsed: Iterable[Any]) -> dict[str, Any]:
    return {name: value for group in parsed for name, value in vars(group).items()}
