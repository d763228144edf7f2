"""Recipes: files of flags, in JSON or YAML. Those of the package are in `examples/` and can be given by their name."""

import difflib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

ENDINGS = (".json", ".yaml", ".yml")
FINETUNING = "finetuning"  # the folder of the recipes for fine-tuning, in that of each kind of data
Purpose = Literal["pretrain", "finetune"]  # the command that a recipe is for


@dataclass(frozen=True)
class Recipe:
    """A recipe of the package.

    Args:
        name: its path in the folder of examples, without the ending, such as "vision/digits".
        path: where the file is.
    """

    name: str
    path: Path

    @property
    def purpose(self) -> Purpose:
        return "finetune" if f"/{FINETUNING}/" in self.name else "pretrain"

    @property
    def kind(self) -> str:
        """The folder of its kind of data, such as "vision"."""
        return self.name.split("/")[0]

    @property
    def names(self) -> list[str]:
        """All names that it can be given by, the shortest first: "digits" and "vision/digits"."""
        parts = self.name.replace(f"/{FINETUNING}/", "/").split("/")
        return ["/".join(parts[first:]) for first in reversed(range(len(parts)))]


def examples_folder() -> Path:
    """The folder of examples: within the package where a wheel is installed, and beside the package in a clone."""
    package = Path(__file__).parents[1]
    return next(folder for folder in (package / "examples", package.parent / "examples") if folder.is_dir())


def all_recipes() -> list[Recipe]:
    """The recipes of the package, those for pre-training first, ordered by their names."""
    folder = examples_folder()
    paths = [*folder.glob("*/*.json"), *folder.glob(f"*/{FINETUNING}/*.json")]
    recipes = [Recipe(path.relative_to(folder).with_suffix("").as_posix(), path) for path in paths]
    return sorted(recipes, key=lambda recipe: (recipe.purpose == "finetune", recipe.name))


def find_recipe(name: str, purpose: Purpose) -> Path:
    """The file of a recipe that is given by its path, or of one of the package that is given by its name.

    Args:
        name: a path, or a name such as "digits" or "vision/digits".
        purpose: the command that the recipe is for. A fine-tuning recipe may have the name of a pre-training recipe.

    Raises:
        ValueError: there is no such recipe, or several recipes have this name.
    """
    if name.lower().endswith(ENDINGS):
        return Path(name)
    recipes = [recipe for recipe in all_recipes() if recipe.purpose == purpose]
    found = [recipe for recipe in recipes if name in recipe.names]
    if len(found) == 1:
        return found[0].path
    if found:
        listed = ", ".join(recipe.names[-1] for recipe in found)
        raise ValueError(f"{name!r} is the name of several recipes. Name the folder too: {listed}.")
    near = nearest(name, (known for recipe in recipes for known in recipe.names))
    raise ValueError(
        f"There is no recipe {name!r} of `data2vec {purpose}`. Did you mean {' or '.join(near)}? `data2vec recipes "
        f"list` shows all of them. A file of your own ends in {', '.join(ENDINGS)}."
    )


def nearest(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """The known names that are most like a name, the best first: `count` at most, and at least one."""
    known = list(dict.fromkeys(known))
    return difflib.get_close_matches(name, known, count) or difflib.get_close_matches(name, known, 1, cutoff=0)


def read_recipe(path: Path) -> dict[str, Any]:
    """The settings of a recipe by their names.

    Raises:
        ValueError: there is no such file, it cannot be read, or it does not hold an object of flags.
    """
    if not path.is_file():
        raise ValueError(
            f"There is no recipe {path}. `data2vec recipes list` shows those of the package, which are given by name."
        )
    kind = "JSON" if path.suffix.lower() == ".json" else "YAML"
    try:
        content = path.read_bytes()  # both parsers detect the encoding
        recipe = json.loads(content) if kind == "JSON" else yaml.load(content, _YamlLoader)
    except (ValueError, RecursionError, yaml.YAMLError) as error:  # ValueError: also bad UTF-8 and huge numbers
        raise ValueError(f"The recipe {path} is not valid {kind}: {error}.") from error
    except OSError as error:
        raise ValueError(f"The recipe {path} cannot be read: {error.strerror}. Check its permissions.") from error
    if not isinstance(recipe, dict):
        raise ValueError(f"The recipe {path} holds a {type(recipe).__name__} where an object of flags is expected.")
    if empty := [name for name, value in recipe.items() if isinstance(value, list) and None in value]:
        raise ValueError(f"The recipe {path} has null within the list of {', '.join(empty)}. Remove it.")
    return recipe


class _YamlLoader(yaml.SafeLoader):
    """A YAML loader that follows YAML 1.2 in two points where PyYAML does not.

    It reads yes, no, on and off as strings, since flags have them as values, and 1e-4 as a number.
    """

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_YamlLoader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("^(true|True|TRUE|false|False|FALSE)$"), "tTfF")
_YamlLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"), "-+.0123456789"
)
