"""What differs between kinds of data: a folder for each, with its decoding, preparation,
collator, preset and mask picture.

Read `base_modality.py` first, which says what a run asks of any kind, then `modality.py` in one of the folders.
"""

from importlib import import_module

from .base_modality import Modality


def modality_class(name: str) -> type[Modality]:
    """The class of one of MODALITIES; only its own module is imported, since each needs other packages."""
    found: type[Modality] = getattr(import_module(f".{name}.modality", __name__), name.capitalize())
    return found


__all__ = ["Modality", "modality_class"]
