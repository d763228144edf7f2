"""Pictures in TensorBoard, wandb and trackio, in the runs that transformers' callbacks have opened there."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image
from transformers import TrainerCallback, TrainingArguments
from transformers.integrations import TensorBoardCallback, TrackioCallback, WandbCallback

_TRACKERS = frozenset({"tensorboard", "wandb", "trackio"})  # of --report_to, those that take pictures
_STEP = "train/global_step"  # under which transformers' callbacks log the step


def is_tracked(arguments: TrainingArguments) -> bool:
    """Whether a tracker that takes pictures is told of the run (`--report_to`)."""
    return not _TRACKERS.isdisjoint(arguments.report_to or ())


def log_pictures(callbacks: Iterable[TrainerCallback], pictures: Mapping[str, Path], step: int) -> None:
    """Give pictures to all trackers of a run that take some.

    Args:
        callbacks: of the trainer. Those of trackers have begun.
        pictures: PNG files by the names under which trackers show them.
        step: the optimizer step that they are of.
    """
    for callback in callbacks:
        if isinstance(callback, TensorBoardCallback) and callback.tb_writer is not None:
            for name, path in pictures.items():
                with Image.open(path) as picture:
                    pixels = np.asarray(picture.convert("RGB"))
                callback.tb_writer.add_image(name, pixels, step, dataformats="HWC")
        elif isinstance(callback, WandbCallback):
            import wandb

            wandb.log({name: wandb.Image(str(path)) for name, path in pictures.items()} | {_STEP: step})
        elif isinstance(callback, TrackioCallback):
            import trackio

            trackio.log({name: trackio.Image(str(path)) for name, path in pictures.items()} | {_STEP: step})
