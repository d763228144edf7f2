"""`data2vec recipes`: lists, shows and copies the recipes that come with the package."""

import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..cli import CommandParser
from ..cli.recipes import FINETUNING, Recipe, all_recipes, examples_folder, recipe_called

_TITLES = {"pretrain": "Pre-training: data2vec pretrain NAME", "finetune": "Fine-tuning: data2vec finetune NAME"}
_COLUMNS = {
    "pretrain": ("name", "modality", "objective", "data", "time"),
    "finetune": ("name", "modality", "after", "data", "time"),
}
_NOTE = f"""
Times are rough, and those of one or two cores of a CPU. `data2vec recipes show NAME` says how the data of a recipe are
fetched, and what it holds; of a fine-tuning recipe, NAME is {FINETUNING}/NAME there.
"""


def main(argv: list[str] | None = None) -> None:
    """Runs `list`, the default, `show` or `copy`.

    Args:
        argv: the words after `recipes`; default: those of this process.

    Raises:
        ValueError: there is no recipe of this name, or a file that would be copied exists with another content.
    """
    parser = CommandParser(prog="data2vec recipes", description=(__doc__ or "").split(": ", 1)[1])
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("list", help="a table of all recipes (the default)")
    show = commands.add_parser("show", help="the settings of a recipe, and the commands that run it")
    copy = commands.add_parser("copy", help="write a recipe, with all of its kind of data, to a folder")
    for command in (show, copy):
        command.add_argument("name", help='such as "digits", "text/data2vec_base" or "finetuning/digits"')
    copy.add_argument(
        "folder", nargs="?", type=Path, default=Path(), help="where a folder of examples is made (default: here)"
    )
    arguments = parser.parse_args(argv)
    if arguments.command == "show":
        sys.stdout.write(shown(recipe_called(arguments.name)))
    elif arguments.command == "copy":
        folder = copied(recipe_called(arguments.name), arguments.folder)
        sys.stdout.write(f"{folder} holds the recipe. Its README.md explains it.\n")
    else:
        sys.stdout.write(table())


def table() -> str:
    """All recipes, those of each command in a table."""
    lines = []
    for purpose, title in _TITLES.items():
        rows = [_row(recipe) for recipe in all_recipes() if recipe.purpose == purpose]
        lines += [title, "", *_aligned([_COLUMNS[purpose], *rows]), ""]
    return "\n".join(lines) + _NOTE


def shown(recipe: Recipe) -> str:
    """A recipe in words, the commands that run it, and its file."""
    return "\n".join(
        [
            f"{recipe.name}: {recipe.data}. Time: {recipe.time}.",
            "",
            *(f"    {command}" for command in recipe.commands()),
            "",
            f"{recipe.path}:",
            recipe.path.read_text(encoding="utf-8"),
        ]
    )


def copied(recipe: Recipe, folder: Path) -> Path:
    """Copies the recipes of a kind of data, with their README and the scripts that fetch data.

    Args:
        recipe: one of this kind.
        folder: what is copied lies in `examples/` in there, as the READMEs have it.

    Returns:
        The folder of this kind.

    Raises:
        ValueError: a file exists with another content. Nothing is copied then.
    """
    source, target = examples_folder(), folder / "examples"
    files = [*source.glob("*.py"), *(path for path in (source / recipe.kind).rglob("*") if path.is_file())]
    files = [path.relative_to(source) for path in files if "__pycache__" not in path.parts]
    for file in files:
        present = target / file
        if present.exists() and present.read_bytes() != (source / file).read_bytes():
            raise ValueError(f"{present} exists, and differs from what would be copied. Name another folder.")
    for file in files:
        (target / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / file, target / file)
    return target / recipe.kind


def _row(recipe: Recipe) -> tuple[str, ...]:
    what = recipe.source.short_name if recipe.source else recipe.settings["objective"]
    return recipe.short_name, recipe.kind, what, recipe.data, recipe.time


def _aligned(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
