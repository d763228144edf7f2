"""The output: pieces joined to one file in the order of the rows, and what is read back from it."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow
import pyarrow.compute
import pyarrow.parquet
from numpy.typing import NDArray

from ..data.arrow_cache import whole_file
from .pieces import VECTOR, Saved

_ID = np.dtype([("row", np.int64), ("part", np.int32), ("path", object)])
_SAFETENSORS = {"float32": "F32", "float16": "F16", "int64": "I64", "int32": "I32"}


class Embeddings(NamedTuple):
    """The vectors of N rows and what belongs to them.

    Args:
        ids: (N,) with the fields `row` (number of the row in the data), `part` (a row that is longer than what the
            encoder reads has several vectors, numbered from 0) and `path` (of its file; None if it has none).
        vectors: (N, C), or with pooling "tokens" a list of N arrays (length, C).
        labels: (N,), or None if the data have none.
    """

    ids: NDArray[Any]
    vectors: Any
    labels: NDArray[Any] | None


class Counts(NamedTuple):
    """Rows that have vectors, vectors, numbers in each, and vectors that hold NaN or infinity."""

    rows: int
    vectors: int
    width: int
    not_finite: int


@dataclass(frozen=True)
class Joined:
    """All pieces, as one table that is read piece by piece.

    Args:
        pieces: in the order of the rows.
        numbered: whether the numbers of rows count from the first row of all, and not of each piece.
    """

    pieces: Sequence[Saved]
    numbered: bool

    def schema(self) -> pyarrow.Schema:
        """The columns. Labels are text if pieces have labels of different types.

        Raises:
            ValueError: there is no vector.
        """
        found: dict[str, list[pyarrow.DataType]] = {}
        for piece in self.pieces:
            table = piece.table()
            for field in table.schema if len(table) else ():
                types = found.setdefault(field.name, [])
                if field.type not in types and not pyarrow.types.is_null(field.type):
                    types.append(field.type)
        if not found:
            raise ValueError("No row has a vector: all are bad or blank. Choose other data.")
        return pyarrow.schema(
            [
                (name, types[0] if len(types) == 1 else pyarrow.string())
                for name, types in found.items()
                if name != VECTOR
            ]
            + [(VECTOR, found[VECTOR][0])]
        )

    def tables(self) -> Iterator[pyarrow.Table]:
        """The rows of each piece that has some."""
        schema = self.schema()
        first = 0
        for piece in self.pieces:
            table = piece.table().replace_schema_metadata()
            if len(table):
                if not self.numbered:
                    table = table.set_column(0, "row", pyarrow.compute.add(table["row"], first))
                columns = [
                    _as_type(table[field.name], field.type)
                    if field.name in table.column_names
                    else pyarrow.nulls(len(table), field.type)
                    for field in schema
                ]
                yield pyarrow.table(columns, schema=schema)
            first += piece.read

    def counts(self) -> "Counts":
        """How many vectors there are, and of how many rows."""
        rows = vectors = width = not_finite = 0
        for table in self.tables():
            found = flat(table[VECTOR])
            rows += len(table.filter(pyarrow.compute.equal(table["part"], 0)))
            vectors, width = vectors + len(found), found.shape[1]
            not_finite += int((~np.isfinite(found).all(axis=1)).sum())
        return Counts(rows, vectors, width, not_finite)

    def bad(self) -> Iterator[dict[str, Any]]:
        """Rows that have no vector since they are bad."""
        first = 0
        for piece in self.pieces:
            for row in piece.bad:
                yield row if self.numbered else {**row, "row": row["row"] + first}
            first += piece.read


def _as_type(column: pyarrow.ChunkedArray, wanted: pyarrow.DataType) -> pyarrow.ChunkedArray:
    if column.type == wanted:
        return column
    if pyarrow.types.is_nested(column.type):
        texts = [None if value is None else json.dumps(value, ensure_ascii=False) for value in column.to_pylist()]
        return pyarrow.chunked_array([pyarrow.array(texts, pyarrow.string())])
    return column.cast(wanted)


def write(joined: Joined, output: Path) -> None:
    """Writes the output in the format that its name ends in. It is there once it is whole, and never before.

    Raises:
        ValueError: there is no vector.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    if output.suffix == ".parquet":
        with whole_file(output) as file, pyarrow.parquet.ParquetWriter(file, joined.schema()) as writer:
            for table in joined.tables():
                writer.write_table(table)
        return
    with whole_file(rows_file(output)) as file:
        for table in joined.tables():
            for row in _rows(table):
                file.write((json.dumps(row, ensure_ascii=False) + "\n").encode(errors="backslashreplace"))
    with whole_file(output) as file:
        (_write_npy if output.suffix == ".npy" else _write_safetensors)(joined, file)


