"""Checks that the files of a checkpoint can be read, before a run is resumed from it.

Weights, the teacher and running sums are safetensors. Trainer keeps optimizer, scheduler and random states as pickles
and reads them by `torch.load(weights_only=True)`, which makes tensors and plain values and runs no code. Nothing
reads `training_args.bin`, which would need more than that.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import TrainerState
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_pt_utils import safe_globals

from ...remote_code_data2vec_generic import require_safetensors
from ..monitoring.row_counts import ROWS_NAME, read_counts
from .same_run import RUN_NAME, read_run

_COUNTS = ("global_step", "max_steps", "num_train_epochs", "logging_steps", "eval_steps", "save_steps")


def check_checkpoint(folder: str | os.PathLike) -> None:
    """Read the header of every file that a resumed run will read; tensors stay on the disk.

    Raises:
        ValueError: the weights are a pickle, or a file is damaged or holds unexpected values.
    """
    require_safetensors(folder)
    for path in sorted(Path(folder).iterdir()):
        reader = _reader(path.name)
        if reader is not None:
            try:
                reader(path)
            except Exception as error:  # errors of torch, safetensors and json have many types
                reason = str(error).partition("\n")[0]
                raise ValueError(
                    f"The checkpoint cannot be resumed: {str(path)!r} is damaged or not what Trainer wrote "
                    f"({type(error).__name__}: {reason}). Resume from an earlier checkpoint."
                ) from error


def _reader(name: str) -> Callable[[Path], object] | None:
    if name == TRAINER_STATE_NAME:
        return _read_state
    if name == RUN_NAME:
        return read_run
    if name == ROWS_NAME:
        return read_counts
    if name.endswith(".safetensors"):
        return _read_safetensors
    return _read_pickle if name.endswith((".pt", ".pth")) else None


def _read_safetensors(path: Path) -> None:
    with safe_open(path, framework="pt") as file:  # compares the file's size with what the header says
        file.keys()


def _read_pickle(path: Path) -> None:
    with safe_globals():
        torch.load(path, map_location="cpu", weights_only=True, mmap=True)


def _read_state(path: Path) -> None:
    state: Any = TrainerState.load_from_json(str(path))
    for name in _COUNTS:
        value = getattr(state, name)
        # Trainer uses sys.maxsize as the number of epochs of a stream.
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= sys.maxsize:
            raise ValueError(f"{name}={value!r} is not a count")
    history = state.log_history
    if not isinstance(history, list) or not all(isinstance(entry, dict) and "step" in entry for entry in history):
        raise ValueError("log_history is not a list of logs with their steps")
