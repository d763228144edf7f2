"""Encoded files as datasets keeps them undecoded: bytes in the row, or a path."""

import io
import os
from typing import Any


def encoded_file(value: dict[str, Any]) -> io.BytesIO | str:
    """What a decoder opens, from {"bytes": encoded file or None, "path": its path}.

    A path may be absolute or lead anywhere: it is read and never written, and nothing but pixels or samples are made
    of what it holds.

    Raises:
        ValueError: the path is not that of a file with content. A URL is not fetched, and a device or pipe not read,
            since that might never end.
    """
    if value["bytes"] is not None:
        return io.BytesIO(value["bytes"])
    path = value["path"]
    if "://" in path:
        raise ValueError(f"{path!r} is a URL, which is not fetched: download it and give the path")
    if not os.path.isfile(path):
        raise ValueError("a folder, device or pipe, not a file" if os.path.lexists(path) else "there is no such file")
    if os.path.getsize(path) == 0:  # also the files of /proc, some of which wait for events
        raise ValueError("an empty file")
    return path
