"""Settings as users give them: flags of a command line, recipes (files of flags) and keyword arguments of Python.

`recipes.py` finds and reads recipes, `flags.py` brings what is given into one form, words of a command line, and
`parsing.py` makes dataclasses of these.
"""

from .flags import Flags, as_flags, flags_of_settings, flags_of_words
from .logs import log_to_terminal, start_logging
from .parsing import names_in, parse
from .recipes import Purpose, Recipe, all_recipes, examples_folder, read_recipe, recipe_called

__all__ = [
    "Flags",
    "Purpose",
    "Recipe",
    "all_recipes",
    "as_flags",
    "examples_folder",
    "flags_of_settings",
    "flags_of_words",
    "log_to_terminal",
    "names_in",
    "parse",
    "read_recipe",
    "recipe_called",
    "start_logging",
]
