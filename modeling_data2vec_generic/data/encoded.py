"""Encoded files as datasets keeps them undecoded: bytes in the row, or a path."""

import io
import os
import re
import zipfile
from functools import lru_cache
from typing import Any

from datasets.utils.file_utils import xopen

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
# What datasets makes of archives and of the files of a Hub repository: zip://FILE::ARCHIVE, hf://datasets/NAME/FILE.
_OPENED = frozenset({"zip", "tar", "gzip", "bz2", "xz", "lz4", "zstd", "hf"})
_LARGEST = 1 << 31  # bytes of a file in an archive: a small archive may claim to hold anything


def encoded_file(value: dict[str, Any]) -> io.BytesIO | str:
    """What a decoder opens, from {"bytes": encoded file or None, "path": its path}.

    A path may be absolute or lead anywhere: it is read and never written, and nothing but pixels or samples are made
    of what it holds. It may be the address that datasets gives a file in an archive or in a Hub repository; paths of
    users' tables are made to start from a folder, so that addresses in them are none.

    Raises:
        ValueError: the path is not that of a file with content. Any other URL is not fetched, and a device or pipe not
            read, since that might never end.
    """
    if value["bytes"] is not None:
        return io.BytesIO(value["bytes"])
    path = value["path"]
    if _ADDRESS.match(path):
        return io.BytesIO(_content_at(path))
    if (url := _ADDRESS.search(path)) is not None:
        raise _not_fetched(path[url.start() :])
    _check_is_file(path)
    return path


def _check_is_file(path: str) -> None:
    if not os.path.isfile(path):
        raise ValueError("a folder, device or pipe, not a file" if os.path.lexists(path) else "there is no such file")
    if os.path.getsize(path) == 0:  # also the files of /proc, some of which wait for events
        raise ValueError("an empty file")


def _not_fetched(url: str) -> ValueError:
    return ValueError(f"{url!r} is a URL, which is not fetched: download it and give the path")


def _content_at(address: str) -> bytes:
    hops = address.split("::")
    if not {hop.partition("://")[0] for hop in hops if "://" in hop} <= _OPENED:
        raise _not_fetched(address)
    if "://" not in hops[-1]:
        _check_is_file(hops[-1])
        if len(hops) == 2 and hops[0].startswith("zip://"):
            return _content_in(hops[0].removeprefix("zip://"), hops[1])
    with xopen(address, "rb") as file:
        content: bytes = file.read()
    return content


def _content_in(name: str, archive: str) -> bytes:
    """A file of a zip archive on the disk. datasets reads the archive's directory again for every file: of one with
    50,000 files that takes a second and a half."""
    opened = _archive(archive, os.stat(archive).st_mtime_ns, os.getpid())
    try:
        size = opened.getinfo(name).file_size
    except KeyError:
        raise ValueError("there is no such file in the archive") from None
    if size > _LARGEST:
        raise ValueError(f"{size} bytes in an archive are more than {_LARGEST}: unpack it")
    return opened.read(name)


@lru_cache(maxsize=8)
def _archive(path: str, changed: int, process: int) -> zipfile.ZipFile:
    """An open archive: one per process, since those that are forked would share its place in the file."""
    return zipfile.ZipFile(path)
