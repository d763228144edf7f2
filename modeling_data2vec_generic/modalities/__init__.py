"""Everything that differs between kinds of data, with a folder for each kind.

Read `base_modality.py` first (what a run asks of any kind of data), then `base_collator.py` and `presets.py`, then
`modality.py` in one of the folders.
"""

from importlib import import_module

from .base_modality import Modality


def modality_class(name: str) -> type[Modality]:
    """The class of a modality, by its name. Only its own module is imported, since each needs other packages."""
    found: type[Modality] = getattr(import_module(f".{name}.modality", __name__), name.capitalize())
    return found


__all__ = ["Modality", "modality_class"]
