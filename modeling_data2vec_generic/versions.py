"""What differs between the versions of other packages that setup.cfg allows: the one place for it.

Each entry names the version that changed something, and the floor with which the entry goes: whoever raises a floor in
setup.cfg removes the entries that it has reached. Where one way of writing is right for all versions, that is written
instead, and there is no entry. What is different in tests alone is told there by `TRANSFORMERS` and `DATASETS`.
"""

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from packaging.version import Version

# Below 5.18, `transformers.AutoImageProcessor` is a dummy where torchvision is not installed, though the class itself
# reads processors of Pillow without it. With a floor of 5.18, import it from transformers.
from transformers.models.auto.image_processing_auto import AutoImageProcessor

TRANSFORMERS, DATASETS = Version(version("transformers")), Version(version("datasets"))

# transformers 5.23 has new names for the flags and the methods of checkpointing, and keeps the old ones until 6.0.
# With a floor of 5.23 the first name is always there; with one of 6.0 it is the only one.
CHECKPOINTING_NAMES = (
    ("activation_checkpointing", "gradient_checkpointing")
    if TRANSFORMERS >= Version("5.23")
    else ("gradient_checkpointing",)
)
"""The names of the flag, the newest first. The flags `..._kwargs` and the methods `..._enable` have them too."""


def prepare_train_loss(trainer: Any) -> None:
    """Let Trainer's mean loss of a run be that of the steps after `_initial_global_step`.

    From 5.19 on, transformers divides the sum of the losses by the number of these steps; before, by that of all. With
    a floor of 5.19 this function goes, and ours need not set `_initial_global_step` before Trainer does.

    Args:
        trainer: a Trainer after its last step.
    """
    if TRANSFORMERS < Version("5.19"):
        steps = trainer.state.global_step
        factor = steps / max(steps - trainer._initial_global_step, 1)
        trainer._total_loss_scalar *= factor
        trainer._tr_loss *= factor


def require_checkpointing_of_visible(arguments: Any) -> None:
    """Refuse activation checkpointing of a student that encodes visible positions alone, where it would go wrong.

    Before 5.23, transformers computes a block again with its hooks, which leave out the masked positions, gone. With a
    floor of 5.23 this function goes.

    Args:
        arguments: `TrainingArguments`.

    Raises:
        ValueError: it is asked for, and transformers is older.
    """
    if TRANSFORMERS < Version("5.23") and getattr(arguments, CHECKPOINTING_NAMES[-1]):
        raise ValueError(
            f"{CHECKPOINTING_NAMES[-1]}=True does not work with student_input='visible' in transformers "
            f"{TRANSFORMERS}: install 5.23 or newer, leave the flag out, or set --student_input mask_token."
        )


def loader_flag(arguments: Any, name: str) -> Any:
    """The value of the flag `dataloader_multiprocessing_context` or `dataloader_in_order`.

    transformers has both since 5.15; before, it is always torch's default. With a floor of 5.15, read the flags.
    """
    before = {"dataloader_multiprocessing_context": None, "dataloader_in_order": True}
    return getattr(arguments, name) if TRANSFORMERS >= Version("5.15") else before[name]


def without_names_of_archives(files: Sequence[Any]) -> tuple[Any, ...]:
    """The files of a split that a builder of folders was given, without the paths of the archives that hold some.

    datasets 4.5 lists each as (path or archive, unpacked archive or None, files), earlier versions as (path, file) or
    (None, files of an archive). With a floor of 4.5 this is written where it is used.
    """
    if DATASETS < Version("4.5"):
        return tuple(files)
    return tuple((original if unpacked is None else None, unpacked, found) for original, unpacked, found in files)


__all__ = [
    "CHECKPOINTING_NAMES",
    "DATASETS",
    "TRANSFORMERS",
    "AutoImageProcessor",
    "loader_flag",
    "prepare_train_loss",
    "require_checkpointing_of_visible",
    "without_names_of_archives",
]
