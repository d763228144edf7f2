"""What a run computes on."""

import os
from dataclasses import dataclass

import psutil
import torch
from transformers import TrainingArguments

from . import constants

_GIB = 2**30


@dataclass(frozen=True)
class Device:
    """The device of each process of a run, and how many processes there are.

    Args:
        kind: "cpu", "cuda" or what else torch calls it.
        processes: of the run, each with a device of its own, or a share of one CPU.
        threads: that torch uses in this process.
        cores: of the machine that this process may use.
        memory: of the GPU, or of the machine, in bytes.
        bf16: whether the device computes in bfloat16.
        capability: the first number of the compute capability of an NVIDIA GPU; None of other devices.
        name: of the GPU.
    """

    kind: str = "cpu"
    processes: int = 1
    threads: int = 1
    cores: int = 1
    memory: int = 16 * _GIB
    bf16: bool = False
    capability: int | None = None
    name: str = ""

    @property
    def is_cpu(self) -> bool:
        return self.kind == "cpu"

    @property
    def flops(self) -> float:
        """FLOP per second that all processes together do in whole steps, by `constants.py`."""
        if self.is_cpu:
            threads = self.threads * self.processes
            return float(constants.CPU_THREAD * threads**constants.CPU_THREADS_POWER)
        return constants.GPU.get(self.capability or 0, constants.GPU_UNKNOWN) * self.processes

    def __str__(self) -> str:
        """The devices in words, such as "a CPU with 2 threads" or "8 GPUs (NVIDIA H200, 140 GiB)"."""
        if self.is_cpu:
            threads = self.threads * self.processes
            return f"a CPU with {threads} thread{'s' if threads > 1 else ''}"
        count = "a GPU" if self.processes == 1 else f"{self.processes} GPUs"
        return f"{count} ({self.name}, {self.memory / _GIB:.0f} GiB)"


def device_of(arguments: TrainingArguments) -> Device:
    """The device that these arguments train on."""
    kind = arguments.device.type
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    shared = {"kind": kind, "processes": arguments.world_size, "threads": torch.get_num_threads(), "cores": cores}
    if kind != "cuda":
        return Device(memory=psutil.virtual_memory().total, name=kind, **shared)
    properties = torch.cuda.get_device_properties(arguments.device)
    with torch.cuda.device(arguments.device):
        bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    # The number of AMD's compilers' targets means something else.
    capability = properties.major if torch.version.cuda else None
    return Device(memory=properties.total_memory, bf16=bf16, capability=capability, name=properties.name, **shared)
