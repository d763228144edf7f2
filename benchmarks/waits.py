"""Counts the places where the host would wait for a GPU, on any device.

A GPU works behind the host: the host queues operations and goes on. It has to wait wherever it needs a value from the
device, for instance the number of elements of a result. On a CPU nothing waits, but the same operations run, so that
they can be counted without a GPU:

- `_local_scalar_dense` (`.item()`, `bool(tensor)`, `if tensor:`), `equal`, and operations whose output has as many
  elements as the values of the input say, such as `nonzero`, `masked_select`, `unique`, indexing by a bool;
- a copy to the host, `.tolist()`, `.cpu()`, `.numpy()`, `.to("cpu")`. `.to(device)`, where `device` is a CPU because
  everything runs on one, is no copy and isn't counted;
- a blocking copy to the device, `torch.tensor(values, device=...)` or an index that is a list. Where tensors really
  change devices, `.to` and `.copy_` without `non_blocking` are counted too.

Not seen are `torch.cuda.synchronize` and what other processes do. What a data loader does is not counted, with workers
or without.
"""

import os
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import TrainerCallback

PACKAGES = sysconfig.get_paths()["purelib"]
REPOSITORY = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TORCH = os.path.dirname(os.path.abspath(torch.__file__))
LOADING = os.path.join(TORCH, "utils", "data")

# Their result, or the number of its elements, depends on values: names of operations without their overloads.
READ_BY_THE_HOST = {
    "_local_scalar_dense",
    "_unique",
    "_unique2",
    "bincount",
    "equal",
    "is_nonzero",
    "masked_select",
    "nonzero",
    "unique_consecutive",
    "unique_dim",
}
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_"}
COPIES = {"_to_copy", "copy_", "_copy_from"}
TO_THE_HOST = {"tolist", "cpu", "numpy", "__array__"}
FROM_THE_HOST = {"tensor", "as_tensor", "new_tensor"}

CUDA = "CUDA"  # the operation of a wait that torch warned of


class Wait(NamedTuple):
    """An operation that the host would wait for, and the innermost line outside of torch that called it."""

    operation: str
    place: str


@contextmanager
def counted_waits() -> Iterator[list[Wait]]:
    """A list to which each operation is added that would make the host wait, in forward and in backward passes."""
    waits: list[Wait] = []
    with _Functions(waits) as functions, _Operations(waits, functions):
        yield waits


class CountedSteps(TrainerCallback):
    """Counts waits in some steps of a Trainer. On a GPU, torch's own warnings are noted too, as the operation `CUDA`.

    Args:
        device: the type of the Trainer's device.
        after, until: the numbers of the steps after which counting begins and ends.

    Attributes:
        found: one entry for each time that the host waited.
    """

    def __init__(self, device: str, after: int, until: int):
        self.on_gpu, self.after, self.until = device == "cuda", after, until
        self.found: list[Wait] = []
        self._stack = ExitStack()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.after:
            if self.on_gpu:
                self._stack.enter_context(self._warned())
            self.found = self._stack.enter_context(counted_waits())
        elif state.global_step == self.until:
            self._stack.close()

    @contextmanager
    def _warned(self) -> Iterator[None]:
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            yield
            torch.cuda.set_sync_debug_mode("default")
        for warning in found or ():
            if "called a synchronizing" in str(warning.message):
                self.found.append(Wait(CUDA, f"{short(warning.filename)}:{warning.lineno}"))


class _Functions(TorchFunctionMode):
    """Sees calls of torch's functions. On a CPU some of them run no operation at all, such as `.tolist()`."""

    def __init__(self, waits: list[Wait]):
        super().__init__()
        self.waits = waits
        self.counting = False  # the operations of a function that is counted already are not counted again

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", str(func))
        if self.counting or not _waits_as_a_function(name, args, kwargs):
            return func(*args, **kwargs)
        _add(self.waits, name)
        self.counting = True
        try:
            return func(*args, **kwargs)
        finally:
            self.counting = False


class _Operations(TorchDispatchMode):
    """Sees the operations that run, also in the backward pass."""

    def __init__(self, waits: list[Wait], functions: _Functions):
        super().__init__()
        self.waits, self.functions = waits, functions

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        name = func.overloadpacket.__name__
        if not self.functions.counting and _waits_as_an_operation(name, func, args, kwargs, result):
            _add(self.waits, name)
        return result


def _waits_as_a_function(name: str, args: Any, kwargs: dict[str, Any]) -> bool:
    if name in TO_THE_HOST:
        return True
    if name == "to":
        return "cpu" in [value for value in (*args[1:], *kwargs.values()) if isinstance(value, str)]
    if name in FROM_THE_HOST:
        values = args[1] if name == "new_tensor" else args[0]
        return not isinstance(values, Tensor) and (name == "new_tensor" or kwargs.get("device") is not None)
    if name in ("__getitem__", "__setitem__"):
        index = args[1] if isinstance(args[1], tuple) else (args[1],)
        return any(isinstance(item, list | np.ndarray) for item in index)
    return False


def _waits_as_an_operation(name: str, func: Any, args: Any, kwargs: dict[str, Any], result: Any) -> bool:
    if name in READ_BY_THE_HOST:
        return True
    if name in INDEXING:
        return any(isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8) for index in args[1])
    if name == "repeat_interleave":
        return func._overloadname == "Tensor" and kwargs.get("output_size") is None
    if name in COPIES:
        source, target = (args[1], args[0]) if name == "copy_" else (args[0], result)
        blocking = not (args[2] if name == "copy_" and len(args) > 2 else kwargs.get("non_blocking", False))
        moved = source.device != target.device and "meta" not in (source.device.type, target.device.type)
        return moved and (blocking or target.device.type == "cpu")
    return False


def _add(waits: list[Wait], operation: str) -> None:
    frame, place = sys._getframe(1), ""
    while frame is not None:
        file = os.path.abspath(frame.f_code.co_filename)
        if file.startswith(LOADING + os.sep):
            return
        if not place and file != __file__ and not file.startswith(TORCH + os.sep):
            place = f"{short(file)}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    waits.append(Wait(operation, place or "a thread of the backward pass"))


def short(file: str) -> str:
    """The path of a file within this repository or the installed packages."""
    root = next((root for root in (PACKAGES, REPOSITORY) if file.startswith(root + os.sep)), None)
    return file if root is None else os.path.relpath(file, root)
