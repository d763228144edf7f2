"""How time, memory and operations of a step grow with one property of the encoder, its input or its masks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import linregress

from ...cases import OBJECTIVES, Case
from ...device import Device
from .contenders import MAE, changed
from .measuring import Cost, costs

PATCH = 16
HEAD = 32  # channels of a head of attention


@dataclass(frozen=True)
class Growth:
    """One property that is varied, all else being `BASE`.

    Args:
        name: the property, in words.
        values: what it takes.
        case: the case at a value.
        contenders: those to whom it means something.
    """

    name: str
    values: tuple[float, ...]
    case: Callable[[Case, float], Case]
    contenders: tuple[str, ...] = (*OBJECTIVES, MAE)


@dataclass(frozen=True)
class Fit:
    """y = c · x ^ exponent, by least squares of the logarithms.

    Args:
        exponent: its value.
        error: its standard error.
    """

    exponent: float
    error: float


def fit(x: Sequence[float], y: Sequence[float]) -> Fit:
    """The exponent by which y, one value or more per value of x, grows with x."""
    line = linregress(np.log(x), np.log(y))
    return Fit(float(line.slope), float(line.stderr))


def base(device: Device) -> Case:
    """A ViT on 196 patches."""
    batch_size = 1 if device.type == "cpu" else 16
    case = Case("vision", "vit", "small", 14 * PATCH, batch_size, batch_size, num_masks=4)
    return _blocks(changed(case, image_size=14 * PATCH, patch_size=PATCH), depth=6, width=192)


def _blocks(case: Case, depth: int, width: int) -> Case:
    return changed(
        case,
        num_hidden_layers=depth,
        hidden_size=width,
        num_attention_heads=width // HEAD,
        intermediate_size=4 * width,
    )


def _longer(case: Case, length: float) -> Case:
    side = round(length**0.5) * PATCH
    return replace(changed(case, image_size=side), length=side)


GROWTHS = (
    Growth("positions", (196, 400, 1024), _longer),
    Growth("masks", (1, 2, 4, 8, 16), lambda case, masks: replace(case, num_masks=int(masks)), ("data2vec2",)),
    Growth(
        "visible share",
        (0.1, 0.2, 0.4, 0.8),
        lambda case, visible: replace(case, mask_ratio=1 - visible),
        ("data2vec2", MAE),
    ),
    Growth("blocks", (3, 6, 12), lambda case, depth: _blocks(case, int(depth), 192)),
    Growth("width", (96, 192, 384), lambda case, width: _blocks(case, 6, int(width))),
    Growth("samples", (1, 2, 4), lambda case, samples: replace(case, batch_size=int(samples))),
)


def growth_costs(growth: Growth, start: Case, repeats: int, device: Device) -> dict[tuple[str, float], Cost]:
    """The cost by contender and value of the property; all of them take turns."""
    points = {
        (name, value): (name, growth.case(start, value)) for name in growth.contenders for value in growth.values
    }
    return costs(points, repeats, device)
