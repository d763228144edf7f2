"""Reads checkpoints of other programs. No class or function that they name is imported or called."""

import re
import zipfile
from pathlib import Path
from pickletools import genops
from typing import Any

import torch
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

_MOST_LISTED = 12  # names of weights, one by one
_STRIP = (
    "If you trust the file, strip it once where the program that wrote it is installed: "
    'checkpoint = torch.load("OLD.pt", map_location="cpu", weights_only=False), then '
    'torch.save({"model": checkpoint["model"]}, "NEW.pt"), with the other weights that you need under their own keys. '
    "Settings that are lost by this are given with --config_overrides."
)


class Inert:
    """Stands for an object of a class that is not imported. It keeps what was saved of the object and does nothing."""

    values: tuple[Any, ...]  # what it was called with
    state: Any  # what was set afterwards

    def __new__(cls, *values: Any) -> "Inert":  # without __init__, which is not called for most objects
        inert = super().__new__(cls)
        inert.values, inert.state = values, None
        return inert

    def __setstate__(self, state: Any) -> None:
        self.state = state


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The dictionary that `torch.save` wrote to a file, with tensors on the CPU.

    It is read with `weights_only=True`. Objects of other classes than torch's and Python's own, which the programs put
    beside the weights (a `Namespace`, a dictionary of words, settings of OmegaConf), become `Inert`.

    Raises:
        ValueError: there is no such file, or it cannot be read, or it holds no dictionary.
    """
    if not path.is_file():
        raise ValueError(
            f"{str(path)!r} is not a file. A checkpoint that torch.save wrote is expected, such as checkpoint_best.pt."
            + (" A folder that AutoModel loads needs no conversion." if path.is_dir() else "")
        )
    try:
        archive = zipfile.is_zipfile(path)
        # Names that torch knows keep their meaning.
        named = get_unsafe_globals_in_checkpoint(path) if archive else _names_in_old_format(path)
        with safe_globals([(Inert, name) for name in named]):
            # An archive is mapped into memory, so that the state of the optimizer is never read.
            checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=archive)
    except Exception as error:  # of many types, by what is damaged
        # Around its reason, torch advises to run what is in the file.
        reason = str(error).partition("Check the documentation of torch.load")[0].strip().rpartition("\n")[2]
        raise ValueError(
            f"The checkpoint {str(path)!r} cannot be read ({type(error).__name__}: {reason}). {_STRIP}"
        ) from error
    if not isinstance(checkpoint, dict):
        raise ValueError(
            f"The checkpoint {str(path)!r} holds a {type(checkpoint).__name__}, and a dictionary with weights is "
            "expected."
        )
    return checkpoint


def _names_in_old_format(path: Path) -> set[str]:
    """The classes and functions that a file of torch before 1.6 names: four pickles, and then the weights."""
    names = set()
    with path.open("rb") as file:
        for _ in range(4):
            names |= {str(argument).replace(" ", ".") for code, argument, _ in genops(file) if code.name == "GLOBAL"}
    return names


def plain(value: Any) -> Any:
    """Settings as dictionaries, lists and simple values, whichever class they were saved in.

    A `Namespace` becomes a dictionary, and so do OmegaConf's containers. Of a member of an enumeration, the value is
    kept, or the name if it was saved by that, as by Python 3.11.2. A reference to another setting that was not
    resolved, "${task.data}", is None.
    """
    if isinstance(value, Inert):
        if isinstance(value.state, dict):
            for content in ("_content", "_val"):  # of OmegaConf's containers and of what they contain
                if content in value.state:
                    return plain(value.state[content])
            return plain(value.state)
        arguments = [item for item in value.values if item is not Inert]  # which stand for classes
        return plain(arguments[0]) if arguments else None
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return None if isinstance(value, str) and value.startswith("${") else value


def tensors_of(state: Any) -> dict[str, Tensor]:
    """The tensors of a state dict. What else lies in it, such as a nested state dict, is left out."""
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}


def summarised(names: set[str] | list[str]) -> str:
    """Names of weights; where there are many, those that differ in numbers only are counted as one.

    Of twenty blocks, "blocks.0.bias" and so on become "blocks.*.bias (20)".
    """
    if len(names) <= _MOST_LISTED:
        return ", ".join(sorted(names))
    alike: dict[str, list[str]] = {}
    for name in sorted(names):
        alike.setdefault(re.sub(r"\.\d+(?=\.|$)", ".*", name), []).append(name)
    return ", ".join(f"{pattern} ({len(of)})" if len(of) > 1 else of[0] for pattern, of in alike.items())
