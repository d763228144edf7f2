"""Images of more than 8 bits: which of their values become black and white, once for all images of a data set."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...data.arguments import DataArguments
from ...data.summary import note

_OUTLIERS = 1000  # one pixel in so many may lie beyond the levels at either end: dead ones of a sensor


class Levels(NamedTuple):
    """The values of a pixel that become black and white; those between become grey in proportion."""

    black: float
    white: float

    def apply(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        """(H, W) grey levels; values beyond are cut off."""
        if self.black == self.white:
            return np.where(values > self.white, 255, 0).astype(np.uint8)
        shares = (values.astype(np.float64) - self.black) / (self.white - self.black)
        return np.round(shares.clip(0, 1) * 255).astype(np.uint8)


def levels_in(values: NDArray[Any]) -> Levels:
    """The smallest and the largest value of one image (H, W), but for its thousandth part at either end.

    Where nothing else differs from the background, these outliers are the picture, and count.
    """
    flat = values.ravel()
    beyond = len(flat) // _OUTLIERS
    ordered = np.partition(flat, (beyond, len(flat) - 1 - beyond))
    black, white = ordered[beyond], ordered[len(flat) - 1 - beyond]
    if black == white:
        black, white = flat.min(), flat.max()
    return Levels(float(black), float(white))


def settle_levels(
    found: Sequence[Levels | None], args: DataArguments, split: str, noun: str, processor: Any
) -> Levels | None:
    """The levels for all images of a data set; `None` if none of them has more than 8 bits.

    They are the flags', else those of an earlier data set, which are saved with the image processor, else the smallest
    and the largest found. They are kept as `black_level` and `white_level` of the processor, so that validation,
    fine-tuning and inference scale as training does.

    Args:
        found: the levels of each image or clip (`levels_in`), `None` for those of 8 bits.
        noun: what each of `found` is, in the singular.
        processor: the image processor; `None` to keep nothing.

    Raises:
        ValueError: white is not above black.
    """
    deep = [levels for levels in found if levels is not None]
    if not deep:
        return None
    smallest, largest = min(levels.black for levels in deep), max(levels.white for levels in deep)
    flags = (args.black_level, args.white_level)
    saved = tuple(getattr(processor, f"{name}_level", None) for name in Levels._fields)
    black, white = (
        next(float(value) for value in values if value is not None)
        for values in zip(flags, saved, (smallest, largest), strict=True)
    )
    levels = Levels(black, white)
    if levels.black > levels.white or (levels.black == levels.white and smallest < largest):
        raise ValueError(
            f"black_level={levels.black:g} is not below white_level={levels.white:g}; the {split} {noun}s have values "
            f"from {smallest:g} to {largest:g}. Give both flags."
        )
    if processor is not None:
        processor.black_level, processor.white_level = levels
    by = "the flags" if None not in flags else "flags, or as found" if any(v is not None for v in flags) else ""
    by = by or ("what is saved with the image processor" if None not in saved else "the smallest and largest of them")
    note(
        split,
        f"{len(deep)} of {len(found)} {noun}s have more than 8 bits per pixel, with values from {smallest:g} to "
        f"{largest:g}: {levels.black:g} becomes black and {levels.white:g} white, by {by}. --black_level and "
        "--white_level choose others.",
    )
    return levels
