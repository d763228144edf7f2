"""Encoded files as datasets keeps them undecoded: bytes in the row, or a path; and files that are base64 text."""

import base64
import binascii
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

# How encoded files begin, by which one that is text is known.
_SIGNATURES = {
    "vision": rb"\x89PNG\r\n|\xff\xd8\xff|GIF8|BM|II\*\0|MM\0\*|RIFF....WEBP|\0\0\0\x0cjP|....ftypavif",
    "speech": rb"RIFF....WAVE|fLaC|OggS|ID3|\xff[\xfb\xf3\xf2]|FORM....AIF|\.snd",
}
_BASE64 = re.compile(r"[A-Za-z0-9+/\s]+={0,2}\s*")
_DATA_URL = re.compile(r"data:[^,]{0,100};base64,")
LONGEST_PATH = 4096  # characters, of the systems that we know of
_BEGINNING = 32  # characters that hold any signature


def base64_content(text: str) -> bytes | None:
    """The image or sound file that a string, or a data URL, holds as base64 text; None if it holds none."""
    url = _DATA_URL.match(text)
    encoded = text[url.end() :] if url else text
    if modality_of(_decoded(encoded.lstrip()[:_BEGINNING]) or b"") is None or not _BASE64.fullmatch(encoded):
        return None
    return _decoded(encoded)


def modality_of(content: bytes) -> str | None:
    """Whether an encoded file is an image ("vision") or sound ("speech"), by its first bytes."""
    for modality, signature in _SIGNATURES.items():
        if re.match(signature, content, re.DOTALL):
            return modality
    return None


def _decoded(text: str) -> bytes | None:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):  # ValueError: characters that are not ASCII
        return None


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
