"""Lists the files below a folder, as an Arrow table on the disk: a million files take a few seconds and little memory.

A list is kept in the cache of datasets, and used again by other processes and later runs as long as no folder in it
has changed: the system gives a folder a new time of modification when a file in it is added, renamed or removed.
"""

import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow
import pyarrow.compute
import xxhash
from datasets.fingerprint import Hasher
from datasets.utils import tqdm
from numpy.typing import NDArray
from transformers.utils import logging

from ..arrow_cache import cached_path, whole_file
from ..cache_keys import code_version
from ..kinds_of_data import ARRAY_ENDINGS, FILE_TYPES, FileType
from ..summary import note

logger = logging.get_logger(__name__)

# Files and folders that file servers, archivers and operating systems create, besides those whose names begin with a
# dot.
_SYSTEM_FILES = {
    name.lower()
    for name in (
        "@eaDir", "#recycle", "@Recycle", "#snapshot", "__MACOSX", "$RECYCLE.BIN", "System Volume Information",
        "lost+found", "Thumbs.db", "ehthumbs.db", "desktop.ini",
    )
}  # fmt: skip
_FILES = pyarrow.schema({"folder": pyarrow.int32(), "name": pyarrow.string(), "ending": pyarrow.string()})
_FOLDERS = pyarrow.schema({"path": pyarrow.binary(), "state": pyarrow.list_(pyarrow.int64(), 3)})
_NO_ENDING = "without an extension"
_AT_ONCE = 1 << 16  # names that are held as Python objects, and rows of a piece of the table
_SETTLED = 2 * 10**9  # nanoseconds; a folder that changed later than this before it was read may change unnoticed
_NAMED = 5  # files that are named in a message

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Listing:
    """The files below a folder that may be data, folder by folder, in a fixed order.

    Args:
        root: the absolute path of the folder.
        folders: the absolute paths of the folder and of all folders in it that were read.
        files: one row per file: the number of its `folder`, its `name`, and its `ending` (the extension in lower case,
            with the dot; empty if there is none).
        key: a hash of all paths.
        remarks: what was left out, for the summary and the log.
    """

    root: str
    folders: list[str]
    files: pyarrow.Table
    key: str
    remarks: dict[str, Any]

    def __len__(self) -> int:
        return self.files.num_rows

    @cached_property
    def folder(self) -> NDArray[np.int32]:
        """The number of each file's folder, (N,)."""
        return self.files["folder"].to_numpy()

    @cached_property
    def _endings(self) -> tuple[list[str], NDArray[np.int32]]:
        """All endings, and the number of each file's ending, (N,)."""
        encoded = self.files["ending"].dictionary_encode().combine_chunks()
        if not len(encoded):
            return [], np.zeros(0, dtype=np.int32)
        return encoded.dictionary.to_pylist(), encoded.indices.to_numpy()

    def path(self, number: int) -> str:
        """The absolute path of a file."""
        return os.path.join(self.folders[self.folder[number]], self.files["name"][int(number)].as_py())

    def paths(self, numbers: NDArray[np.int64]) -> pyarrow.Array:
        """The absolute paths of some files, as strings."""
        names = self.files["name"].take(pyarrow.array(numbers)).combine_chunks()
        own, place = np.unique(self.folder[numbers], return_inverse=True)
        folders = pyarrow.array([os.path.join(self.folders[number], "") for number in own], pyarrow.string())
        return pyarrow.compute.binary_join_element_wise(folders.take(pyarrow.array(place)), names, "")

    def counts(self, chosen: Mask | None = None) -> Counter[str]:
        """The number of files, or of the chosen ones, with each extension."""
        endings, numbers = self._endings
        numbers = numbers if chosen is None else numbers[chosen]
        found = np.bincount(numbers, minlength=len(endings)).tolist()
        return Counter({ending or _NO_ENDING: n for ending, n in zip(endings, found, strict=True) if n})

    def with_ending(self, wanted: frozenset[str] | tuple[str, ...]) -> Mask:
        """Which files have one of these endings."""
        endings, numbers = self._endings
        return np.array([ending in wanted for ending in endings], dtype=bool)[numbers]

    def of_type(self, file_type: FileType) -> Mask:
        """Which files are of a type: by their extension or, if they have none, by their content.

        Arrays are, if no other file is: beside images or sound they may be anything, such as masks or features.
        """
        found = self.with_ending(file_type.extensions)
        for number in np.flatnonzero(self.with_ending(("",))).tolist():
            found[number] = _is_content(self.path(number), file_type)
        others = found & ~self.with_ending(ARRAY_ENDINGS)
        return others if others.any() else found

    def modalities(self) -> list[str]:
        """The modalities (keys of FILE_TYPES) of the files, by their extensions.

        If there are arrays and no other file of a known type, these are all that arrays may be. If no extension is
        known, files without an extension count by their content.
        """
        found = self.counts().keys()
        types = FILE_TYPES.items()
        by_ending = [modality for modality, file_type in types if (file_type.extensions - ARRAY_ENDINGS) & found]
        if not by_ending and ARRAY_ENDINGS & found:
            return [modality for modality, _ in types] + ["series"]
        if by_ending or _NO_ENDING not in found:
            return by_ending
        unnamed = np.flatnonzero(self.with_ending(("",))).tolist()
        return [
            modality
            for modality, file_type in FILE_TYPES.items()
            if any(_is_content(self.path(number), file_type) for number in unnamed)
        ]

    def tell(self, folder: str, flag: str) -> None:
        """Says what was left out, in the summary and the log. The flag `flag` gave the folder."""
        if unreadable := self.remarks["names"]:
            logger.warning(
                f"{unreadable['count']} file(s) below {flag}={folder!r} are left out, since their paths are not "
                f"UTF-8: {', '.join(unreadable['first'])}. Rename them."
            )
        if closed := self.remarks["closed"]:
            logger.warning(
                f"{closed['count']} folder(s) below {flag}={folder!r} are left out, since they cannot be read: "
                f"{', '.join(closed['first'])}. Change their permissions."
            )
        if ignored := Counter(self.remarks["ignored"]):
            kinds = counted(ignored)
            note(split_of(flag), f"Hidden files, and files of file servers or systems, are no data: {kinds}.")


