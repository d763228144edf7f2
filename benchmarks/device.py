"""Where and how precisely a benchmark computes, how fast that device is, and how much a step has to compute."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from statistics import median
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

MIB = 2**20
TERA = 1e12
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
PRODUCT = {"cpu": 512, "cuda": 8192}  # the side of the matrices whose product shows how fast a device is


@dataclass(frozen=True)
class Device:
    """A device and a precision.

    Args:
        type: "cpu" or "cuda".
        dtype: float32, or the type that autocast computes in.
    """

    type: str = "cpu"
    dtype: torch.dtype = torch.float32

    def autocast(self) -> torch.autocast:
        """A context in which the forward pass runs. Without effect for float32."""
        return torch.autocast(self.type, self.dtype, enabled=self.dtype != torch.float32)

    def wait(self) -> None:
        """Waits until the device has done all that it was given."""
        if self.type == "cuda":
            torch.cuda.synchronize()

    def seconds(self, work: Callable[[], Any]) -> float:
        """The time that work takes, until the device has done it."""
        self.wait()
        began = time.perf_counter()
        work()
        self.wait()
        return time.perf_counter() - began

    def clock(self) -> float:
        """Seconds, once the device has done all that it was given: of the wall or, on a CPU, of the process, which do
        not count what else the machine does."""
        self.wait()
        return time.perf_counter() if self.type == "cuda" else time.process_time()

    def product_rate(self) -> float:
        """FLOP per second of a product of two square matrices in this precision."""
        side = PRODUCT[self.type]
        a, b = (torch.randn(side, side, device=self.type, dtype=self.dtype) for _ in range(2))
        times = [self.seconds(lambda: a @ b) for _ in range(6)]
        return 2 * side**3 / median(times[1:])  # the first one chooses and loads a kernel

    def describe(self) -> str:
        """The device, its precision and torch's version, in words."""
        name = torch.cuda.get_device_name() if self.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
        precision = next(name for name, dtype in DTYPES.items() if dtype == self.dtype)
        tf32 = ""
        if self.type == "cuda":
            backends = torch.backends.cuda.matmul, torch.backends.cudnn.conv
            products, convolutions = (backend.fp32_precision for backend in backends)
            tf32 = f", float32 products in {products}, convolutions in {convolutions}"
        return f"{name}, {precision}{tf32}, torch {torch.__version__}"


CPU = Device()


def operations(step: Callable[[], Any]) -> int:
    """The floating-point operations of products, convolutions and attention in a step, forward and backward."""
    with FlopCounterMode(display=False, custom_mapping=_FORMULAS) as counter:
        step()
    return counter.get_total_flops()


def _convolution_backward(output: Any, inputs: Any, weight: Any, *args: Any, **kwargs: Any) -> int:
    """Each of the two gradients costs as much as the forward pass. torch's own formula takes groups for one."""
    wanted = args[-1]
    return 2 * prod(output) * prod(weight[1:]) * sum(wanted[:2])


def _attention(query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> int:
    return sdpa_flop_count(query, key, value)


def _attention_backward(output: Any, query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> int:
    return sdpa_backward_flop_count(output, query, key, value)


_FORMULAS = {
    torch.ops.aten.convolution_backward: _convolution_backward,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}
