"""Errors of what reads files that others wrote, and of folders that can't be written, as one kind."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile


@contextmanager
def loading(what: str, remedy: str) -> Iterator[None]:
    """Whatever transformers, tokenizers, safetensors or torch raise inside becomes a ValueError, with it as the cause.

    Their types depend on which field of which file is damaged, and their messages seldom name the file.

    Args:
        what: what could not be done and with which source, to begin the message.
        remedy: what to do, to end it.
    """
    try:
        yield
    except Exception as error:
        raise ValueError(f"{what} ({type(error).__name__}: {error}). {remedy}") from error


def require_writable(folder: Path, what: str, remedy: str) -> None:
    """Raise a ValueError if no file can be made in the folder or, where it is not there yet, in what is to hold it.

    Args:
        what: what the folder is, to begin the message.
        remedy: what to do, to end it.
    """
    try:
        with TemporaryFile(dir=next(path for path in (folder, *folder.absolute().parents) if path.exists())):
            pass
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(f"{what} {str(folder)!r} cannot be written ({reason}). {remedy}") from None  # nothing is lost