def listing_of(folder: str, flag: str) -> Listing:
    """All files below the folder that may be data, in a fixed order.

    Hidden files and files of file servers and systems (thumbnails, `@eaDir`, `__MACOSX`) are left out. Links are
    followed, but each folder is read only once.

    Args:
        folder: its path.
        flag: the flag that gave it, for messages.

    Raises:
        ValueError: there is no such folder.
    """
    if not os.path.isdir(folder):
        raise ValueError(f"{flag}={folder!r} is not a folder. Check the path.")
    root = os.path.abspath(folder)
    path = cached_path(f"{Hasher.hash([os.fsencode(root), code_version()])}.files")
    listing = _unchanged(path, root)
    if listing is None:
        _list_files(root, path)
        listing = _stored(path, root)
    return listing


def split_of(flag: str) -> str:
    """The split under which the summary lists notes on what the flag names."""
    return "validation" if flag.startswith("validation") else "train"


def counted(kinds: Counter[str]) -> str:
    """The most frequent kinds of files with their numbers, for messages."""
    listed = [f"{count} {kind}" for kind, count in kinds.most_common(_NAMED)]
    return ", ".join([*listed, f"and {len(kinds) - _NAMED} more kinds"] if len(kinds) > _NAMED else listed)


def _is_content(path: str, file_type: FileType) -> bool:
    return os.path.isfile(path) and file_type.can_read(Path(path))  # opening a pipe would block


# The list on the disk: first the files, which are written while folders are read, then the folders and the remarks.


def _stored(path: Path, root: str) -> Listing:
    files, folders = _read(path)
    about = json.loads(folders.schema.metadata[b"about"])
    names = [os.fsdecode(name) for name in folders["path"].to_pylist()]
    return Listing(root, names, files, about["key"], about["remarks"])


def _read(path: Path) -> tuple[pyarrow.Table, pyarrow.Table]:
    source = pyarrow.memory_map(str(path))
    return pyarrow.ipc.open_stream(source).read_all(), pyarrow.ipc.open_stream(source).read_all()


def _unchanged(path: Path, root: str) -> Listing | None:
    """The list of an earlier walk; None if there is none, or if a folder in it has changed or may have.

    A folder is compared by its times of modification and of change and its inode. It may have changed unnoticed if its
    times lie less than two seconds before the walk, since clocks of file systems have steps of up to two seconds.
    """
    try:
        folders = _read(path)[1]
    except (OSError, pyarrow.ArrowInvalid):
        return None
    began = json.loads(folders.schema.metadata[b"about"])["began"]
    for name, state in zip(folders["path"].to_pylist(), folders["state"].to_pylist(), strict=True):
        if _state(os.fsdecode(name)) != state or max(state[:2]) > began - _SETTLED:
            return None
    listing = _stored(path, root)
    made = datetime.fromtimestamp(began / 1e9).isoformat(" ", "seconds")
    logger.info(f"The list of {len(listing)} files below {root}, made at {made}, is used: no folder changed since.")
    return listing


def _state(folder: str) -> list[int] | None:
    """What shows that the files of a folder have changed; None if it cannot be read."""
    try:
        state = os.stat(folder)
    except OSError:
        return None
    return [state.st_mtime_ns, state.st_ctime_ns, state.st_ino]


# Reading folders


@dataclass
class _Found:
    """What a walk has found so far, besides the files."""

    folders: list[tuple[bytes, list[int] | None]] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)
    names: list[str] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)

    def remarks(self) -> dict[str, Any]:
        return {"ignored": self.ignored, "names": _first(self.names), "closed": _first(self.closed)}


def _first(found: list[str]) -> dict[str, Any]:
    return {"count": len(found), "first": found[:_NAMED]} if found else {}


