"""Columns of arrays (lists of numbers, Array2D, Array3D), which become columns of .npy files.

Arrays of sound with their sampling rate, as `datasets` decodes sound, become columns of .npz files.
"""

import io
from typing import Any

import numpy as np
import pyarrow
import pyarrow.compute
from datasets import Dataset, Features
from numpy.typing import NDArray

from ..arguments import DataArguments
from ..quality.processes import processes_for

_BATCH = 20  # arrays that are in memory at a time; one of sound may be large


def arrays_as_files(dataset: Dataset, column: str, feature: Any, args: DataArguments) -> Dataset:
    """The same rows, with each array of a column as an encoded file, the bytes of a .npy or .npz file.

    A list whose items have different lengths becomes an empty file, which makes its row a bad row.

    Args:
        dataset: the rows.
        column: the column with the arrays.
        feature: the type of a column of encoded files.
        args: the flags.
    """
    return (
        dataset.with_format("arrow")
        .map(
            _encoded,
            batched=True,
            batch_size=_BATCH,
            writer_batch_size=_BATCH,
            fn_kwargs={"column": column},
            features=Features({**dataset.features, column: feature}),
            num_proc=processes_for(len(dataset), args),
            desc="Reading arrays",
        )
        .with_format(None)
    )


def _encoded(table: pyarrow.Table, column: str) -> pyarrow.Table:
    files = [_file_of(value) for chunk in table[column].chunks for value in _storage(chunk)]
    files_type = pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})
    return table.set_column(table.column_names.index(column), column, pyarrow.array(files, files_type))


def _storage(chunk: pyarrow.Array) -> pyarrow.Array:
    return chunk.storage if isinstance(chunk, pyarrow.ExtensionArray) else chunk


def _file_of(value: pyarrow.Scalar) -> dict[str, Any] | None:
    with_rate = isinstance(value, pyarrow.StructScalar)
    numbers = value["array"] if with_rate and value.is_valid else value
    if not numbers.is_valid:
        return None
    array = _array_of(numbers)
    if array is None:
        return {"bytes": b"", "path": None}
    buffer = io.BytesIO()
    if with_rate:
        np.savez(buffer, array=array, sampling_rate=np.float64(value["sampling_rate"].as_py() or 0))
    else:
        np.save(buffer, array)
    return {"bytes": buffer.getvalue(), "path": None}


def _array_of(value: pyarrow.ListScalar) -> NDArray[Any] | None:
    """A list of lists as an array, without Python objects for its numbers; None if it is not rectangular.

    A missing number becomes NaN.
    """
    items, shape = value.values, [len(value.values)]
    while pyarrow.types.is_nested(items.type):
        lengths = pyarrow.compute.list_value_length(items).unique()
        if len(lengths) != 1 or not lengths[0].is_valid:
            return None
        shape.append(lengths[0].as_py())
        items = items.flatten()
    numbers: NDArray[Any] = items.to_numpy(zero_copy_only=False)
    return numbers.reshape(shape)
