"""What is said about data, and what is made of it: between the kinds of data and all that is alike for them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..cli.flags import Chosen
from . import constants
from .constants import KINDS, SIZES, Size
from .device import Device
from .tried import tried_with

_PUBLISHED = ("base", "large")
_LEAST_FOR_PUBLISHED = 16 * 2**30  # bytes of a GPU's memory


@dataclass(frozen=True)
class Look:
    """What the training rows are like, by a look at some of them. Each kind of data adds what matters there.

    Args:
        kind: a key of `KINDS`.
        rows: training rows; None if they are not known, since they are streamed.
        per_row: the amount of data of a row, in the unit of its kind.
    """

    kind: str
    rows: int | None
    per_row: float


@dataclass(frozen=True)
class Plan:
    """An encoder for the data, and what it reads.

    Args:
        overrides: of the configuration of the encoder, in place of those of the recipe.
        reason: why these.
        settings: by flag, what else was chosen. Masks among them come before those of the recipe.
        samples: that an epoch has; None of streams.
        positions: of a usual sample that the encoder reads, in each of `sequences`.
        longest: of the longest samples, which decide about memory; None if all have as many.
        axes: along which masks and the decoder's convolutions extend.
        sequences: as in `Work`, and so are the two below.
        seconds, convolutions: of sound.
        width: of the encoder, where it is not that of its size.
    """

    overrides: Mapping[str, Any]
    reason: str
    settings: Mapping[str, Chosen]
    samples: int | None
    positions: int
    axes: int = 1
    sequences: int = 1
    seconds: float = 0.0
    convolutions: int = 0
    width: int | None = None
    longest: int | None = None


@dataclass(frozen=True)
class Scale:
    """How large an encoder is chosen.

    Args:
        name: a key of `SIZES`.
        reason: in words.
    """

    name: str
    reason: str

    @property
    def size(self) -> Size:
        return SIZES[self.name]

    @property
    def is_published(self) -> bool:
        """Whether it is a size that the papers' settings are for."""
        return self.name in _PUBLISHED

    def __str__(self) -> str:
        return f"{self.size.blocks} blocks of {self.size.width}"


def scale_for(look: Look, device: Device, given: Mapping[str, Any]) -> Scale:
    """The size of the encoder, by the amount of data and the device.

    Args:
        look: at the data.
        device: what the run computes on.
        given: the flags that were given, by name. Of a stream, `max_steps` is among them.
    """
    kind = KINDS[look.kind]
    if device.is_cpu:
        name = "small" if device.threads * device.processes >= constants.CORES_FOR_SMALL else "tiny"
        return Scale(name, f"so that a run on {device} ends in about half an hour")
    rows = given["max_steps"] * tried_with(look.kind, "tiny").batch if look.rows is None else look.rows
    amount = rows * look.per_row
    allowed = [name for name in ("tiny", *kind.thresholds) if _runs(name, device)]
    name = [size for size in allowed if amount >= kind.thresholds.get(size, 0)][-1]
    about = "that the stream gives at least" if look.rows is None else "that there are"
    return Scale(name, f"for the {in_words(amount)} {kind.unit} {about}, on {device}")


def _runs(name: str, device: Device) -> bool:
    if name not in _PUBLISHED:
        return True
    fast = device.capability is not None and device.memory >= _LEAST_FOR_PUBLISHED
    return fast and (name != "large" or device.processes >= constants.LARGE_NEEDS)


def in_words(number: float) -> str:
    """A number as it stands in a reason: two significant digits, or all of a small whole number."""
    if number >= 100 or number == int(number):
        return f"{round(number, 1 - math.floor(math.log10(number))) if number >= 10_000 else round(number):,.0f}"
    return f"{number:.2g}"


def blocks_of(scale: Scale) -> dict[str, int]:
    """The fields of most configurations for an encoder's size."""
    size = scale.size
    return {
        "hidden_size": size.width,
        "num_hidden_layers": size.blocks,
        "num_attention_heads": size.heads,
        "intermediate_size": 4 * size.width,
    }
