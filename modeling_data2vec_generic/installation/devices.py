"""The processors that a run can use, and in which precision."""

import os
from pathlib import Path

import torch

_GIB = 2**30


def describe_cpu() -> str:
    """Cores that this process may use, and memory."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    text = f"{cores} cores"
    if "SC_PHYS_PAGES" in os.sysconf_names:
        text += f", {os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / _GIB:.0f} GiB of memory"
    return text


def describe_accelerators() -> list[str]:
    """One line for each GPU that torch sees, with its memory, and the flag of the precision to train in; none if it
    sees none."""
    if torch.cuda.is_available():
        return [_gpu(number) for number in range(torch.cuda.device_count())]
    if torch.accelerator.is_available():
        return [f"of type {torch.accelerator.current_accelerator()}"] * torch.accelerator.device_count()
    return []


def missing_gpu() -> str:
    """Why torch sees no GPU, where it does not, as far as that can be told."""
    built_for = torch.version.cuda or torch.version.hip
    if not built_for:
        reason = f"torch {torch.__version__} is a build for CPUs"
        return reason + _there_is_one(", and this machine has an NVIDIA GPU: install a build for CUDA (pytorch.org)")
    return f"torch is built for CUDA or ROCm {built_for} and finds no GPU" + _there_is_one(
        ", though this machine has one: its driver is too old for this build, or CUDA_VISIBLE_DEVICES hides it"
    )


def _there_is_one(text: str) -> str:
    return text if Path("/proc/driver/nvidia/version").exists() else ""


def _gpu(number: int) -> str:
    properties = torch.cuda.get_device_properties(number)
    with torch.cuda.device(number):
        bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    precision = "bf16: train with --bf16" if bf16 else "no bf16: train with --fp16"
    return f"{properties.name}, {properties.total_memory / _GIB:.0f} GiB, {precision}"
