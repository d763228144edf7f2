"""WebDataset shards: tar files in which the files of a sample have the same name and lie one after the other."""

import io
import json
import re
import tarfile
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
from datasets import Features, Value

from ...kinds_of_data import FILE_TYPES
from ..compressed import READ_ERRORS, is_compressed, opened
from ..table import Piece
from .records import Batch, Records, grouped
from .table import UntypedTable, as_json

_KEY = "__key__"
_NAME = re.compile(r"((?:.*/|)[^.]+)[.]([^/]*)")  # the key of a sample, and the rest, by which its column is named
_HEAD = 20  # samples by which columns and their types are found
_LARGEST = 1 << 31  # bytes of a member
_MOST_AXES = 2  # of an array that is a series: time and channels
_JSON = ("json", "jsn")


def _number(content: bytes) -> int | str:
    text = content.decode().strip()
    return int(text) if re.fullmatch(r"-?\d{1,18}", text) else text


def _array(content: bytes) -> Any:
    array = np.load(io.BytesIO(content), allow_pickle=False)
    return array.tolist() if array.ndim <= _MOST_AXES else content


# By the last extension of a member; the same as in datasets, which also reads formats that no modality uses.
_DECODERS: dict[str, Callable[[bytes], Any]] = {
    **dict.fromkeys(("txt", "text", "transcript"), bytes.decode),
    **dict.fromkeys(("cls", "cls2", "index", "inx", "id"), _number),
    **dict.fromkeys(_JSON, json.loads),
    "npy": _array,
}


class TarRecords(Records):
    """The samples of a tar file. A column has the name of the extension: `jpg`, `cls`, `txt`, `seg.png`.

    The fields of an object in a JSON member are columns of their own, such as `json.caption`. Members without an
    extension are left out. What is not text, a number or an array is an encoded file, {"bytes": ..., "path": ...}.

    Raises:
        ValueError: while iterating, after the samples before the place where the file is damaged or cut off.
    """

    kind = "tar"

    @cached_property
    def _first(self) -> list[dict[str, Any]]:
        found = []
        try:
            for _, values, _ in islice(self._samples(None, 0), _HEAD):
                found.append(values)
        except READ_ERRORS:
            if not found:
                raise
        return found

    @cached_property
    def names(self) -> list[str]:
        return list(dict.fromkeys(name for values in self._first for name in values))

    def head(self) -> dict[str, list[Any]]:
        return {name: [values.get(name) for values in self._first] for name in self.names}

    def batches(self, names: Sequence[str], piece: Piece | None = None, skip_rows: int = 0) -> Iterator[Batch]:
        broken: list[Exception] = []
        read = skip_rows

        def before_the_break() -> Iterator[tuple[str | None, dict[str, Any], int]]:
            try:
                yield from self._samples(set(names), skip_rows)
            except READ_ERRORS as error:
                broken.append(error)

        for group in grouped(before_the_break(), lambda sample: sample[2]):
            columns = [[values.get(name) for _, values, _ in group] for name in names]
            read += len(group)
            yield Batch(columns, [problem for problem, *_ in group])
        if broken:
            raise ValueError(f"it is damaged or cut off after sample {read} ({broken[0]})") from broken[0]

    def _samples(self, wanted: set[str] | None, skip: int) -> Iterator[tuple[str | None, dict[str, Any], int]]:
        """For each sample what is wrong with it (None if nothing), its values by column, and its size in bytes.

        Args:
            wanted: the columns that are read; None for all.
            skip: samples at the beginning that are left out.
        """
        # A compressed file cannot be gone back in.
        mode = "r|" if is_compressed(self.path) else "r:"
        with opened(self.path) as content, tarfile.open(fileobj=content, mode=mode) as archive:  # type: ignore[call-overload]
            sample = _Sample("")
            number = 0
            for member in archive:
                archive.members = []  # it would keep the headers of all members
                found = _NAME.fullmatch(member.name) if member.isreg() else None
                if found is None:
                    continue
                if found[1] != sample.key:
                    if sample.key:
                        number += 1
                        if number > skip:
                            yield sample.result()
                    sample = _Sample(found[1])
                if number >= skip:
                    sample.add(found[2], archive, member, wanted)
            if sample.key and number >= skip:
                yield sample.result()
            if not is_compressed(self.path) and self.path.stat().st_size % tarfile.BLOCKSIZE:
                raise ValueError("unexpected end of data")


class _Sample:
    """The members of one sample that were read so far."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.values: dict[str, Any] = {_KEY: key}
        self.problem: str | None = None
        self.size = len(key)

    def add(self, name: str, archive: tarfile.TarFile, member: tarfile.TarInfo, wanted: set[str] | None) -> None:
        """Reads a member if it is wanted, or if a field of it is."""
        if wanted is not None and not any(column == name or column.startswith(f"{name}.") for column in wanted):
            return
        if name in self.values or member.size > _LARGEST:
            why = "is there twice" if name in self.values else f"has {member.size} bytes, more than 2 GiB"
            self.problem = f"{member.name} {why}"
            return
        reader = archive.extractfile(member)
        content = b"" if reader is None else reader.read()
        if len(content) < member.size:
            raise tarfile.ReadError("unexpected end of data")
        self.size += len(content)
        ending = name.rpartition(".")[2].lower()
        try:
            value = _DECODERS[ending](content) if ending in _DECODERS else content
        except (ValueError, RecursionError) as error:
            self.problem = f"{member.name} cannot be read: {error}"
            return
        if isinstance(value, dict) and ending in _JSON:
            self.values.update({f"{name}.{field}": item for field, item in value.items()})
        else:
            self.values[name] = {"bytes": value, "path": member.name} if isinstance(value, bytes) else value

    def result(self) -> tuple[str | None, dict[str, Any], int]:
        return self.problem, self.values, self.size


class TarTable(UntypedTable):
    """WebDataset shards: the label of a sample is its member `cls`."""

    kind = "tar"
    records = TarRecords

    @cached_property
    def features(self) -> Features:
        found = super().features
        return Features({name: self._feature(name, feature) for name, feature in found.items()})

    def _feature(self, name: str, feature: Any) -> Any:
        if not any(isinstance(value, dict) and "bytes" in value for value in self._first.head()[name]):
            return feature
        ending = f".{name.rpartition('.')[2].lower()}"
        of_type = (file_type.feature for file_type in FILE_TYPES.values() if ending in file_type.extensions)
        return next(of_type, Value("null"))

    def label(self, value: Any) -> str | None:
        return None if value is None else as_json(value)
