"""Images: how large they are read, and in which patches."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from datasets import Dataset

from ...data.arguments import DataArguments
from ...data.quality.screening import some_rows
from ..plan import Look, Plan, Scale, blocks_of
from ..tried import Tried
from .pictures import Sizes, about_patches, crops_for, masks_for, patches_for, sizes_of


@dataclass(frozen=True)
class Images(Look):
    """A look at images; `sizes`: how large they are."""

    sizes: Sizes


def look(raw: Dataset, rows: int | None, args: DataArguments) -> Images:
    return Images("vision", rows, 1.0, sizes_of(some_rows(raw)["image"]))


def plan(seen: Images, scale: Scale, tried: Tried, given: Mapping[str, Any]) -> Plan:
    patches = patches_for(seen.sizes, scale)
    return Plan(
        overrides={"image_size": patches.side, "patch_size": patches.patch, **blocks_of(scale)},
        reason=f"{about_patches(seen.sizes, patches)}; {scale}, {scale.reason}",
        settings={**crops_for(seen.sizes), **masks_for(patches)},
        samples=seen.rows,
        positions=patches.grid**2,
        axes=2,
    )
