"""Turns errors about files and folders into a ValueError that says what to do."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile


@contextmanager
def as_value_error(what: str, remedy: str) -> Iterator[None]:
    """Turns any exception raised inside the `with` block into a ValueError, with the original as its cause.

    Use it around calls of transformers, tokenizers, safetensors or torch that read files. The type of what they raise
    depends on which field of which file is damaged, and their messages seldom name the file.

    Args:
        what: the start of the message: what could not be done, and with which source.
        remedy: the end of the message: what the user can do.

    Raises:
        ValueError: the block raised an exception.
    """
    try:
        yield
    except Exception as error:
        raise ValueError(f"{what} ({type(error).__name__}: {error}). {remedy}") from error


def require_writable(folder: Path, what: str, remedy: str) -> None:
    """Checks that a file can be created in `folder` or, if that does not exist yet, in its nearest existing parent.

    Args:
        folder: the folder to check.
        what: the start of the message: what the folder is for.
        remedy: the end of the message: what the user can do.

    Raises:
        ValueError: no file can be created there.
    """
    try:
        with TemporaryFile(dir=next(path for path in (folder, *folder.absolute().parents) if path.exists())):
            pass
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(f"{what} {str(folder)!r} cannot be written ({reason}). {remedy}") from None
