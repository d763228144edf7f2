"""What differs between images, text and speech in a run: processor, samples, collator, and the probe's features."""

from importlib import import_module

from .base import Modality

_CLASSES = {"vision": "Vision", "text": "Text", "speech": "Speech"}


def modality_class(name: str) -> type[Modality]:
    """The class of "vision", "text" or "speech"; only its own module is imported, since each needs other packages."""
    found: type[Modality] = getattr(import_module(f".{name}", __name__), _CLASSES[name])
    return found


__all__ = ["Modality", "modality_class"]
