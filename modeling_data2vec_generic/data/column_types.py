"""What columns of a table hold, by their types in `datasets`."""

from collections.abc import Callable, Mapping
from typing import Any

from datasets import Array2D, Array3D, Audio, Image, LargeList, List, Value


def is_text(feature: Any) -> bool:
    """Whether a column of this type holds strings."""
    return isinstance(feature, Value) and feature.dtype in ("string", "large_string", "string_view")


def is_whole_number(feature: Any) -> bool:
    """Whether a column of this type holds whole numbers."""
    return isinstance(feature, Value) and feature.dtype.startswith(("int", "uint"))


def is_number(feature: Any) -> bool:
    """Whether a column of this type holds numbers, with a fraction or without."""
    return is_whole_number(feature) or (isinstance(feature, Value) and feature.dtype.startswith("float"))


def is_list(feature: Any, holds_item: Callable[[Any], bool]) -> bool:
    """Whether a column of this type holds lists, and `holds_item` is true for the type of their items."""
    return isinstance(feature, List | LargeList) and holds_item(feature.feature)


def is_series(feature: Any) -> bool:
    """Whether a column of this type holds lists of numbers, or lists of such lists."""
    return isinstance(feature, Array2D) or _is_numbers(feature) or is_list(feature, _is_numbers)


def is_image(feature: Any) -> bool:
    """Whether a column of this type holds images: files, or arrays of three axes."""
    return isinstance(feature, Image | Array3D) or is_list(feature, lambda item: is_list(item, _is_numbers))


def is_array(feature: Any) -> bool:
    """Whether a column of this type holds arrays of up to three axes, or arrays of sound with their sampling rate."""
    is_grid = isinstance(feature, Array3D) or is_series(feature)
    return is_grid or is_list(feature, lambda item: is_list(item, _is_numbers)) or _is_sound_array(feature)


def is_sound(feature: Any) -> bool:
    """Whether a column of this type holds sound: files, or arrays with their sampling rate."""
    return isinstance(feature, Audio) or _is_sound_array(feature)


def holds_files(feature: Any) -> bool:
    """Whether a column of this type holds encoded files, or lists of these."""
    return isinstance(feature, Image | Audio) or is_list(feature, lambda item: isinstance(item, Image | Audio))


def is_clip(feature: Any) -> bool:
    """Whether a column of this type holds lists of images."""
    return is_list(feature, lambda item: isinstance(item, Image))


def _is_numbers(feature: Any) -> bool:
    return is_list(feature, is_number)


def _is_sound_array(feature: Any) -> bool:
    is_record = isinstance(feature, Mapping) and {"array", "sampling_rate"} <= feature.keys()
    return is_record and is_series(feature["array"]) and is_number(feature["sampling_rate"])
