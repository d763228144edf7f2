"""What is kept of an optimizer step on its device until it is known whether the step met NaN or infinity."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import datasets
import torch
from torch import Tensor, nn

SAMPLE_INDEX = "sample_index"


@dataclass
class MicroBatch:
    """What is noted of one forward and backward pass; nothing keeps the batch itself in memory.

    Args:
        samples: (B,) `sample_index`, if known.
        sums: for each floating-point input, (B,): the sum of each sample, which is finite if its values are.
        loss: scalar.
    """

    samples: Tensor | None
    sums: list[Tensor]
    loss: Tensor

    @classmethod
    def noted(cls, inputs: Mapping[str, Any], samples: Tensor | None, loss: Tensor) -> "MicroBatch":
        """Note a batch without waiting for the device.

        A sum reads each value once and writes nothing else. In float32 no sum of what a model can read overflows.
        """
        floats = [value for value in inputs.values() if isinstance(value, Tensor) and value.is_floating_point()]
        sums = [value.reshape(len(value), -1).sum(1, dtype=torch.float32) for value in floats]
        return cls(samples, sums, loss)

    def values(self) -> Tensor:
        """(N,): all of them are finite if all inputs and the loss are."""
        return torch.cat([*self.sums, self.loss.reshape(1)])

    def suspects(self) -> tuple[str, list[int] | None]:
        """Where the first NaN or infinity is, "" if not in this batch, and the `sample_index` of its samples."""
        bad = [~sums.isfinite() for sums in self.sums]
        if bad and torch.cat(bad).any():
            of_samples = torch.stack(bad).any(0)
            return "input", None if self.samples is None else self.samples[of_samples].tolist()
        return "" if self.loss.isfinite() else "loss", self.all_samples()

    def all_samples(self) -> list[int] | None:
        return None if self.samples is None else self.samples.tolist()


class KeptBuffers:
    """The buffers of a module as they were before a step, such as the statistics of batch norm.

    Those that are not saved with the module hold constants, which no step moves.
    """

    def __init__(self, module: nn.Module):
        saved = module.state_dict().keys() & {name for name, _ in module.named_buffers()}
        paths = [name.rpartition(".") for name in sorted(saved)]
        self._places = [(module.get_submodule(owner), name) for owner, _, name in paths]

    def keep(self) -> None:
        """Keep the present values."""
        self._kept = [_packed(buffers) for buffers in self._by_type()]

    def put_back(self, flag: Tensor) -> None:
        """Where the flag, a bool on the device, is True, give the buffers the values that were kept."""
        for buffers, kept in zip(self._by_type(), self._kept, strict=True):
            parts = torch.where(flag, kept, _packed(buffers)).split([buffer.numel() for buffer in buffers])
            torch._foreach_copy_(buffers, [part.view_as(buffer) for part, buffer in zip(parts, buffers, strict=True)])

    def _by_type(self) -> list[list[Tensor]]:
        groups: dict[Any, list[Tensor]] = defaultdict(list)
        for owner, name in self._places:
            buffer = getattr(owner, name)
            groups[buffer.dtype, buffer.device].append(buffer)
        return list(groups.values())


def file_of(dataset: Any, sample: int) -> str:
    """Path of the file that a sample was read from, "" where the data set does not say."""
    if not isinstance(dataset, datasets.Dataset) or SAMPLE_INDEX not in dataset.column_names:
        return ""
    rows = dataset.with_format(None)
    position = bisect_left(rows[SAMPLE_INDEX], sample)  # ascending, and read only where it is compared
    row = rows[position] if position < len(rows) else {}
    if row.get(SAMPLE_INDEX) != sample:
        return ""
    paths = [value["path"] for value in row.values() if isinstance(value, dict) and value.get("path")]
    return paths[0] if paths else ""


def _packed(buffers: list[Tensor]) -> Tensor:
    """All values of buffers of one type in one tensor: one kernel for any number of them."""
    return torch.cat([buffer.reshape(-1) for buffer in buffers])
