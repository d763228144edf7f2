"""Settings as users give them: flags of a command line, recipes (files of flags) and keyword arguments of Python.

`recipes.py` finds and reads recipes, `flags.py` brings what is given into one form, words of a command line, and
`parsing.py` makes dataclasses of these. `help.py` explains the flags.
"""

from .flags import Chosen, Flags, as_flags, flags_of_settings, flags_of_words, require_inputs
from .logs import log_to_terminal, start_logging
from .parsing import CommandParser, names_in, parse

__all__ = [
    "Chosen",
    "CommandParser",
    "Flags",
    "as_flags",
    "flags_of_settings",
    "flags_of_words",
    "log_to_terminal",
    "names_in",
    "parse",
    "require_inputs",
    "start_logging",
]
