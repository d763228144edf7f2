"""The tasks that an encoder can be fine-tuned on, as classes with a common interface.

Read `base.py` first, then `classification/base.py` and `classification/text.py` as an example; the other tasks can be
read in any order.
"""

from dataclasses import fields
from typing import Any

from .base import Task
from .classification.audio import AudioClassification
from .classification.images import ImageClassification
from .classification.series import SeriesClassification
from .classification.text import TextClassification
from .classification.video import VideoClassification
from .ctc import SpeechRecognition
from .image_segmentation import ImageSegmentation
from .token_classification import TokenClassification

TASKS: dict[str, type[Task]] = {
    task.name: task
    for task in (
        ImageClassification,
        ImageSegmentation,
        VideoClassification,
        TextClassification,
        TokenClassification,
        AudioClassification,
        SpeechRecognition,
        SeriesClassification,
    )
}


def task_class(name: str | None, modality: str, label: Any) -> type[Task]:
    """The class of a task: the one that is named, else the only one for data and labels of this kind.

    Args:
        name: as in --task, or None.
        modality: of the data.
        label: type of the label column, a feature of `datasets`; None if there is none.

    Raises:
        ValueError: there is no task of that name, it is for other data, or there is not exactly one for the data.
    """
    if name is not None:
        task = named_task(name)
        if task.modality_name != modality:
            raise ValueError(f"task={name!r} is for {task.modality_name}, and the data are {modality}.")
        return task
    found = [task for task in TASKS.values() if task.modality_name == modality and task.takes(label)]
    if len(found) != 1:
        choices = ", ".join(task.name for task in found or TASKS.values())
        raise ValueError(f"It is not clear which task these {modality} data are for. Set --task to one of {choices}.")
    return found[0]


def named_task(name: str) -> type[Task]:
    """The class of the task with this name.

    Raises:
        ValueError: there is none.
    """
    if name not in TASKS:
        raise ValueError(f"task={name!r} is not one of {', '.join(TASKS)}.")
    return TASKS[name]


def refuse_flags_of_others(task: type[Task], *groups: Any) -> None:
    """Check that no flag is set that only other tasks read.

    Args:
        task: class of the task of this run.
        groups: objects of dataclasses of flags.

    Raises:
        ValueError: such a flag has another value than its default.
    """
    for group in groups:
        for flag in fields(group):
            value = getattr(group, flag.name)
            readers = [other.name for other in TASKS.values() if flag.name in other.own_flags]
            if readers and task.name not in readers and value != flag.default:
                raise ValueError(f"{flag.name}={value!r} is for {', '.join(readers)}, not {task.name}. Leave it out.")


__all__ = ["TASKS", "Task", "named_task", "refuse_flags_of_others", "task_class"]
