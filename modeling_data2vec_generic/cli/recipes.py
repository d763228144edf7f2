"""Recipes: files of flags, in JSON or YAML. Those of the package are in `examples/` and can be given by their name."""

import difflib
import json
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import yaml

ENDINGS = (".json", ".yaml", ".yml")
FINETUNING = "finetuning"  # the folder of the recipes for fine-tuning, in that of each kind of data
Purpose = Literal["pretrain", "finetune"]  # the command that a recipe is for

_CATALOGUE = "catalogue.json"  # in the folder of examples: what the recipes' own files do not say
_SOURCES = {"dataset_name", "train_file", "train_dir"}
_INPUTS = ("model_name_or_path", "train_file", "validation_file", "train_dir", "validation_dir")
# By the folder of the recipe, the data of a user's own that it takes, if it names none.
_OWN_DATA = {
    "protein": "train_file path/to/proteins.fasta",
    "series": "train_file path/to/series.parquet",
    "speech": "train_dir path/to/recordings",
    "text": "train_file path/to/text.txt",
    "video": "train_dir path/to/clips",
    "vision": "train_dir path/to/images",
}
_NOT_HERE = ("data/", "output/")  # beginnings of the paths of what scripts fetch and other recipes leave behind


@dataclass(frozen=True)
class Recipe:
    """A recipe of the package.

    Args:
        name: its path in the folder of examples, without the ending, such as "vision/digits".
        data: what it trains on, in a few words.
        time: how long it takes, in words; of the small recipes, on a CPU.
        fetch: the scripts that fetch its data, by their paths in the folder of examples, in the order to run them.
    """

    name: str
    data: str
    time: str
    fetch: Sequence[str] = ()

    @property
    def path(self) -> Path:
        return examples_folder() / f"{self.name}.json"

    @property
    def purpose(self) -> Purpose:
        return "finetune" if f"/{FINETUNING}/" in self.name else "pretrain"

    @property
    def kind(self) -> str:
        """The folder of its kind of data, such as "vision"."""
        return self.name.split("/")[0]

    @property
    def names(self) -> list[str]:
        """All names that it can be given by, such as "digits" and "vision/digits", the shortest first."""
        folders, short = self.name.split("/")[:-1], self.name.split("/")[-1]
        return [short, *(f"{folder}/{short}" for folder in folders), *([self.name] if len(folders) > 1 else [])]

    @property
    def short_name(self) -> str:
        """The shortest name that no other recipe for its command has."""
        others = [recipe for recipe in all_recipes() if recipe.purpose == self.purpose and recipe != self]
        return next(name for name in self.names if not any(name in other.names for other in others))

    def commands(self) -> list[str]:
        """The command lines that fetch what it needs, run what it starts from, and run it."""
        copied = [f"data2vec recipes copy {self.name}"] if self.fetch else []
        fetched = [f"python {examples_folder().name}/{script}" for script in self.fetch]
        before = [f"data2vec pretrain {self.source.short_name}"] if self.source else []
        data = "" if self.settings.keys() & _SOURCES else f" --{_OWN_DATA[self.kind]}"
        return [*copied, *fetched, *before, f"data2vec {self.purpose} {self.short_name}{data}"]

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What the file holds."""
        return read_recipe(self.path)

    @property
    def source(self) -> "Recipe | None":
        """The recipe whose result this one starts from, if it starts from one."""
        folder = self.settings.get("model_name_or_path")
        return next((other for other in all_recipes() if other.settings["output_dir"] == folder), None)

    def require_inputs(self, given: Collection[str]) -> None:
        """Makes sure that what the recipe reads is there. `given`: names of settings that are given in its place.

        Raises:
            ValueError: something is not; the message has the commands that make it.
        """
        read = [self.settings[name] for name in _INPUTS if name in self.settings and name not in given]
        lacking = [path for path in read if path.startswith(_NOT_HERE) and not Path(path).exists()]
        if lacking:
            listed, commands = " and ".join(lacking), "".join(f"\n    {command}" for command in self.commands())
            raise ValueError(
                f"The recipe reads {listed}, which is not in this folder. To make it, run here:{commands}"
            )


def examples_folder() -> Path:
    """The folder of examples: within the package where a wheel is installed, and beside the package in a clone."""
    package = Path(__file__).parents[1]
    return next(folder for folder in (package / "examples", package.parent / "examples") if folder.is_dir())


def all_recipes() -> list[Recipe]:
    """The recipes of the package, in the order of the catalogue: those for pre-training first."""
    content = json.loads((examples_folder() / _CATALOGUE).read_text(encoding="utf-8"))
    return [Recipe(name, **entry) for name, entry in content.items()]


def recipe_called(name: str, purpose: Purpose | None = None) -> Recipe:
    """The recipe of the package of this name.

    Args:
        name: such as "digits", "vision/digits" or "finetuning/digits".
        purpose: the command that it is for. Default: any, and of two that have the name, the one for pre-training.

    Raises:
        ValueError: there is no such recipe, or several recipes have this name.
    """
    recipes = [recipe for recipe in all_recipes() if purpose in (None, recipe.purpose)]
    found = [recipe for recipe in recipes if name in recipe.names]
    first = [recipe for recipe in found if recipe.purpose == "pretrain"]
    if len(first or found) == 1:
        return (first or found)[0]
    if found:
        listed = ", ".join(recipe.short_name for recipe in found)
        raise ValueError(f"{name!r} is the name of several recipes: {listed}. Give one of these names.")
    near = nearest(name, (known for recipe in recipes for known in recipe.names))
    for_command = "" if purpose is None else f" for `data2vec {purpose}`"
    raise ValueError(
        f"There is no recipe {name!r}{for_command}: did you mean {' or '.join(near)}? `data2vec recipes` lists all "
        f"of them. A file of your own ends in {', '.join(ENDINGS)}."
    )


def find_recipe(name: str, purpose: Purpose) -> Path:
    """The file of a recipe that is given by its path, or by its name if it is one of the package.

    Raises:
        ValueError: there is no recipe of this name, or several recipes have it.
    """
    return Path(name) if name.lower().endswith(ENDINGS) else recipe_called(name, purpose).path


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
            f"There is no recipe {path}. `data2vec recipes` lists those of the package, to be given by name."
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
