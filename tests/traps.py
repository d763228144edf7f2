"""What hostile hands put into a pickle."""

import pathlib
from pathlib import Path


class WritesFile:
    """An object that makes a file when a pickle of it is read."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return pathlib.Path.touch, (self.path,)
