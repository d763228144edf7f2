"""What a run was asked for, by a recipe and beside it, as words of a command line."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from .parsing import names_in, new_parser
from .recipes import ENDINGS, Purpose, all_recipes, find_recipe, read_recipe

_OF_FILES = ("__train_file", "__validation_file")  # flags with several values that may end like recipes, in one form
_LARGEST_RECIPE = 1_000_000  # bytes
# What of a recipe is left out where a flag beside it says which encoder to train, since that takes its place.
_NEW_ENCODER = ("config_overrides", "train_tokenizer", "tokenizer_vocab_size")
_OTHER_ENCODER = {
    "model_name_or_path": ("model_type", "config_name", *_NEW_ENCODER),
    "config_name": ("model_name_or_path", "model_type"),
    "model_type": ("model_name_or_path", "config_name"),
}


@dataclass(frozen=True)
class Chosen:
    """A setting that a run chooses for its data and its device.

    Args:
        value: as it is written in a recipe.
        reason: why this value, in words that go on from "since" or say what it does.
    """

    value: Any
    reason: str


@dataclass(frozen=True)
class Flags:
    """The flags of a run, as words of a command line. Those that are given override those of the recipe.

    A given encoder takes the place of the recipe's: its `model_name_or_path`, for instance, that of its `model_type`.

    Args:
        recipe: the file of the recipe; None without one, and for a recipe that is given as a dictionary.
        of_recipe: the flags of the recipe.
        given: the flags on the command line, or the keyword arguments in Python.
        chosen: settings that the run chooses itself, by name, where there is no recipe. All others override them.
    """

    recipe: Path | None
    of_recipe: list[str]
    given: list[str]
    chosen: Mapping[str, Chosen] = field(default_factory=dict)

    @property
    def all(self) -> list[str]:
        chosen = as_flags({name: setting.value for name, setting in self.chosen.items()})
        return [*chosen, *self.of_recipe, *self.given]

    def with_chosen(self, chosen: Mapping[str, Chosen]) -> "Flags":
        """The same flags with further settings that the run chooses."""
        return replace(self, chosen={**self.chosen, **chosen})


def flags_of_words(argv: list[str], groups: Iterable[Any], purpose: Purpose) -> Flags:
    """The flags of a command line.

    Args:
        argv: its words. A recipe of the package is given by its name, which is the first word. The path of another
            recipe may be at any place.
        groups: dataclasses whose fields are the flags.
        purpose: the command that the recipe is for.

    Raises:
        ValueError: there are several recipes, there is none of this name, or the recipe cannot be read.
    """
    parser = new_parser(groups)
    without_value = {name for action in parser._actions if action.nargs in (0, "?") for name in action.option_strings}
    known = {action.dest for action in parser._actions}
    places = [
        place
        for place, (before, word) in enumerate(zip(["", *argv], argv, strict=False))
        if _is_recipe(word) and not word.startswith("-") and not _takes_next(before, without_value)
        if not _is_among_files(argv[:place]) or _has_flags(Path(word), known)
    ]
    if argv and not argv[0].startswith("-"):
        places = sorted({0, *places})
    if len(places) > 1:
        raise ValueError(f"{' and '.join(argv[place] for place in places)} are several recipes: give one of them.")
    if not places:
        return Flags(None, [], argv)
    place = places[0]
    path = find_recipe(argv[place], purpose)
    given = argv[:place] + argv[place + 1 :]
    return Flags(path, as_flags(_kept(read_recipe(path), names_in(given, groups))), given)


def flags_of_settings(
    recipe: str | PathLike[str] | Mapping[str, Any] | None, settings: Mapping[str, Any], purpose: Purpose
) -> Flags:
    """The flags of a call in Python.

    Args:
        recipe: a recipe by its name, its path or its content; None for none.
        settings: values by the names of the flags, which override those of the recipe. None is the default of a flag,
            also where the recipe has another value.
        purpose: the function that the recipe is for.

    Raises:
        ValueError: there is no such recipe, or it cannot be read.
    """
    path = None
    if recipe is None or isinstance(recipe, Mapping):
        content = dict(recipe or {})
    else:
        path = find_recipe(fspath(recipe), purpose)
        content = read_recipe(path)
    kept = {name: value for name, value in content.items() if name not in settings}
    given = {name for name, value in settings.items() if value is not None}
    return Flags(path, as_flags(_kept(kept, given)), as_flags(settings))


def _kept(recipe: Mapping[str, Any], given: set[str]) -> dict[str, Any]:
    """A recipe without what given flags take the place of."""
    replaced = {name for flag in given & _OTHER_ENCODER.keys() for name in _OTHER_ENCODER[flag]}
    return {name: value for name, value in recipe.items() if name not in replaced}


def require_inputs(flags: Flags, groups: Iterable[Any]) -> None:
    """Makes sure that what a recipe of the package reads is there, unless flags override it.

    Raises:
        ValueError: something is not; the message has the commands that make it.
    """
    for recipe in all_recipes():
        if flags.recipe is not None and flags.recipe.resolve() == recipe.path.resolve():
            recipe.require_inputs(names_in(flags.given, groups))


def as_flags(settings: Mapping[str, Any]) -> list[str]:
    """Turns settings, by name, into words of a command line. An empty list becomes "none", and None is left out."""
    flags: list[str] = []
    for name, value in settings.items():
        if value is None:
            continue
        values = (list(value) or ["none"]) if isinstance(value, list | tuple) else [value]
        words = [_as_word(item) for item in values]
        # A word that begins with a dash would be taken for a flag.
        flags += [f"--{name}={words[0]}"] if words[0].startswith("-") and len(words) == 1 else [f"--{name}", *words]
    return flags


def _as_word(value: Any) -> str:
    if isinstance(value, dict):
        return json.dumps(value)
    return str(value.value if isinstance(value, Enum) else value)


def _is_recipe(word: str) -> bool:
    return word.lower().endswith(ENDINGS)


def _takes_next(word: str, without_value: set[str]) -> bool:
    """Whether `word` is a flag whose value is the next word. `without_value`: the flags that need no value."""
    return word.startswith("--") and "=" not in word and word not in without_value


def _is_among_files(before: list[str]) -> bool:
    """Whether a word may be a further value of a flag that takes files. `before`: the words before it."""
    flag = next((word for word in reversed(before) if word.startswith("--")), "")
    return flag.split("=")[0].replace("-", "_") in _OF_FILES


def _has_flags(path: Path, known: set[str]) -> bool:
    """Whether a file is a recipe, and not rows of data: an object whose names are flags, some of which are `known`."""
    try:
        recipe = read_recipe(path) if path.is_file() and path.stat().st_size < _LARGEST_RECIPE else {}
    except ValueError:
        return False
    return any(name in known for name, value in recipe.items() if value is not None)
