"""Encoded (not decoded) files of images and sound: as bytes in a row, as a path, or as base64 text."""

import base64
import binascii
import io
import os
import re
import zipfile
from functools import lru_cache
from typing import Any

from datasets.utils.file_utils import xopen

from .kinds_of_data import FILE_TYPES

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
# datasets gives these addresses to files in archives and in Hub repositories: zip://FILE::ARCHIVE,
# hf://datasets/NAME/FILE.
_OPENED = frozenset({"zip", "tar", "gzip", "bz2", "xz", "lz4", "zstd", "hf"})
_LARGEST = 1 << 31  # bytes of a file in an archive; a small archive may hold a huge file (a "zip bomb")

_BASE64 = re.compile(r"[A-Za-z0-9+/\s]+={0,2}\s*")
_DATA_URL = re.compile(r"data:[^,]{0,100};base64,")
LONGEST_PATH = 4096  # characters, the limit of Linux
_BEGINNING = 32  # characters of base64 text that are enough for the first bytes of any file type


def base64_content(text: str) -> bytes | None:
    """The encoded image or sound file that a string or data URL holds as base64 text; None if it holds none."""
    url = _DATA_URL.match(text)
    encoded = text[url.end() :] if url else text
    if modality_of(_decoded(encoded.lstrip()[:_BEGINNING]) or b"") is None or not _BASE64.fullmatch(encoded):
        return None
    return _decoded(encoded)


def file_of(value: Any, folder: str) -> Any:
    """An encoded file, in the form in which datasets stores it, from what a table holds.

    Args:
        value: a path, or the file as base64 text; a list of either; or None or "", if there is no file. Other values,
            such as files that are in that form already, stay as they are.
        folder: what paths are relative to. With a folder in front, a path is never taken for a URL, which must not be
            downloaded. Absolute paths stay as they are.
    """
    if isinstance(value, list):
        return [file_of(item, folder) for item in value]
    if not value:
        return None
    if not isinstance(value, str):
        return value
    content = base64_content(value)
    if content is not None:
        return {"bytes": content, "path": None}
    return {"bytes": None, "path": os.path.join(folder, value)}


def modality_of(content: bytes) -> str | None:
    """The modality of an encoded file (a key of FILE_TYPES) by its first bytes; None if they are not known."""
    for modality, file_type in FILE_TYPES.items():
        if re.match(file_type.first_bytes, content, re.DOTALL):
            return modality
    return None


def _decoded(text: str) -> bytes | None:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):  # ValueError: characters that are not ASCII
        return None


def encoded_file(value: dict[str, Any]) -> io.BytesIO | str:
    """What a decoder can open: a stream of the bytes, or a path.

    Any path is allowed, since the file is only read, and only decoded to pixels or samples. It may also be the address
    that datasets gives to a file in an archive or in a Hub repository. Paths in users' tables cannot be such
    addresses, since the folder of the table is put in front of them.

    Args:
        value: {"bytes": encoded file or None, "path": its path}.

    Raises:
        ValueError: there is no such file, it is empty, it is a folder, device or pipe (reading these might never end),
            or the path is any other URL, which is not downloaded.
    """
    if value["bytes"] is not None:
        return io.BytesIO(value["bytes"])
    path = value["path"]
    if len(path) > LONGEST_PATH:
        raise ValueError(f"a text of {len(path)} characters, neither a path nor an image or sound as base64 text")
    if _ADDRESS.match(path):
        return io.BytesIO(_content_at(path))
    if (url := _ADDRESS.search(path)) is not None:
        raise _not_fetched(path[url.start() :])
    _check_is_file(path)
    return path


def _check_is_file(path: str) -> None:
    if not os.path.isfile(path):
        raise ValueError("a folder, device or pipe, not a file" if os.path.lexists(path) else "there is no such file")
    if os.path.getsize(path) == 0:  # also files in /proc, some of which would block
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
    """A file of a zip archive on the disk.

    datasets would read the archive's directory again for every file, which takes 1.5 seconds if it has 50,000 files.
    """
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
    """An open archive. `process` keeps forked processes apart, which would otherwise share a position in the file."""
    return zipfile.ZipFile(path)
