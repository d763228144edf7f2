"""Time series: check every one before training, and cut long ones into windows of the encoder's length."""

from collections import Counter
from typing import Any

import numpy as np
from datasets import Dataset, Features, Value

from .arguments import DataArguments
from .screening import good_rows
from .windows import windows


def prepare_series(raw: Dataset, args: DataArguments, split: str, length: int, channels: int) -> Dataset:
    """Map-style dataset of `series` (float32 (length, channels), read on access), `sample_index` and, if `raw` has
    it, `label`.

    `raw` as load_raw_datasets gives it. Values stay as they are: scaling is the encoder's. Series longer than `length`
    become consecutive windows of it, each with the series' label; a rest at the end is dropped. Series that are
    shorter, have another number of channels or hold values that are missing or not finite are left out as bad (see
    `good_rows`).
    """
    report = _report(raw, args, split)
    problems = [
        problem or _misfit(found_length, found_channels, length, channels)
        for problem, found_length, found_channels in zip(
            report["problem"][:], report["length"][:], report["channels"][:], strict=True
        )
    ]
    good = good_rows(
        problems,
        lambda position: f"row {raw[position]['sample_index']}",
        noun="series",
        split=split,
        max_bad_fraction=args.max_bad_fraction,
    )
    pieces = windows(raw, good, np.array(report["length"][:]), length, noun="series", split=split)
    return pieces.with_transform(WindowReader(raw.select_columns("series"), length))


def usual_shape(raw: Dataset, args: DataArguments) -> tuple[int, int] | None:
    """(length, channels) that an encoder of these training data should read; `None` if every series is bad.

    Of the series with the usual number of channels the shortest one's length: each of them then has a window.
    """
    report = _report(raw, args, "train")
    shapes = [
        (length, channels)
        for problem, length, channels in zip(
            report["problem"][:], report["length"][:], report["channels"][:], strict=True
        )
        if not problem
    ]
    if not shapes:
        return None
    usual = Counter(channels for _, channels in shapes).most_common(1)[0][0]
    return min(length for length, channels in shapes if channels == usual), usual


class WindowReader:
    """Transform of a dataset of windows (row, start) into one of `series`, read from the rows of `source`."""

    def __init__(self, source: Dataset, length: int) -> None:
        self.source = source
        self.length = length

    def __call__(self, batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        if not {"row", "start"} <= batch.keys():  # other columns were selected
            return batch
        places = zip(batch.pop("row"), batch.pop("start"), strict=True)
        batch["series"] = [
            as_channels(self.source[row]["series"])[start : start + self.length] for row, start in places
        ]
        return batch


def as_channels(values: Any) -> np.ndarray:
    """(T, channels) float32 from T numbers or from T lists with a number per channel; `None` becomes NaN."""
    series = np.asarray(values, dtype=np.float32)
    return series[:, None] if series.ndim == 1 else series


def _report(raw: Dataset, args: DataArguments, split: str) -> Dataset:
    """What is wrong with each series ("" if nothing), its length and its number of channels."""
    return raw.map(
        _inspect,
        input_columns="series",
        remove_columns=raw.column_names,
        features=Features({"problem": Value("string"), "length": Value("int64"), "channels": Value("int64")}),
        num_proc=args.preprocessing_num_workers,
        desc=f"Checking {split} series",
    )


def _inspect(values: Any) -> dict[str, Any]:
    nothing = {"length": 0, "channels": 0}
    if not values:
        return {"problem": "no values", **nothing}
    try:
        series = as_channels(values)
    except (TypeError, ValueError):  # numpy's, for lists of different lengths or a list that is missing
        return {"problem": "not the same number of channels at each time", **nothing}
    bad = int((~np.isfinite(series)).sum())
    problem = f"{bad} of {series.size} values missing or not finite" if bad else ""
    return {"problem": problem, "length": len(series), "channels": series.shape[1]}


def _misfit(found_length: int, found_channels: int, length: int, channels: int) -> str:
    if found_channels != channels:
        return f"{found_channels} channels, the encoder reads {channels}"
    return f"too short ({found_length} values, the encoder reads {length})" if found_length < length else ""
