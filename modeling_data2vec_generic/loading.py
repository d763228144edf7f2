"""Errors of what reads files that others wrote, as one kind."""

from collections.abc import Iterator
from contextlib import contextmanager


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
