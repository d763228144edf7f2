"""Checks all time series before training, and cuts them into windows of the length that the encoder reads."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow
import pyarrow.compute
from datasets import Array2D, Dataset, Features, Value
from numpy.typing import NDArray

from ...data.arguments import DataArguments
from ...data.column_types import holds_files
from ...data.encoded_files import encoded_file
from ...data.quality.processes import processes_for
from ...data.quality.reading import Unreadable, readable
from ...data.quality.screening import good_rows
from ..numpy_files import open_numpy
from ..window_counts import count_windows

_LONGEST_DEFAULT = 512  # values that a new encoder reads at most, unless the user sets more
_BATCH = 100  # series that are in memory at a time
_LARGEST = 1e18  # encoders square values to scale them, and float32 holds up to 3e38


def prepare_series(raw: Dataset, args: DataArguments, split: str, length: int, channels: int) -> Dataset:
    """Checks series and cuts them into consecutive windows. Values are not scaled, which the encoder does.

    Each window has the label of its series. The remainder at the end of a series is dropped. Series that are shorter
    than a window, have another number of channels, or hold values that are missing or not finite, and files that
    cannot be read, are bad rows (see `good_rows`).

    Args:
        raw: the rows, as `load_raw_datasets` gives them.
        args: the flags.
        split: the split, for messages.
        length: values in a window.
        channels: channels that the encoder reads.

    Returns:
        A map-style dataset of `series` (float32 (length, channels)), `sample_index`, `row` (the `sample_index` of the
        whole series) and, if `raw` has it, `label`.

    Raises:
        ValueError: too many rows are bad, or none is left.
    """
    report = _report(raw, args, split, channels)
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
        column="series" if holds_files(raw.features["series"]) else None,
    )
    count_windows(np.array([shapes[position][0] for position in good]), length, noun="series", split=split)
    # Windows are stored and not cut on access, since reading a window must not mean reading all of a long series.
    features = Features({"series": Array2D((length, channels), "float32"), "row": Value("int64")})
    labels = {"label": raw.features["label"]} if "label" in raw.features else {}
    cut = (
        raw.select(good)
        .with_format("arrow")
        .map(
            _windows,
            batched=True,
            batch_size=_BATCH,
            fn_kwargs={"length": length, "channels": channels},
            remove_columns=raw.column_names,
            features=Features(features | labels),
            num_proc=processes_for(len(good), args),
            desc=f"Cutting {split} series",
        )
    )
    cut = cut.add_column("sample_index", np.arange(len(cut)))
    return cut.with_format("numpy", columns=["series"], output_all_columns=True)


def usual_shape(raw: Dataset, args: DataArguments, channels: int | None = None) -> tuple[int, int] | None:
    """The (length, channels) that a new encoder should read; None if all series are bad.

    `channels` is the most frequent number of channels. `length` is that of the shortest series with so many channels,
    so that each of them has a window, but at most 512.

    Args:
        raw: the rows, as `load_raw_datasets` gives them.
        args: the flags.
        channels: their number, if it is known, by which the axes of arrays in files are told apart.
    """
    report = _report(raw, args, "train", channels)
    found = zip(report["problem"][:], report["length"][:], report["channels"][:], strict=True)
    shapes = [(length, channels) for problem, length, channels in found if not problem]
    if not shapes:
        return None
    usual = Counter(channels for _, channels in shapes).most_common(1)[0][0]
    return min(_LONGEST_DEFAULT, *(length for length, channels in shapes if channels == usual)), usual


def series_of(column: pyarrow.ChunkedArray, channels: int | None = None) -> Iterator[NDArray[np.float32] | Unreadable]:
    """Each row as an array, float32 (T, channels). A row is a list of T numbers, or of T lists with one per channel.

    It may also be a .npy or .npz file with an array (T,), (T, channels) or (channels, T). The axis of the channels is
    the one with as many entries as `channels`, or if none has, or they are not known, the one with fewer entries.

    A missing value becomes NaN, and a missing row is empty. A row whose number of channels is not the same at each
    time, or whose file cannot be read, is an [`Unreadable`]. Numbers never become Python objects, which would take
    several times the memory and the time.
    """
    chunk: Any
    for chunk in column.chunks:
        if pyarrow.types.is_struct(chunk.type):
            yield from (readable(_in_file, file.as_py(), channels) for file in chunk)
            continue
        rows = chunk.storage if isinstance(chunk, pyarrow.ExtensionArray) else chunk
        ends = _lengths(rows).cumsum()
        times = rows.flatten()
        if pyarrow.types.is_floating(times.type) or pyarrow.types.is_integer(times.type):
            for series in np.split(_numbers(times), ends[:-1]):
                yield series[:, None]
            continue
        widths, numbers = _lengths(times), _numbers(times.flatten())
        offsets = np.concatenate([[0], widths.cumsum()])
        missing = times.is_null().to_numpy(zero_copy_only=False)
        for start, end in zip([0, *ends[:-1]], ends, strict=True):
            wide = widths[start:end]
            if (wide != wide[:1]).any() or missing[start:end].any():
                yield Unreadable("not the same number of channels at each time")
            else:
                yield numbers[offsets[start] : offsets[end]].reshape(len(wide), wide[0] if len(wide) else 1)


def _in_file(file: dict[str, Any] | None, channels: int | None) -> NDArray[np.float32]:
    """The series in a file, float32 (T, channels).

    Raises:
        ValueError: it holds no array of one or two axes, or it is not clear which axis is the channels. For damaged
            files, other exceptions, too.
    """
    if file is None or (file["bytes"] is None and file["path"] is None):
        raise Unreadable("no values")
    opened = encoded_file(file)
    numbers = open_numpy(opened)
    shape = numbers.shape
    if len(shape) not in (1, 2):
        raise ValueError(f"an array of shape {shape}, and (times,) or (times, channels) is expected")
    fitting = [axis for axis, size in enumerate(shape) if size == channels] or [shape.index(min(shape))]
    if len(shape) == 2 and (len(fitting) > 1 or shape[0] == shape[1]):
        raise ValueError(f"an array of shape {shape}, whose channels may be either axis: give it as lists, in a table")
    with np.errstate(over="ignore"):  # values beyond float32 become infinite, which `_problem` finds
        values = numbers.read().astype(np.float32)
    if len(shape) == 1:
        return values[:, None]
    return np.ascontiguousarray(values.T if fitting[0] == 0 else values)


def _lengths(lists: pyarrow.Array) -> NDArray[np.int64]:
    """The length of each list, int64; 0 for a missing list."""
    return pyarrow.compute.list_value_length(lists).fill_null(0).to_numpy().astype(np.int64)


def _numbers(values: pyarrow.Array) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # values beyond float32 become infinite, which `_problem` finds
        return values.cast("float64", safe=False).to_numpy(zero_copy_only=False).astype(np.float32)


def _windows(batch: pyarrow.Table, length: int, channels: int) -> dict[str, Any]:
    parts = []
    for series in series_of(batch["series"], channels):
        assert not isinstance(series, Unreadable)  # `_report` has found these, and they were left out
        count = len(series) // length
        parts.append(series[: count * length].reshape(count, length, -1))
    cut: dict[str, Any] = {"series": np.concatenate(parts)}
    for name, column in (("row", "sample_index"), ("label", "label")):
        if column in batch.column_names:
            values = zip(batch[column].to_pylist(), parts, strict=True)
            cut[name] = [value for value, windows in values for _ in windows]
    return cut


def _report(raw: Dataset, args: DataArguments, split: str, channels: int | None) -> Dataset:
    """For each series what is wrong with it ("" if nothing), its length and its number of channels."""
    report = raw.with_format("arrow").map(
        _inspect,
        batched=True,
        batch_size=_BATCH,
        input_columns="series",
        fn_kwargs={"channels": channels},
        remove_columns=raw.column_names,
        features=Features({"problem": Value("string"), "length": Value("int64"), "channels": Value("int64")}),
        num_proc=processes_for(len(raw), args),
        desc=f"Checking {split} series",
    )
    return report.with_format(None)


def _inspect(column: pyarrow.ChunkedArray, channels: int | None) -> dict[str, list[Any]]:
    found = [
        (_problem(series), (0, 0) if isinstance(series, Unreadable) else series.shape)
        for series in series_of(column, channels)
    ]
    return {
        "problem": [problem for problem, _ in found],
        "length": [shape[0] for _, shape in found],
        "channels": [shape[1] for _, shape in found],
    }


def _problem(series: NDArray[np.float32] | Unreadable) -> str:
    if isinstance(series, Unreadable):
        return series.reason
    if not series.size:
        return "no values"
    bad = int((~(np.abs(series) <= _LARGEST)).sum())  # counts NaN too, which is not <= anything
    return f"{bad} of {series.size} values missing, not finite or beyond 1e18" if bad else ""


def _misfit(found: tuple[int, int], wanted: tuple[int, int]) -> str:
    if found[1] != wanted[1]:
        return f"{found[1]} channels, the encoder reads {wanted[1]}"
    return f"too short ({found[0]} values, the encoder reads {wanted[0]})" if found[0] < wanted[0] else ""
