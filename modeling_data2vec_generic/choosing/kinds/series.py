"""Time series: the patches that they are cut into."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import Dataset

from ...cli.flags import Chosen
from ...data.arguments import DataArguments
from ...data.quality.reading import Unreadable
from ...data.quality.screening import some_rows
from ...modalities.series.windows import series_of, usual_shape
from ..plan import Look, Plan, Scale
from ..tried import Tried

_WIDTH_SHARE = 2  # encoders of series are half as wide as others of the same size
_POSITIONS = {"tiny": 50}  # in each channel, about; of other sizes 64
_POSITIONS_OTHERS = 64
_FEWEST_POSITIONS = 8
_SPANS = {32: 4, 12: 2}  # by the least number of positions, the length of masked blocks; below, single positions


@dataclass(frozen=True)
class Windows(Look):
    """A look at series.

    Args:
        length, channels: of the windows that the encoder reads.
    """

    length: int
    channels: int


def look(raw: Dataset, rows: int | None, args: DataArguments) -> Windows:
    shape = usual_shape(raw, args)
    if shape is None:
        raise ValueError(
            f"No settings can be chosen: none of the {len(raw)} series can be used. Look for missing values and for "
            "rows without values."
        )
    length, channels = shape
    found = series_of(some_rows(raw).with_format("arrow")["series"][:], channels)
    counts = [len(series) // length for series in found if not isinstance(series, Unreadable)]
    return Windows("series", rows, max(1.0, float(np.mean(counts))), length, channels)


def plan(seen: Windows, scale: Scale, tried: Tried, given: Mapping[str, Any]) -> Plan:
    wanted = _POSITIONS.get(scale.name, _POSITIONS_OTHERS)
    patch = max(1, min(round(seen.length / wanted), seen.length // _FEWEST_POSITIONS))
    # A length near to it that leaves no remainder, which PatchTST would not read.
    near = [size for size in range(max(1, patch - patch // 4), patch + patch // 4 + 1) if seen.length % size == 0]
    patch = min(near, key=lambda size: abs(size - patch)) if near else patch
    positions = seen.length // patch
    size = scale.size
    width = size.width // _WIDTH_SHARE
    overrides = {
        "d_model": width,
        "num_hidden_layers": size.blocks,
        "num_attention_heads": size.heads,
        "ffn_dim": 4 * width,
        "patch_length": patch,
        "patch_stride": patch,
    }
    channels = f" in each of {seen.channels} channels" if seen.channels > 1 else ""
    span = next((length for least, length in _SPANS.items() if positions >= least), 1)
    settings = {"decoder_dim": Chosen(width, "as wide as the encoder")}
    if span > 1:
        settings["mask_length"] = Chosen(span, f"blocks of {span} of {positions} positions leave some to see")
    else:
        settings["mask_strategy"] = Chosen("random", f"{positions} positions are too few for blocks")
    samples = None if seen.rows is None else round(seen.rows * seen.per_row)
    return Plan(
        overrides=overrides,
        reason=f"windows of {seen.length} values, as long as the shortest series or 512; patches of {patch} make "
        f"{positions} positions{channels}; {size.blocks} blocks of {width}, {scale.reason}",
        settings=settings,
        samples=samples,
        positions=positions,
        sequences=seen.channels,
        width=width,
    )
