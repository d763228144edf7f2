"""What a process has summed up since the last log and over the run, in a file of its own in each checkpoint."""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import TrainingArguments
from transformers.utils import logging

RUNNING_STATE_NAME = "running_state"

logger = logging.get_logger(__name__)


def save_running_state(state: dict[str, Tensor], checkpoint: Path, arguments: TrainingArguments) -> None:
    """Write this process's sums to `running_state.safetensors`, or, with several processes, `running_state_0...`."""
    save_file(state, _path(checkpoint, arguments))


def load_running_state(checkpoint: Path, arguments: TrainingArguments) -> dict[str, Tensor] | None:
    """What `save_running_state` wrote, on the device of the run; None, with a warning, if the file is missing."""
    path = _path(checkpoint, arguments)
    if not path.is_file():
        logger.warning(
            f"{checkpoint} has no {path.name}: other software saved it, or another number of processes. The next log "
            "and train_loss will miss the steps before it."
        )
        return None
    device: torch.device = arguments.device
    return {name: value.to(device) for name, value in load_file(path).items()}


def _path(checkpoint: Path, arguments: TrainingArguments) -> Path:
    of_process = f"_{arguments.process_index}" if arguments.world_size > 1 else ""
    return checkpoint / f"{RUNNING_STATE_NAME}{of_process}.safetensors"
