"""Images with more than 8 bits: which values become black and white, the same for all images of a dataset."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...data.arguments import DataArguments
from ...data.summary import note

_OUTLIERS = 1000  # at either end, one pixel in so many may be an outlier, such as dead pixels of a sensor


class Levels(NamedTuple):
    """The values of a pixel that become black and white. Values between them become grey in proportion."""

    black: float
    white: float

    def apply(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        """The grey values of an image (H, W), uint8. Values beyond the levels are clipped."""
        if self.black == self.white:
            return np.where(values > self.white, 255, 0).astype(np.uint8)
        shares = (values.astype(np.float64) - self.black) / (self.white - self.black)
        return np.round(shares.clip(0, 1) * 255).astype(np.uint8)


def levels_in(values: NDArray[Any]) -> Levels:
    """The smallest and the largest value of one image (H, W), without a thousandth of the pixels at either end.

    If all other pixels have the same value, the outliers count too, since they are then the content of the image.
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
    """Chooses the levels for all images of a dataset.

    They are given by the flags, else by an earlier dataset whose levels are saved with the image processor, else they
    are the smallest and the largest in `found`. They are stored as `black_level` and `white_level` of the processor,
    so that validation, fine-tuning and inference scale images as training does.

    Args:
        found: the levels of each image or clip (`levels_in`); None for those with 8 bits. Without any, as of a window
            of a stream, they are those that are saved.
        args: the flags.
        split: the split, for messages.
        noun: what each of `found` is, in the singular.
        processor: the image processor; None to store nothing.

    Returns:
        None if no image has more than 8 bits.

    Raises:
        ValueError: white is not above black.
    """
    saved: Any = tuple(getattr(processor, f"{name}_level", None) for name in Levels._fields)
    if not found and None not in saved:
        return Levels(*map(float, saved))
    deep = [levels for levels in found if levels is not None]
    if not deep:
        return None
    smallest, largest = min(levels.black for levels in deep), max(levels.white for levels in deep)
    flags = (args.black_level, args.white_level)
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
