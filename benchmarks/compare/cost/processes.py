"""What a step costs each of several processes that train together, by gloo on a CPU and by NCCL on GPUs."""

import copy
import multiprocessing
import os
import socket
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.utils import logging

from ...cases import OBJECTIVES, Case
from ...device import Device
from ...timing import adamw, measured_run, run_trainer
from .contenders import peer

UNCOUNTED = 2  # first steps of a run
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([__name__])


@dataclass(frozen=True)
class StepTime:
    """What a step takes, the median over steps and processes.

    Args:
        cpu_s: CPU seconds of one process.
        wall_s: seconds of the wall.
    """

    cpu_s: float
    wall_s: float


def step_time(name: str, case: Case, processes: int, steps: int, device: Device) -> StepTime:
    """Trains by the library's Trainer, or a peer by transformers', each process on as many samples as one alone."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    with ProcessPoolExecutor(processes, PROCESSES) as pool:
        started = [
            pool.submit(_steps, name, case, steps + UNCOUNTED, device, rank, processes, port)
            for rank in range(processes)
        ]
        marks = [each.result() for each in started]
    cpu, wall = ([b[i] - a[i] for own in marks for a, b in _pairs(own[UNCOUNTED:])] for i in range(2))
    return StepTime(median(cpu), median(wall))


def _pairs(marks: Sequence[tuple[float, float]]) -> Any:
    return zip(marks, marks[1:], strict=False)


def _steps(
    name: str, case: Case, steps: int, device: Device, rank: int, processes: int, port: str
) -> list[tuple[float, float]]:
    """In a process: CPU seconds and those of the wall at the end of each step."""
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
    }
    if processes == 1:
        for variable in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
            del os.environ[variable]
    logging.set_verbosity_error()
    torch.set_num_threads(1)
    marks = Marks(device)
    if name in OBJECTIVES:
        run_trainer(case.model(name), case, name, steps, device, marks)
    else:
        _run_peer(name, case, steps, device, marks)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    return marks.found


def _run_peer(name: str, case: Case, steps: int, device: Device, marks: "Marks") -> None:
    model, batch, _ = peer(name, case)
    with tempfile.TemporaryDirectory() as output_dir:
        arguments = TrainingArguments(output_dir, **measured_run(case, steps, device))
        trainer = Trainer(
            model,
            arguments,
            data_collator=lambda examples: copy.copy(batch),
            train_dataset=[{"number": i} for i in range(case.batch_size * steps)],
            optimizers=(adamw(model), None),
            callbacks=[marks],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()


class Marks(TrainerCallback):
    """Notes the time at the end of each step."""

    def __init__(self, device: Device):
        self.device = device
        self.found: list[tuple[float, float]] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.device.wait()
        self.found.append((time.process_time(), time.perf_counter()))
