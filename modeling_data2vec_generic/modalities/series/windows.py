"""Time series: check every one before training, and cut them into windows of the length that the encoder reads."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow
import pyarrow.compute
from datasets import Array2D, Dataset, Features, Value
from numpy.typing import NDArray

from ...data.arguments import DataArguments
from ...data.screening import good_rows
from ..window_counts import count_windows

_LONGEST_DEFAULT = 512
_BATCH = 100  # series that are in memory at a time
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
    cut = (
        raw.select(good)
        .with_format("arrow")
        .map(
            _windows,
            batched=True,
            batch_size=_BATCH,
            fn_kwargs={"length": length},
            remove_columns=raw.column_names,
            features=Features(features | labels),
            num_proc=args.preprocessing_num_workers,
            desc=f"Cutting {split} series",
        )
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


def series_of(column: pyarrow.ChunkedArray) -> Iterator[NDArray[np.float32] | None]:
    """(T, channels) float32 of each row: of T numbers, or of T lists with a number per channel.

    A value that is missing is NaN, a row that is missing is empty; None stands for one that has not the same number of
    channels at each time. Numbers are never made Python's, which take several times the memory and the time.
    """
    for chunk in column.chunks:
        rows = chunk.storage if isinstance(chunk, pyarrow.ExtensionArray) else chunk
        ends = _lengths(rows).cumsum()
        times = rows.flatten()
        if pyarrow.types.is_floating(times.type) or pyarrow.types.is_integer(times.type):
            for series in np.split(_numbers(times), ends[:-1]):
                yield series[:, None]
            continue
        channels, numbers = _lengths(times), _numbers(times.flatten())
        offsets = np.concatenate([[0], channels.cumsum()])
        missing = times.is_null().to_numpy(zero_copy_only=False)
        for start, end in zip([0, *ends[:-1]], ends, strict=True):
            wide = channels[start:end]
            if (wide != wide[:1]).any() or missing[start:end].any():
                yield None
            else:
                yield numbers[offsets[start] : offsets[end]].reshape(len(wide), wide[0] if len(wide) else 1)


def _lengths(lists: pyarrow.Array) -> NDArray[np.int64]:
    """Of each list; 0 of one that is missing."""
    return pyarrow.compute.list_value_length(lists).fill_null(0).to_numpy().astype(np.int64)


def _numbers(values: pyarrow.Array) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is found as such
        return values.cast("float64", safe=False).to_numpy(zero_copy_only=False).astype(np.float32)


def _windows(batch: pyarrow.Table, length: int) -> dict[str, Any]:
    parts = []
    for series in series_of(batch["series"]):
        assert series is not None  # `_report` has found these
        count = len(series) // length
        parts.append(series[: count * length].reshape(count, length, -1))
    cut: dict[str, Any] = {"series": np.concatenate(parts)}
    for name, column in (("row", "sample_index"), ("label", "label")):
        if column in batch.column_names:
            values = zip(batch[column].to_pylist(), parts, strict=True)
            cut[name] = [value for value, windows in values for _ in windows]
    return cut


def _report(raw: Dataset, args: DataArguments, split: str) -> Dataset:
    """What is wrong with each series ("" if nothing), its length and its number of channels."""
    report = raw.with_format("arrow").map(
        _inspect,
        batched=True,
        batch_size=_BATCH,
        input_columns="series",
        remove_columns=raw.column_names,
        features=Features({"problem": Value("string"), "length": Value("int64"), "channels": Value("int64")}),
        num_proc=args.preprocessing_num_workers,
        desc=f"Checking {split} series",
    )
    return report.with_format(None)


def _inspect(column: pyarrow.ChunkedArray) -> dict[str, list[Any]]:
    found = [(_problem(series), (0, 0) if series is None else series.shape) for series in series_of(column)]
    return {
        "problem": [problem for problem, _ in found],
        "length": [shape[0] for _, shape in found],
        "channels": [shape[1] for _, shape in found],
    }


def _problem(series: NDArray[np.float32] | None) -> str:
    if series is None:
        return "not the same number of channels at each time"
    if not series.size:
        return "no values"
    bad = int((~(np.abs(series) <= _LARGEST)).sum())  # nor is NaN
    return f"{bad} of {series.size} values missing, not finite or beyond 1e18" if bad else ""


def _misfit(found: tuple[int, int], wanted: tuple[int, int]) -> str:
    if found[1] != wanted[1]:
        return f"{found[1]} channels, the encoder reads {wanted[1]}"
    return f"too short ({found[0]} values, the encoder reads {wanted[0]})" if found[0] < wanted[0] else ""