def _list_files(root: str, path: Path) -> None:
    """Walks through the folder, and writes the list."""
    began, found, digest = time.time_ns(), _Found(), xxhash.xxh3_128()
    with whole_file(path) as sink:
        with pyarrow.ipc.new_stream(sink, _FILES) as writer, tqdm(unit=" files", desc="Listing files", delay=3) as bar:
            for names, numbers in _pieces(_walk(root, found)):
                rows = pyarrow.record_batch([pyarrow.array(numbers), names, _endings_of(names)], schema=_FILES)
                digest.update(rows.serialize())
                writer.write_batch(rows)
                bar.update(len(names))
        digest.update(b"\0".join(folder for folder, _ in found.folders))
        about = {"began": began, "key": digest.hexdigest(), "remarks": found.remarks()}
        schema = _FOLDERS.with_metadata({"about": json.dumps(about)})
        columns = [list(column) for column in zip(*found.folders, strict=True)]
        with pyarrow.ipc.new_stream(sink, schema) as writer:
            writer.write_table(pyarrow.table(columns, schema=schema))


def _pieces(
    found: Iterator[tuple[int, pyarrow.Array]],
) -> Iterator[tuple[pyarrow.Array, NDArray[np.int32]]]:
    """The names of files and the numbers of their folders, in pieces of many rows."""
    names: list[pyarrow.Array] = []
    numbers: list[NDArray[np.int32]] = []
    waiting = 0
    for number, array in found:
        names.append(array)
        numbers.append(np.full(len(array), number, dtype=np.int32))
        waiting += len(array)
        if waiting >= _AT_ONCE:
            yield pyarrow.concat_arrays(names), np.concatenate(numbers)
            names, numbers, waiting = [], [], 0
    if waiting:
        yield pyarrow.concat_arrays(names), np.concatenate(numbers)


def _endings_of(names: pyarrow.Array) -> pyarrow.Array:
    """The extensions of names in lower case, as `Path.suffix` finds them."""
    parts = pyarrow.compute.split_pattern(names, ".", max_splits=1, reverse=True)
    last = parts.values.take(pyarrow.compute.subtract(parts.offsets[1:], 1))
    is_ending = pyarrow.compute.and_(
        pyarrow.compute.equal(pyarrow.compute.list_value_length(parts), 2), pyarrow.compute.not_equal(last, "")
    )
    endings = pyarrow.compute.binary_join_element_wise(".", pyarrow.compute.utf8_lower(last), "")
    return pyarrow.compute.if_else(is_ending, endings, "")


def _walk(root: str, found: _Found) -> Iterator[tuple[int, pyarrow.Array]]:
    """The number of each folder and the sorted names of the files in it. A folder comes before those within it."""
    # The cache of datasets is no data, even if it is in the folder.
    seen = {os.path.realpath(root), os.path.realpath(datasets.config.HF_DATASETS_CACHE)}
    waiting = [(root, os.path.realpath(root))]
    while waiting:
        folder, real = waiting.pop()
        number = len(found.folders)
        found.folders.append((os.fsencode(folder), _state(folder)))
        try:
            names, folders = _content_of(folder, found)
        except OSError as error:
            found.closed.append(f"{os.fsencode(folder)!r} ({error.strerror})")
            continue
        inside = []
        for is_link, name in sorted(folders):  # folders before links to them
            path = os.path.join(folder, name)
            own = os.path.realpath(path) if is_link else os.path.join(real, name)
            if own not in seen:
                seen.add(own)
                inside.append((path, own))
        waiting.extend(sorted(inside, reverse=True))
        yield number, names


def _content_of(folder: str, found: _Found) -> tuple[pyarrow.Array, list[tuple[bool, str]]]:
    """The sorted names of a folder's files, and the names of its folders with whether they are links."""
    arrays, names, folders = [pyarrow.array([], pyarrow.string())], [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name
            if name[0] == "." or name.lower() in _SYSTEM_FILES:
                found.ignored["._ files" if name.startswith("._") else name] += 1
            elif _is_folder(entry):
                folders.append((entry.is_symlink(), name))
            else:
                names.append(name)
                if len(names) == _AT_ONCE:
                    arrays.append(_as_text(folder, names, found))
                    names = []
    arrays.append(_as_text(folder, names, found))
    joined = pyarrow.concat_arrays(arrays)
    return joined.take(pyarrow.compute.sort_indices(joined)), folders  # in UTF-8, strings sort as in Python


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads nowhere, for instance
        return False


def _as_text(folder: str, names: list[str], found: _Found) -> pyarrow.Array:
    """The names whose paths are UTF-8."""
    if not _is_utf8(folder):
        found.names += [str(os.fsencode(name)) for name in names]
        return pyarrow.array([], pyarrow.string())
    try:
        return pyarrow.array(names, pyarrow.string())
    except UnicodeEncodeError:
        found.names += [str(os.fsencode(name)) for name in names if not _is_utf8(name)]
        return pyarrow.array(list(filter(_is_utf8, names)), pyarrow.string())


def _is_utf8(path: str) -> bool:
    """Whether a path is valid UTF-8. Python represents bytes that are not as lone surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in path)
