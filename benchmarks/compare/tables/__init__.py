"""The tables, a module each, found by its name: a class `Table` that fills in `benchmarks.compare.table.Table`."""

from importlib import import_module

from ..table import Table

NAMES = ("images", "text", "speech", "series", "proteins", "robustness", "cost", "health")
"""All tables, in the order in which `docs/results.md` has them."""


def table_class(name: str) -> type[Table]:
    """The class of a table; its module is imported now, since each needs other packages."""
    found: type[Table] = import_module(f"{__name__}.{name}").COMPARISON
    return found
