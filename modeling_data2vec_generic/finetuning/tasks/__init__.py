"""What can be predicted: a class per task, one interface."""

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
    """The task that is named, else the only one for this kind of data and of labels.

    Args:
        modality: of the data.
        label: type of the label column, None if there is none.

    Raises:
        ValueError: there is no such task, it is one for other data, or it can't be told.
    """
    if name is not None:
        task = named_task(name)
        if task.modality_name != modality:
            raise ValueError(f"task={name!r} is for {task.modality_name}, and the data are {modality}.")
        return task
    found = [task for task in TASKS.values() if task.modality_name == modality and task.takes(label)]
    if len(found) != 1:
        choices = ", ".join(task.name for task in found or TASKS.values())
        raise ValueError(
            f"Which task these {modality} data are for can't be told: say it with --task, one of {choices}."
        )
    return found[0]


def named_task(name: str) -> type[Task]:
    """The task of this name. ValueError if there is none."""
    if name not in TASKS:
        raise ValueError(f"task={name!r} is not one of {', '.join(TASKS)}.")
    return TASKS[name]


def refuse_flags_of_others(task: type[Task], *groups: Any) -> None:
    """ValueError if one of these dataclasses of flags holds one that only other tasks read, other than its default."""
    for group in groups:
        for flag in fields(group):
            value = getattr(group, flag.name)
            readers = [other.name for other in TASKS.values() if flag.name in other.own_flags]
            if readers and task.name not in readers and value != flag.default:
                raise ValueError(f"{flag.name}={value!r} is for {', '.join(readers)}, not {task.name}. Leave it out.")


__all__ = ["TASKS", "Task", "named_task", "refuse_flags_of_others", "task_class"]
