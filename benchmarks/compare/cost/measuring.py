"""Time, memory and operations of training steps that take turns in one process."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import TypeVar

from ...cases import Case
from ...device import MIB, Device, operations
from ...memory import most_allocated
from ...timing import GROUP
from .contenders import Training, training

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Cost:
    """What one optimizer step costs.

    Args:
        samples, masks, hidden: as in `Training`.
        rounds: seconds of a step, one entry per round; on a CPU, those of the process.
        peak: the most memory of a step in MiB: weights, those of a teacher included, gradients, AdamW's moments and
            activations.
        activations: the most that the forward pass takes of it, in MiB.
        operations: floating-point operations.
    """

    samples: int
    masks: int
    hidden: float
    rounds: tuple[float, ...]
    peak: float
    activations: float
    operations: int

    @property
    def seconds(self) -> float:
        return median(self.rounds)

    def ratio(self, other: "Cost") -> float:
        """The median over rounds of this cost's seconds by those of `other` in the same round."""
        return median(own / others for own, others in zip(self.rounds, other.rounds, strict=True))


def costs(points: Mapping[Key, tuple[str, Case]], repeats: int, device: Device) -> dict[Key, Cost]:
    """Measures steps of a contender on a case, for each of `points`.

    Memory is measured when a contender is built. Then all take steps in turns, on a GPU some at a time. The first
    round is not counted.
    """
    built = {key: _built(name, case, device) for key, (name, case) in points.items()}
    rounds: dict[Key, list[float]] = {key: [] for key in points}
    group = GROUP[device.type]
    for _ in range(repeats + 1):
        for key, (work, *_) in built.items():
            began = device.clock()
            for _ in range(group):
                work.step()
            rounds[key].append((device.clock() - began) / group)
    return {
        key: Cost(work.samples, work.masks, work.hidden, tuple(rounds[key][1:]), *measured)
        for key, (work, *measured) in built.items()
    }


def _built(name: str, case: Case, device: Device) -> tuple[Training, float, float, int]:
    """A contender, the peak memory of its step and that of its forward pass in MiB, and the operations of a step."""
    work = training(name, case, device)

    def two_steps() -> None:  # the first one makes the optimizer's moments
        work.step()
        work.step()

    peak = most_allocated(two_steps, device) + 4 * work.weights / MIB
    return work, peak, most_allocated(work.forward, device), operations(work.step)
