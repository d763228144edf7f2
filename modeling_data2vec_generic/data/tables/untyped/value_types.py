"""The types of values in csv and JSON files, which do not state them: inferred from the values of a column."""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import PurePath
from typing import Any

import pyarrow
from datasets import Features, List, Value

from ...encoded_files import LONGEST_PATH, base64_content, modality_of
from ...kinds_of_data import FILE_TYPES, KINDS

PROBLEM = "problem"  # column of csv and JSON tables that says what is wrong with a row; None if nothing

# An encoded file as datasets stores it. Its type becomes Image or Audio later, which would be asked to encode it here.
_FILE = {"bytes": Value("binary"), "path": Value("string")}
# The types of the columns with the data, by their canonical names, for the kinds of data whose rows are files.
FILE_COLUMNS: dict[str, Any] = {
    kind.column: List(_FILE) if kind.several_files else _FILE for kind in KINDS.values() if kind.file_type is not None
}

_FILES_AT_LEAST = 0.9  # share of a column's strings that have to name files if it is to be a column of files
# Whole numbers as Python writes them; 007 and +5 are names. More digits do not fit into 64 bits.
_WHOLE = re.compile(r"-?(0|[1-9]\d{0,17})")
_NUMBER = re.compile(r"[+-]?((0|[1-9]\d*)(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_LARGEST = 2**63  # whole numbers below it fit into 64 bits
_SHOWN = 40  # characters of a value in a message


def infer_feature(values: Iterable[Any]) -> Any:
    """The feature of `datasets` for these values.

    It is Image or Audio for strings that are paths of such files or hold them as base64 text, and Value("null") if no
    type fits.
    """
    present = [value for value in values if value is not None]
    kinds = {type(value) for value in present}
    if not present:
        return Value("null")
    if kinds == {str}:
        named = _named_files(present)
        return Value("string") if named is None else FILE_TYPES[named].feature
    if kinds == {list}:
        return List(infer_feature(item for value in present for item in value))
    if kinds == {bool}:
        return Value("bool")
    if kinds <= {int, float}:
        return Value("float64" if float in kinds else "int64")
    if kinds <= {int, float, bool, str}:
        return Value("string")
    try:
        return Features.from_arrow_schema(pyarrow.schema([("values", pyarrow.infer_type(present))]))["values"]
    except (pyarrow.ArrowException, ValueError):
        return Value("null")  # such a column cannot be used


def as_number(cell: str | None, decimal: str = ".") -> int | float | str | None:
    """The number that a cell of a csv file holds, otherwise its text. `decimal` is the decimal separator."""
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
    """Text as it is, and numbers as JSON writes them. ValueError for anything else."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int | float):
        return json.dumps(value)
    raise ValueError(f"{shown(value)}, not text")


def as_file(value: Any) -> Any:
    """A path or base64 text, or an encoded file as datasets stores it. ValueError for anything else."""
    if value is None or isinstance(value, str | dict):
        return value
    raise ValueError(f"{shown(value)}, not a path")


def as_list(value: Any) -> list[Any] | None:
    """The value, if it is a list or None. ValueError otherwise."""
    if value is None or isinstance(value, list):
        return value
    raise ValueError(f"{shown(value)}, not a list")


def as_numbers(value: Any) -> list[Any] | None:
    """The value, if it is a list of numbers, or of lists of numbers, or None. ValueError otherwise."""
    values = as_list(value)
    for item in values or ():
        if isinstance(item, list):
            as_numbers(item)
        elif item is not None and (isinstance(item, bool) or not isinstance(item, int | float)):
            raise ValueError(f"{shown(item)} among its numbers")
    return values


def shown(value: Any) -> str:
    """A value as shown in messages: at most 40 characters of its `repr`."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def column_of(
    values: Sequence[Any], convert: Callable[[Any], Any], kind: pyarrow.DataType
) -> tuple[pyarrow.Array, dict[int, str]]:
    """Converts the values of a column.

    Returns:
        The converted values as an array, with None for each value that cannot be converted; and the reasons why these
        cannot, by their position.
    """
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
    """Finds one type for all labels.

    If all labels are whole numbers, all strings, all booleans or all lists, they stay what they are. If there are
    numbers with a fraction, and at most `most_odd` of the labels are something else, they are numbers, since classes
    are not numbered by fractions; the others are left out. Otherwise all labels become text, as it is in the file.

    Args:
        texts: the labels as JSON text; None if a row has no label.
        wanted: "any" as above. "text": all labels except lists become text. "numbers": if there are numbers, all other
            labels are left out.
        most_odd: a share, as above.

    Returns:
        The labels, with None for those that are left out; and the reasons for leaving these out, by their position.
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
    except (ValueError, TypeError):  # the items have several types
        return [value and [None if item is None else as_text(item) for item in value] for value in values]
    return values


def _named_files(texts: list[str]) -> str | None:
    """The modality of the files that at least 90% of the strings name, or hold as base64 text; otherwise None."""
    counts = dict.fromkeys(FILE_TYPES, 0)
    for text in texts:
        content = base64_content(text)
        for modality, file_type in FILE_TYPES.items():
            named = _ending(text) in file_type.extensions if content is None else modality_of(content) == modality
            counts[modality] += named
    modality, most = max(counts.items(), key=lambda entry: entry[1])
    return modality if most >= _FILES_AT_LEAST * len(texts) else None


def _ending(text: str) -> str:
    return "" if len(text) > LONGEST_PATH or "\n" in text else PurePath(text).suffix.lower()
