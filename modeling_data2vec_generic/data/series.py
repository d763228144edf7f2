"""Time series: check every one before training, and cut them into windows of the length that the encoder reads."""

from collections import Counter
from typing import Any

import numpy as np
from datasets import Array2D, Dataset, Features, Value

from .arguments import DataArguments
from .screening import good_rows
from .windows import count_windows

_LONGEST_DEFAULT = 512
_LARGEST = 1e18  # encoders scale by the spread, for which values are squared: float32 holds up to 3e38


def prepare_series(raw: Dataset, args: DataArguments, split: str, length: int, channels: int) -> Dataset:
    """Map-style dataset of `series` (float32 (length, channels)), `sample_index`, `row` (the `sample_index` of the
    series that it is a window of) and, if `raw` has it, `label`.

    `raw` as load_raw_datasets gives it. Values stay as they are: scaling is the encoder's. Series longer than `length`
    become consecutive windows of it, each with the series' label; a rest at the end is dropped. Series that are
    shorter, have another number of channels or hold values that are missing or not finite are left out as bad (see
    `good_rows`).
    """
    report = _report(raw, args, split)
    shapes = list(zip(report["length"][:], report["channels"][:], strict=True))
    problems = [
        problem or _misfit(found, (length, channels))
        for problem, found in zip(report["problem"][:], shapes, strict=True)
    ]
    good = good_rows(
        problems,
        raw,
        noun="row",
        split=split,
        max_bad_fraction=args.max_bad_fraction,
    )
    count_windows(np.array([shapes[position][0] for position in good]), length, noun="series", split=split)
    # Kept as windows rather than cut on access: a window of a long series must not cost reading all of it.
    features = Features({"series": Array2D((length, channels), "float32"), "row": Value("int64")})
    labels = {"label": raw.features["label"]} if "label" in raw.features else {}
    cut = raw.select(good).map(
        _windows,
        batched=True,
        batch_size=100,
        fn_kwargs={"length": length},
        remove_columns=raw.column_names,
        features=Features(features | labels),
        num_proc=args.preprocessing_num_workers,
        desc=f"Cutting {split} series",
    )
    cut = cut.add_column("sample_index", np.arange(len(cut)))
    return cut.with_format("numpy", columns=["series"], output_all_columns=True)


def usual_shape(raw: Dataset, args: DataArguments) -> tuple[int, int] | None:
    """(length, channels) that a new encoder of these training data should read; `None` if every series is bad.

    The length of the shortest series among those with the usual number of channels, so that each of them has a window,
    and 512 at most.
    """
    report = _report(raw, args, "train")
    found = zip(report["problem"][:], report["length"][:], report["channels"][:], strict=True)
    shapes = [(length, channels) for problem, length, channels in found if not problem]
    if not shapes:
        return None
    usual = Counter(channels for _, channels in shapes).most_common(1)[0][0]
    return min(_LONGEST_DEFAULT, *(length for length, channels in shapes if channels == usual)), usual


def as_channels(values: Any) -> np.ndarray:
    """(T, channels) float32 from T numbers or from T lists with a number per channel; `None` becomes NaN."""
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is found as such
        series = np.asarray(values, dtype=np.float64).astype(np.float32)
    return series[:, None] if series.ndim == 1 else series


def _windows(batch: dict[str, list[Any]], length: int) -> dict[str, list[Any]]:
    parts = []
    for values in batch["series"]:
        series = as_channels(values)
        count = len(series) // length
        parts.append(series[: count * length].reshape(count, length, -1))
    cut: dict[str, list[Any]] = {"series": [window for windows in parts for window in windows]}
    for name, column in (("row", "sample_index"), ("label", "label")):
        if column in batch:
            cut[name] = [value for value, windows in zip(batch[column], parts, strict=True) for _ in windows]
    return cut


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
    try:
        series = as_channels([] if values is None else values)
    except (TypeError, ValueError):  # numpy's, for lists of different lengths or one that is missing
        return {"problem": "not the same number of channels at each time", "length": 0, "channels": 0}
    bad = int((~(np.abs(series) <= _LARGEST)).sum())  # nor is NaN
    problem = (
        f"{bad} of {series.size} values missing, not finite or beyond 1e18"
        if bad
        else ""
        if series.size
        else "no values"
    )
    return {"problem": problem, "length": len(series), "channels": series.shape[1]}


def _misfit(found: tuple[int, int], wanted: tuple[int, int]) -> str:
    if found[1] != wanted[1]:
        return f"{found[1]} channels, the encoder reads {wanted[1]}"
    return f"too short ({found[0]} values, the encoder reads {wanted[0]})" if found[0] < wanted[0] else ""
