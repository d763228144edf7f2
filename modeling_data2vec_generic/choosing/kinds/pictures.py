"""The sizes of pictures, by the headers of their files, and the patches that they are cut into."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import PIL.Image

from ...cli.flags import Chosen
from ...data.kinds_of_data import IMAGE_FORMATS
from ...data.quality.reading import Unreadable, readable
from ...modalities.vision.arrays.files import open_array
from ...modalities.vision.images import image_file
from ..plan import Scale

_GREY = ("1", "L", "LA", "I", "I;16", "F")  # modes of Pillow
_LARGEST = {"tiny": 96, "small": 160}  # pixels of a side that encoders of these sizes read; of all others 224
_LARGEST_OTHERS = 224
_GRID = {"tiny": 8}  # patches along a side at most; of other sizes 16, and 14 of the published ones
_GRID_OTHERS, _GRID_PUBLISHED = 16, 14
_SMALLEST_PATCH = 2
_SMALL = 32  # pixels of a side: pictures of one thing that fills them, such as digits and garments
_FEW_PATCHES = 6  # along a side, below which blocks of masks would leave little choice


@dataclass(frozen=True)
class Sizes:
    """How large pictures are.

    Args:
        side: the median of their shorter sides, in pixels.
        smallest, largest: the shortest and the longest side of any.
        is_grey: whether all of them are grey.
    """

    side: int
    smallest: int
    largest: int
    is_grey: bool

    def __str__(self) -> str:
        if self.smallest == self.largest:
            return f"pictures are {self.side} x {self.side} pixels"
        return f"the shorter side of pictures is mostly {self.side} pixels (sides: {self.smallest} to {self.largest})"


def sizes_of(values: Sequence[dict[str, Any] | None]) -> Sizes:
    """The sizes of encoded pictures, of which only headers are read. Those that cannot be read are left out.

    Raises:
        ValueError: none can be read.
    """
    seen = [readable(_header, value) for value in values]
    found = [size for size in seen if not isinstance(size, Unreadable)]
    if not found:
        raise ValueError(
            f"No settings can be chosen: none of the {len(seen)} pictures that were looked at can be read (the first "
            f"one: {seen[0]}). Repair them or choose other data."
        )
    sides = [side for *size, _ in found for side in size]
    return Sizes(
        side=round(median(min(width, height) for width, height, _ in found)),
        smallest=min(sides),
        largest=max(sides),
        is_grey=all(grey for *_, grey in found),
    )


def _header(value: dict[str, Any] | None) -> tuple[int, int, bool]:
    """Two sides of a picture, and whether it is grey."""
    file = image_file(value)
    if (stored := open_array(file, None)) is not None:
        return *stored.size, stored.channels == 1
    with PIL.Image.open(file, formats=IMAGE_FORMATS) as image:
        return *image.size, image.mode in _GREY


@dataclass(frozen=True)
class Patches:
    """Square pictures and their patches, in pixels."""

    side: int
    patch: int

    @property
    def grid(self) -> int:
        """Patches along a side."""
        return self.side // self.patch


def patches_for(sizes: Sizes, scale: Scale) -> Patches:
    """How pictures are read: as large as they mostly are, in as many patches as an encoder of this size bears."""
    side = max(2 * _SMALLEST_PATCH, min(sizes.side, _LARGEST.get(scale.name, _LARGEST_OTHERS)))
    most = _GRID_PUBLISHED if scale.is_published else _GRID.get(scale.name, _GRID_OTHERS)
    least = max(_SMALLEST_PATCH, math.ceil(side / most))
    fitting = [patch for patch in range(least, least + least // 2 + 1) if side % patch == 0]
    patch = fitting[0] if fitting else least
    return Patches(side=round(side / patch) * patch, patch=patch)


def about_patches(sizes: Sizes, patches: Patches) -> str:
    """Why pictures are read so, in words."""
    shrunk = f", of which {patches.side} x {patches.side} are read, which is quicker" * (sizes.side > patches.side)
    return (
        f"{sizes}{shrunk}; patches of {patches.patch} x {patches.patch} make {patches.grid} x {patches.grid} positions"
    )


def crops_for(sizes: Sizes) -> dict[str, Chosen]:
    """Crops and flips, where the usual ones would do harm."""
    if sizes.side > _SMALL:
        return {}
    chosen = {
        "crop_scale_min": Chosen(0.6, "small pictures mostly show one thing that fills them, so crops are careful")
    }
    if sizes.is_grey:
        chosen["horizontal_flip"] = Chosen(
            False, "small grey pictures are often digits or signs, which mean something else when mirrored"
        )
    return chosen


def masks_for(patches: Patches) -> dict[str, Chosen]:
    """Masks, where a grid is too small for blocks."""
    if patches.grid >= _FEW_PATCHES:
        return {}
    few = f"a grid of {patches.grid} x {patches.grid} patches is too small for blocks"
    return {"mask_strategy": Chosen("random", few), "mask_ratio": Chosen(0.6, "that of digits.json")}


def first_files(values: Iterable[Any]) -> list[Any]:
    """The first picture of each clip; None of an empty one."""
    return [clip[0] if clip else None for clip in values]
