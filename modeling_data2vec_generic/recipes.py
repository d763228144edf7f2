"""Recipes: JSON files of flags, which flags on the command line override; and what every script does with its log."""

import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from transformers import HfArgumentParser, TrainingArguments


def flags_of(argv: list[str]) -> list[str]:
    """Command line flags, with those of the recipe that `argv` may begin with in front."""
    if argv and argv[0].endswith(".json"):
        return recipe_flags(Path(argv[0])) + argv[1:]
    return argv


def parse(argv: list[str], groups: Iterable[Any]) -> tuple[Any, ...]:
    """One dataclass instance for each of `groups`; the flags of a recipe come before those of the command line."""
    flags = flags_of(argv)
    try:
        return HfArgumentParser(groups).parse_args_into_dataclasses(flags)
    except (ArithmeticError, AttributeError, LookupError, OSError, TypeError) as error:  # TrainingArguments, of "inf"
        raise ValueError(f"A flag has a value that cannot be used ({type(error).__name__}: {error}).") from error


def recipe_flags(path: Path) -> list[str]:
    """A recipe as command line flags."""
    if not path.is_file():
        raise ValueError(f"There is no recipe {path}. Recipes are JSON files such as examples/vision/digits.json.")
    try:
        recipe = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # of JSON, of UTF-8, of numbers with thousands of digits
        raise ValueError(f"The recipe {path} is not valid JSON: {error}.") from error
    if not isinstance(recipe, dict):
        raise ValueError(f"The recipe {path} holds a {type(recipe).__name__} where an object of flags is expected.")
    return as_flags(recipe)


def as_flags(settings: dict[str, Any]) -> list[str]:
    """Settings by name as command line flags; an empty list is "none"."""
    flags: list[str] = []
    for name, value in settings.items():
        values = (value or ["none"]) if isinstance(value, list) else [value]
        flags += [f"--{name}", *(json.dumps(item) if isinstance(item, dict) else str(item) for item in values)]
    return flags


def start_logging(arguments: TrainingArguments) -> None:
    """Log to the terminal as `--log_level` says; the package itself says what it does in any case."""
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=arguments.get_process_log_level())
    own_level = logging.INFO if arguments.should_log else logging.ERROR
    logging.getLogger("modeling_data2vec_generic").setLevel(own_level)