def rows_file(output: Path) -> Path:
    """The file with ids and labels of an output that holds vectors only."""
    return output.with_suffix(".rows.jsonl")


def _rows(table: pyarrow.Table) -> Iterator[dict[str, Any]]:
    columns = {name: table[name].to_pylist() for name in table.column_names if name != VECTOR}
    if pyarrow.types.is_list(table[VECTOR].type):
        columns["length"] = pyarrow.compute.list_value_length(table[VECTOR]).to_pylist()
    for values in zip(*columns.values(), strict=True):
        yield {name: value for name, value in zip(columns, values, strict=True) if value is not None}


def flat(column: pyarrow.ChunkedArray) -> NDArray[Any]:
    """Vectors of a column as one array, (N, C); those of tokens one after the other."""
    return np.concatenate([_flat(chunk) for chunk in column.chunks])


def _flat(chunk: pyarrow.Array) -> NDArray[Any]:
    vectors = chunk.flatten() if pyarrow.types.is_list(chunk.type) else chunk
    found: NDArray[Any] = vectors.flatten().to_numpy(zero_copy_only=False)
    return found.reshape(-1, vectors.type.list_size)


def _shape(joined: Joined) -> tuple[int, int, np.dtype[Any]]:
    """The number of all vectors, their width and their type."""
    count, width, dtype = 0, 0, np.dtype(np.float32)
    for table in joined.tables():
        vectors = flat(table[VECTOR])
        count, width, dtype = count + len(vectors), vectors.shape[1], vectors.dtype
    return count, width, dtype


def _write_npy(joined: Joined, file: Any) -> None:
    count, width, dtype = _shape(joined)
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (count, width)}
    np.lib.format.write_array_header_1_0(file, header)
    for table in joined.tables():
        file.write(flat(table[VECTOR]).tobytes())


def _write_safetensors(joined: Joined, file: Any) -> None:
    """Writes what `safetensors.numpy.save_file` would, which needs all tensors in memory."""
    count, width, dtype = _shape(joined)
    columns: dict[str, Callable[[pyarrow.Table], NDArray[Any]]] = {
        "vectors": lambda table: flat(table[VECTOR]),
        "row": lambda table: table["row"].to_numpy(),
        "part": lambda table: table["part"].to_numpy(),
    }
    schema = joined.schema()
    if pyarrow.types.is_list(schema.field(VECTOR).type):
        columns["length"] = lambda table: pyarrow.compute.list_value_length(table[VECTOR]).to_numpy()
    if "label" in schema.names and pyarrow.types.is_integer(schema.field("label").type):
        nulls = sum(table["label"].null_count for table in joined.tables())
        if not nulls:
            columns["label"] = lambda table: table["label"].cast(pyarrow.int64()).to_numpy()
    rows = sum(len(table) for table in joined.tables())
    header: dict[str, Any] = {}
    end = 0
    for name in columns:
        kind, shape = (dtype, [count, width]) if name == "vectors" else (_int_type(name), [rows])
        size = kind.itemsize * int(np.prod(shape))
        header[name] = {"dtype": _SAFETENSORS[kind.name], "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    for values in columns.values():
        for table in joined.tables():
            file.write(values(table).tobytes())


def _int_type(name: str) -> np.dtype[Any]:
    return np.dtype(np.int32 if name in ("part", "length") else np.int64)


def read(output: Path) -> Embeddings:
    """What `write` wrote. Vectors of a .npy file are mapped into memory; others are in memory."""
    if output.suffix == ".parquet":
        table = pyarrow.parquet.read_table(output)
        vectors = flat(table[VECTOR])
        rows = list(_rows(table))
    else:
        with open(rows_file(output), encoding="utf-8") as file:
            rows = [json.loads(line) for line in file]
        if output.suffix == ".npy":
            vectors = np.load(output, mmap_mode="r", allow_pickle=False)
        else:
            from safetensors.numpy import load_file

            vectors = load_file(output)["vectors"]
    ids = np.array([(row["row"], row["part"], row.get("path")) for row in rows], dtype=_ID)
    labels = [row.get("label") for row in rows]
    found = None if all(label is None for label in labels) else _array(labels)
    if "length" not in rows[0]:
        return Embeddings(ids, vectors, found)
    ends = np.cumsum([row["length"] for row in rows])[:-1]
    return Embeddings(ids, np.split(vectors, ends), found)


def _array(labels: list[Any]) -> NDArray[Any]:
    """Labels, (N,); of type object if some are missing or are lists."""
    if any(label is None or isinstance(label, list) for label in labels):
        found = np.empty(len(labels), dtype=object)
        found[:] = labels
        return found
    return np.array(labels)
