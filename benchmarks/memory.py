"""Measures peak memory: of one configuration on a CPU in a process of its own, whose peak never falls, and what torch
allocates during some work."""

import multiprocessing
import resource
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from modeling_data2vec_generic.predictors_data2vec_generic import ConvDecoder
from modeling_data2vec_generic.versions import CHECKPOINTING_NAMES

from .cases import Case
from .device import CPU, MIB, Device
from .timing import LibraryLoop, adamw

# New processes import the library again and count its pages. For tiny encoders, which are only to see that everything
# runs, that is not worth its time: they get forks of one process that has imported it.
NEW = multiprocessing.get_context("spawn")
FORKED = multiprocessing.get_context("forkserver")
FORKED.set_forkserver_preload([__name__])


@dataclass(frozen=True)
class Memory:
    """Sizes in MiB.

    Args:
        loaded: the process with model, teacher and a batch, before the first step.
        step: how much it grew at most in two steps.
        trained: the part of `step` for gradients and the two moments of the optimizer.
        predictor: activations that the predictor keeps for its backward pass.
        checkpointed: how much smaller `predictor` would be with gradient checkpointing of each layer of a
            convolutional decoder. It would keep only the inputs of layers, and the activations of the layer that is
            recomputed.
        checkpointed_step: `step` with gradient checkpointing of the student's blocks and the decoder's layers.
    """

    loaded: float
    step: float
    trained: float
    predictor: float
    checkpointed: float
    checkpointed_step: float


def peak_memory(case: Case, objective: str, threads: int, device: Device = CPU) -> Memory:
    """Measures one case on a CPU, in new processes."""
    plain, checkpointed = (_measure_alone(case, objective, threads, device, flag) for flag in (False, True))
    return Memory(**plain, checkpointed_step=checkpointed["step"])


def _measure_alone(
    case: Case, objective: str, threads: int, device: Device, gradient_checkpointing: bool
) -> dict[str, float]:
    """`measure` in a process of its own."""
    context = FORKED if case.size == "quick" else NEW
    with ProcessPoolExecutor(1, context, torch.set_num_threads, (threads,)) as process:
        return process.submit(measure, case, objective, gradient_checkpointing, device).result()


def measure(
    case: Case, objective: str, gradient_checkpointing: bool = False, device: Device = CPU
) -> dict[str, float]:
    """Measures one way to train in this process: the fields of `Memory` without `checkpointed_step`."""
    model, batch = case.model(objective), case.batch(objective)
    if gradient_checkpointing:
        getattr(model, f"{CHECKPOINTING_NAMES[0]}_enable")()
    loop = LibraryLoop(model, adamw(model), device)
    loaded = _peak(since_now=True)
    for _ in range(2):
        loop.step(batch)
    step = _peak() - loaded
    trained = 3 * sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad) / MIB
    decoder = isinstance(model.predictor, ConvDecoder)
    kept, layers = saved_for_backward(
        model.predictor, list(model.predictor.layers) if decoder else [], lambda: loop.loss(batch)
    )
    inputs = [layer_input for layer_input, _ in layers]
    insides = [inside for _, inside in layers]
    checkpointed = sum(insides) - sum(inputs) - max(insides, default=0.0)
    return {
        "loaded": loaded,
        "step": step,
        "trained": trained,
        "predictor": kept,
        "checkpointed": max(checkpointed, 0.0),
    }


def saved_for_backward(
    module: nn.Module, layers: list[nn.Module], forward: Callable[[], Any]
) -> tuple[float, list[tuple[float, float]]]:
    """Measures the activations that a module keeps for its backward pass, in MiB.

    A storage that several operations keep is counted once. Parameters are not counted.

    Returns:
        The activations of the module; and for each of its layers the size of its input and of the activations it
        keeps.
    """
    own = {parameter.untyped_storage().data_ptr() for parameter in module.parameters()}
    per_module: dict[nn.Module, dict[int, int]] = {watched: {} for watched in (module, *layers)}
    inputs: dict[nn.Module, float] = {}
    open_modules: list[tuple[nn.Module, ExitStack]] = []
    alive: list[Tensor] = []  # keeps tensors alive, so that no address is used twice

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            alive.append(tensor)
            for watched, _ in open_modules:
                per_module[watched][storage.data_ptr()] = storage.nbytes()
        return tensor

    def enter(watched: nn.Module, args: tuple[Tensor, ...]) -> None:
        stack = ExitStack()
        if not open_modules:  # hooks of an inner module would hide those of an outer one
            stack.enter_context(torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor))
        inputs[watched] = args[0].numel() * args[0].element_size() / MIB
        open_modules.append((watched, stack))

    def leave(watched: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        open_modules.pop()[1].close()

    with ExitStack() as handles:
        for watched in per_module:
            handles.callback(watched.register_forward_pre_hook(enter).remove)
            handles.callback(watched.register_forward_hook(leave).remove)
        forward()
    sizes = {watched: sum(storages.values()) / MIB for watched, storages in per_module.items()}
    return sizes[module], [(inputs[layer], sizes[layer]) for layer in layers]


def most_allocated(work: Callable[[], Any], device: Device) -> float:
    """The most that torch allocates during `work` beyond what there is before, in MiB.

    On a CPU, torch's profiler notes each allocation and release, so the result does not depend on what else the
    process does. Buffers that kernels take for themselves are not seen.
    """
    device.wait()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        device.wait()
        return (torch.cuda.max_memory_allocated() - before) / MIB
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    return max(accumulate((event.nbytes() for event in events), initial=0)) / MIB


def _peak(since_now: bool = False) -> float:
    """The peak memory of this process in MiB. `since_now` (Linux only) resets it to the memory that is used now.

    On Linux `ru_maxrss` cannot be used, since a new process inherits the peak of its parent.
    """
    if sys.platform == "linux":
        if since_now:
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS
    return peak / (MIB if sys.platform == "darwin" else 1024)
