"""What differs between kinds of data in a run: processor, samples, collator, and the probe's features."""

from importlib import import_module

from .base import Modality

_CLASSES = {"vision": "Vision", "text": "Text", "speech": "Speech", "series": "Series", "video": "Video"}


def modality_class(name: str) -> type[Modality]:
    """The class of one of MODALITIES; only its own module is imported, since each needs other packages."""
    found: type[Modality] = getattr(import_module(f".{name}", __name__), _CLASSES[name])
    return found


__all__ = ["Modality", "modality_class"]
