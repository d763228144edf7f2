"""Types of values that come without one, as those of csv and JSON files do: told by the values themselves, and of a
column that is used by all of them."""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import PurePath
from typing import Any

import pyarrow
from datasets import Audio, Features, Image, List, Value

from ..encoded_files import LONGEST_PATH, base64_content, modality_of
from ..file_types import EXTENSIONS

PROBLEM = "problem"  # column that says of each row of a table without types what is wrong with it, None if nothing

_FILE_FEATURES = {"vision": Image(decode=False), "speech": Audio(decode=False)}
_FILES_AT_LEAST = 0.9  # share of the strings that have to name files for the column to be one of files
# Whole numbers that are written as Python writes them: 007 and +5 are names. More digits do not fit into 64 bits.
_WHOLE = re.compile(r"-?(0|[1-9]\d{0,17})")
_NUMBER = re.compile(r"[+-]?((0|[1-9]\d*)(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_LARGEST = 2**63  # whole numbers below it fit into 64 bits
_SHOWN = 40  # characters of a value in a message


def told_by(values: Iterable[Any]) -> Any:
    """The feature of `datasets` for these values; of strings that name images or sound, or are images or sound as
    base64 text, Image or Audio."""
    present = [value for value in values if value is not None]
    kinds = {type(value) for value in present}
    if not present:
        return Value("null")
    if kinds == {str}:
        return _FILE_FEATURES.get(_named_files(present) or "", Value("string"))
    if kinds == {list}:
        return List(told_by(item for value in present for item in value))
    if kinds == {bool}:
        return Value("bool")
    if kinds <= {int, float}:
        return Value("float64" if float in kinds else "int64")
    if kinds <= {int, float, bool, str}:
        return Value("string")
    try:
        return Features.from_arrow_schema(pyarrow.schema([("values", pyarrow.infer_type(present))]))["values"]
    except (pyarrow.ArrowException, ValueError):
        return Value("null")  # nothing that a column could be used for


def as_number(cell: str | None, decimal: str = ".") -> int | float | str | None:
    """The number that a cell of a csv file holds, else its text."""
    if cell is None:
        return None
    text = cell.strip()
    if _WHOLE.fullmatch(text):
        return int(text)
    if text.isdecimal():  # a name, or too long for a whole number
        return cell
    if decimal != "." and text.count(decimal) == 1 and "." not in text:
        text = text.replace(decimal, ".")
    return float(text) if _NUMBER.fullmatch(text) else cell


def as_text(value: Any) -> str | None:
    """Text as it is, and numbers as they are written. ValueError for anything else."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int | float):
        return json.dumps(value)
    raise ValueError(f"{shown(value)}, not text")


def as_list(value: Any) -> list[Any] | None:
    """ValueError unless it is a list."""
    if value is None or isinstance(value, list):
        return value
    raise ValueError(f"{shown(value)}, not a list")


def as_numbers(value: Any) -> list[Any] | None:
    """A list of numbers, or of lists of them. ValueError for anything else."""
    values = as_list(value)
    for item in values or ():
        if isinstance(item, list):
            as_numbers(item)
        elif item is not None and (isinstance(item, bool) or not isinstance(item, int | float)):
            raise ValueError(f"{shown(item)} among its numbers")
    return values


def shown(value: Any) -> str:
    """A value in a message, cut to a length that can be read."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def column_of(
    values: Sequence[Any], convert: Callable[[Any], Any], kind: pyarrow.DataType
) -> tuple[pyarrow.Array, dict[int, str]]:
    """The converted values as an array, None in place of those that can't be, and for each of these the reason."""
    try:
        return pyarrow.array([convert(value) for value in values], kind), {}
    except (ValueError, TypeError, OverflowError):  # pyarrow's own are ValueErrors and TypeErrors
        pass
    problems: dict[int, str] = {}
    found: list[Any] = []
    for position, value in enumerate(values):
        try:
            converted = convert(value)
            pyarrow.array([converted], kind)
            found.append(converted)
        except (ValueError, TypeError, OverflowError) as error:
            problems[position] = str(error)
            found.append(None)
    return pyarrow.array(found, kind), problems


def typed_labels(texts: Sequence[str | None], wanted: str, most_odd: float) -> tuple[list[Any], dict[int, str]]:
    """Labels from their JSON text, of one type that all of them have, and for each that is left out the reason.

    Whole numbers stay what they are if every label is one, and so do numbers, lists, and true and false; else they are
    text as it stands in the file. Numbers with a fraction, of which a share of at most `most_odd` is something else,
    are numbers all the same, since nobody numbers classes by fractions.

    Args:
        wanted: "text" makes all but lists text, "numbers" leaves out what is none, if there are any.
    """
    values = [None if text is None else json.loads(text) for text in texts]
    kinds = {type(value) for value in values if value is not None}
    if kinds == {list}:
        return _lists(values), {}
    numbers = sum(type(value) in (int, float) for value in values)
    others = sum(value is not None for value in values) - numbers
    if (wanted == "numbers" and numbers) or (wanted == "any" and float in kinds and others <= most_odd * len(values)):
        odd = {position for position, value in enumerate(values) if type(value) not in (int, float, type(None))}
        problems = {position: f"{shown(values[position])}, not a number" for position in odd}
        return [None if position in odd else value for position, value in enumerate(values)], problems
    small = all(abs(value) < _LARGEST for value in values if type(value) is int)
    if wanted == "any" and len(kinds) <= 1 and kinds <= {int, str, bool} and small:
        return values, {}
    problems = {
        position: f"{shown(value)}, not a class"
        for position, value in enumerate(values)
        if isinstance(value, list | dict)
    }
    as_texts = [
        None if position in problems else value if isinstance(value, str) else text
        for position, (value, text) in enumerate(zip(values, texts, strict=True))
    ]
    return as_texts, problems


def _lists(values: list[Any]) -> list[Any]:
    try:
        pyarrow.array(values)
    except (ValueError, TypeError):  # of several types
        return [value and [None if item is None else as_text(item) for item in value] for value in values]
    return values


def _named_files(texts: list[str]) -> str | None:
    """The modality of files that strings name, or that they are as base64 text, if they are of one."""
    counts = dict.fromkeys(EXTENSIONS, 0)
    for text in texts:
        content = base64_content(text)
        for modality, extensions in EXTENSIONS.items():
            counts[modality] += _ending(text) in extensions if content is None else modality_of(content) == modality
    modality, most = max(counts.items(), key=lambda entry: entry[1])
    return modality if most >= _FILES_AT_LEAST * len(texts) else None


def _ending(text: str) -> str:
    return "" if len(text) > LONGEST_PATH or "\n" in text else PurePath(text).suffix.lower()
