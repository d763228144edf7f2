"""Finds the files that the values of a flag name: files, patterns of files, and folders of them."""

import glob
from collections.abc import Callable, Iterator
from pathlib import Path

from datasets.data_files import get_data_patterns
from transformers.utils import logging

logger = logging.get_logger(__name__)

_NAMED = 5  # files that are named in a message
_ABOUT_THE_DATA = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")


def found_files(values: list[str], flag: str, is_table: Callable[[Path], bool]) -> list[Path]:
    """The files that the values of a flag name, absolute, each once, in the order of the values.

    A value is the path of a file, a pattern such as `more/**/*.csv`, or the path of a folder, for all tables below it.
    Files of patterns and folders are sorted by their paths. Among several files, empty ones (0 bytes) are left out
    with a warning.

    Args:
        values: the values.
        flag: the flag, for messages.
        is_table: whether a file of a folder is a table, by its name.

    Raises:
        ValueError: a value names no file, a folder has several splits, or all files are empty.
    """
    paths = list(dict.fromkeys(path.absolute() for value in values for path in _named(value, flag, is_table)))
    return without_empty(paths, f"{flag}={values[0]!r}" if len(values) == 1 else f"{flag}={values!r}")


def without_empty(paths: list[Path], name: str) -> list[Path]:
    """The files that are not empty (0 bytes); a warning names the others.

    Args:
        paths: the files of a source.
        name: what they are called in messages.

    Raises:
        ValueError: all of them are empty.
    """
    empty = [path for path in paths if path.stat().st_size == 0]
    if len(empty) == len(paths):
        raise ValueError(f"{name} is empty (0 bytes). Give a file with rows.")
    if empty:
        named = ", ".join(map(str, empty[:_NAMED])) + ", ..." * (len(empty) > _NAMED)
        logger.warning(f"{len(empty)} of {len(paths)} files of {name} are empty (0 bytes) and left out: {named}.")
    return [path for path in paths if path not in set(empty)]


def _named(value: str, flag: str, is_table: Callable[[Path], bool]) -> list[Path]:
    path = Path(value)
    if path.is_dir():
        return _below(path, flag, is_table)
    if path.exists() or not glob.has_magic(value):
        if not path.is_file():
            raise ValueError(f"{flag}={value!r} is not a file. Check the path.")
        return [path]
    found = sorted(file for file in map(Path, glob.glob(value, recursive=True)) if file.is_file())
    if not found:
        raise ValueError(f"{flag}={value!r} matches no file. Check the pattern, and quote it on the command line.")
    return found


def _below(folder: Path, flag: str, is_table: Callable[[Path], bool]) -> list[Path]:
    splits = list(get_data_patterns(glob.escape(str(folder.absolute())))) if any(_visible(folder)) else ["train"]
    if splits != ["train"]:
        raise ValueError(
            f"{flag}={str(folder)!r} has the splits {', '.join(map(str, splits))}: give it as --train_dir, "
            "which keeps them apart, or name the files of one."
        )
    found = [path for path in _visible(folder) if is_table(path) and path.name not in _ABOUT_THE_DATA]
    if not found:
        raise ValueError(f"{flag}={str(folder)!r} is a folder without files of tables. Check the path.")
    return found


def _visible(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not any(part.startswith((".", "_")) for part in path.relative_to(folder).parts):
            yield path
