"""How fast a run is: samples per second, time of a step, waiting for data, memory, and FLOP/s of the device."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

MEASURED = ("runtime", "per_second", "seconds_per_step", "data_wait", "peak_memory_gib", "mfu")
"""Endings of logged names whose values a clock or an allocator gives: they differ when the same run is repeated."""

# TFLOP/s of dense matrix products, from NVIDIA's data sheets and white papers, without sparsity and with sums in
# float32: half precision on tensor cores, TF32, plain float32. Names are torch's, without the maker.
_RATES: tuple[tuple[str, float, float, float], ...] = (
    (r"B200", 2250.0, 1125.0, 75.0),
    (r"H200|GH200.*|H100 80GB HBM3", 989.0, 494.5, 67.0),
    (r"H200 NVL|H100 NVL", 835.5, 417.5, 60.0),
    (r"H100 PCIe", 756.0, 378.0, 51.0),
    (r"A100[- ].*", 312.0, 156.0, 19.5),
    (r"A30", 165.0, 82.0, 10.3),
    (r"A40", 149.7, 74.8, 37.4),
    (r"A10", 125.0, 62.5, 31.2),
    (r"A10G", 70.0, 35.0, 31.5),
    (r"L40S", 362.0, 183.0, 91.6),
    (r"L40", 181.0, 90.5, 90.5),
    (r"L4", 121.0, 60.0, 30.3),
    (r"RTX A6000", 154.8, 77.4, 38.7),
    (r"GeForce RTX 4090", 165.2, 82.6, 82.6),
    (r"GeForce RTX 3090", 71.0, 35.6, 35.6),
    (r"V100-SXM2-.*", 125.0, 15.7, 15.7),
    (r"V100-PCIE-.*", 112.0, 14.0, 14.0),
    (r"T4", 65.0, 8.1, 8.1),
)


def device_rate(name: str, dtype: torch.dtype, tf32: bool = False) -> float | None:
    """TFLOP/s that a device's data sheet states for dense matrix products; None if the device is not known.

    Args:
        name: as `torch.cuda.get_device_name` gives it. A part of a device (MIG) is not known.
        dtype: of the factors. bfloat16 on a device that is older than it counts as float16.
        tf32: whether float32 products may be rounded to TF32.
    """
    plain = re.sub(r"^(NVIDIA |Tesla )+", "", name)
    for pattern, half, rounded, single in _RATES:
        if re.fullmatch(pattern, plain) and "MIG" not in plain:
            return half if dtype in (torch.float16, torch.bfloat16) else rounded if tf32 else single
    return None


class Speedometer:
    """Measures the training steps between two logs by the wall clock, without waiting for the device.

    The steps of an interval are done on the device when they are logged, since the log reads their loss. Evaluations,
    looks at the model and saves are not counted: see `paused`.

    Args:
        accelerator: of the run.
        dtype: in which the matrix products are computed.
    """

    def __init__(self, accelerator: Accelerator, dtype: torch.dtype):
        self._accelerator = accelerator
        device = accelerator.device
        self._on_gpu = device.type == "cuda"
        self._rate = None
        if self._on_gpu:
            tf32 = torch.backends.cuda.matmul.fp32_precision == "tf32"
            self._rate = device_rate(torch.cuda.get_device_name(device), dtype, tf32)
        self._seconds = self._waited = 0.0
        self._steps = self._samples = 0
        self._flos = 0.0
        self._running_since: float | None = None

    def batches(self, iterator: Iterator[Any]) -> Iterator[Any]:
        """The same batches; the time that each takes to come is noted."""
        while True:
            began = time.perf_counter()
            try:
                batch = next(iterator)
            except StopIteration:
                return
            finally:
                self._waited += time.perf_counter() - began
            yield batch

    def start(self, total_flos: float) -> None:
        """Start the clock, unless it runs. `total_flos`: operations of the run so far."""
        if self._running_since is None:
            self._running_since, self._flos = time.perf_counter(), total_flos

    def count_step(self, samples: int) -> None:
        """Count an optimizer step and the samples of this process in it."""
        self._steps += 1
        self._samples += samples

    @contextmanager
    def paused(self) -> Iterator[None]:
        """A context whose time is not counted. It waits for the device first, so that the time of the steps before is
        theirs: what is done within waits for it anyway."""
        if self._running_since is None:  # not training, or already paused
            yield
            return
        if self._on_gpu:
            torch.cuda.synchronize(self._accelerator.device)
        self._seconds += time.perf_counter() - self._running_since
        self._running_since = None
        try:
            yield
        finally:
            self._running_since = time.perf_counter()

    def pop(self, total_flos: float) -> dict[str, float]:
        """What was measured since the last call, of all processes, each of which must call this.

        Args:
            total_flos: operations of the run so far, of all processes.

        Returns:
            - `samples_per_second`: of all processes. `seconds_per_step`: of an optimizer step.
            - `data_wait`: the share of this time in which the loop waited for batches, the mean of the processes.
            - `tflops_per_second`: model FLOP/s of one device, in 10¹² (see `monitoring.flops`), and `mfu`, their share
              of what the device's data sheet states, if the device is known.
            - `peak_memory_gib`: the most memory that tensors have taken on a GPU since the run began, in GiB, of the
              process with the most.
        """
        now = time.perf_counter()
        if self._running_since is not None:
            self._seconds += now - self._running_since
            self._running_since = now
        memory = torch.cuda.max_memory_allocated(self._accelerator.device) / 2**30 if self._on_gpu else 0.0
        flos, self._flos = total_flos - self._flos, total_flos
        parts = gather_object([(self._seconds, self._waited, self._samples, memory)])
        steps = self._steps
        self._seconds = self._waited = 0.0
        self._steps = self._samples = 0
        seconds, waited, samples, memories = zip(*parts, strict=True)
        longest = max(seconds)
        if not (steps and longest):
            return {}
        rate = flos / longest / len(parts) / 1e12
        found = {
            "samples_per_second": sum(samples) / longest,
            "seconds_per_step": longest / steps,
            "data_wait": sum(waited) / sum(seconds),
            "tflops_per_second": rate,
        }
        if self._rate is not None:
            found["mfu"] = rate / self._rate
        return found | ({"peak_memory_gib": max(memories)} if self._on_gpu else {})
