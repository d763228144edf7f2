"""Names and types of columns: whatever a source calls them becomes `image`, `text`, `audio`, `series` or `video`, and
`label`."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow
from datasets import Array2D, Audio, ClassLabel, Dataset, Features, Image, LargeList, List, Value
from transformers.utils import logging

from .arguments import DataArguments
from .cache_keys import renewed
from .summary import note

logger = logging.get_logger(__name__)

CONTENT_COLUMN = {"vision": "image", "text": "text", "speech": "audio", "series": "series", "video": "video"}
_WORDS_COLUMN = "tokens"  # as data sets for token classification call it; `text` once it is canonical
_UNDECODED = {"vision": Image(decode=False), "speech": Audio(decode=False), "video": List(Image(decode=False))}
_LABELS = frozenset(("label", "labels", "category", "categories", "class", "classes", "target", "targets"))
_LISTED = 10  # classes that are named in the summary
_MOST_CLASSES = 100_000
# Whether a column holds files is seen when it is cast to the types above; these have to be of the right type already.
_EXPECTED = {
    "text": "strings",
    "words": "lists of words, or strings of which each letter is one",
    "series": "lists of numbers, or of lists with a number per channel",
}


def holds(feature: Any, kind: str) -> bool:
    """Whether a column of this type is made for a modality, or for "words", text that is split already."""
    if kind == "text":
        return isinstance(feature, Value) and feature.dtype in ("string", "large_string")
    if kind == "words":
        return holds(feature, "text") or _is_list(feature, lambda item: holds(item, "text"))
    if kind == "series":
        return isinstance(feature, Array2D) or _is_numbers(feature) or _is_list(feature, _is_numbers)
    if kind == "video":
        return _is_list(feature, lambda item: isinstance(item, Image))
    return isinstance(feature, Image if kind == "vision" else Audio)


def is_whole_number(feature: Any) -> bool:
    """Whether a column of this type holds whole numbers."""
    return isinstance(feature, Value) and feature.dtype.startswith(("int", "uint"))


def is_number(feature: Any) -> bool:
    """Whether a column of this type holds numbers, with a fraction or without."""
    return is_whole_number(feature) or (isinstance(feature, Value) and feature.dtype.startswith("float"))


def _is_list(feature: Any, holds_item: Callable[[Any], bool]) -> bool:
    return isinstance(feature, List | LargeList) and holds_item(feature.feature)


def _is_numbers(feature: Any) -> bool:
    return _is_list(feature, is_number)


def content_column(dataset: Dataset, modality: str, args: DataArguments, split: str, words: bool = False) -> str:
    """The column the model reads: the one named by flag, else of the usual name, else the only one of its type, that
    of the labels left aside."""
    kind = "words" if words else modality
    usual = _WORDS_COLUMN if words else CONTENT_COLUMN[modality]
    flag = f"{CONTENT_COLUMN[modality]}_column_name"
    chosen = getattr(args, flag)
    if chosen is None:
        of_type = [
            name
            for name, feature in dataset.features.items()
            if holds(feature, kind) and name != args.label_column_name
        ]
        if usual in dataset.features:
            chosen = usual
        elif len(of_type) == 1:
            chosen = of_type[0]
        else:
            raise ValueError(
                f"The {split} data have no column '{usual}' and {len(of_type)} that hold {kind}. "
                f"Name the column with --{flag}; there are: {_listed(dataset)}."
            )
    _require(dataset, chosen, flag, split)
    if kind in _EXPECTED and not holds(dataset.features[chosen], kind):
        raise ValueError(
            f"{flag}={chosen!r} holds {dataset.features[chosen]} in the {split} data, not {_EXPECTED[kind]}. "
            f"Choose another column: {_listed(dataset)}."
        )
    return chosen


def canonical(
    dataset: Dataset,
    modality: str,
    args: DataArguments,
    split: str,
    further: Mapping[str, str] | None = None,
    words: bool = False,
) -> Dataset:
    """Columns `image`, `text`, `audio`, `series` or `video` (files not decoded), `label` if there is one (as the
    source has it), those of `further`, and `sample_index`: the row's number in the source, which stays with it through
    every later selection. With `words`, `text` is a list of words or a string of letters.

    Args:
        further: for NAME, which a flag NAME_column_name stands for, the column that is to be called so.
    """
    content = content_column(dataset, modality, args, split, words)
    usual = CONTENT_COLUMN[modality]
    if args.label_column_name is not None:
        _require(dataset, args.label_column_name, "label_column_name", split)
        if args.label_column_name == content:
            raise ValueError(f"label_column_name={content!r} is the column of the data. Name another one.")
    label = args.label_column_name or "label"
    _note_other_labels(dataset.features, args, split)
    renamed = {content: usual}
    if label in dataset.features and label != content:
        renamed[label] = "label"
    for name, column in (further or {}).items():
        _require(dataset, column, f"{name}_column_name", split)
        if column in renamed:
            raise ValueError(f"{name}_column_name={column!r} is used as {renamed[column]!r} already: name another.")
        renamed[column] = name
    dataset = dataset.select_columns(list(renamed))
    dataset = dataset.rename_columns({old: new for old, new in renamed.items() if old != new})
    try:  # parquet and json readers take strings as they are, and Python fails when they are used
        dataset.data.validate(full=True)
    except pyarrow.ArrowInvalid as error:
        raise ValueError(
            f"The {split} data are damaged: {error}. Columns of strings ({', '.join(renamed)}) have to be UTF-8."
        ) from error
    if modality in _UNDECODED:
        dataset = undecoded(dataset, usual, modality, args, split, f"{usual}_column_name={content!r}")
    return renewed(dataset.add_column("sample_index", np.arange(len(dataset))))


def undecoded(dataset: Dataset, column: str, modality: str, args: DataArguments, split: str, flag: str) -> Dataset:
    """The same rows with files of a modality in a column, not decoded. Paths start from the folder of the table. What
    is made of the rows and kept in the cache is made again once a file has changed.

    Args:
        flag: how the column is called in messages.

    Raises:
        ValueError: the column's type is none of files.
    """
    found = dataset.features[column]
    table = args.train_file if split == "train" else args.validation_file
    if table is not None or args.dataset_name is not None:  # the paths of a folder's files are made by us
        folder = os.curdir if table is None else os.path.dirname(os.path.abspath(table))
        dataset = _located(dataset, column, folder)
    try:
        return renewed(dataset.cast_column(column, _UNDECODED[modality]), column)
    except (TypeError, ValueError, NotImplementedError) as error:  # datasets' and pyarrow's, by the type found
        raise ValueError(
            f"{flag} holds {found} in the {split} data, which cannot be read as {modality}: expected "
            f"{'lists of ' if modality == 'video' else ''}encoded files (bytes) or paths to them."
        ) from error


def _located(dataset: Dataset, column: str, folder: str) -> Dataset:
    """The same rows; if the column holds paths, or lists of paths, they start from the folder."""
    if holds(dataset.features[column], "text"):
        plain: Any = Value("string")  # a csv has large strings, which datasets can't cast to files
    elif _is_list(dataset.features[column], lambda item: holds(item, "text")):
        plain = List(Value("string"))
    else:
        return dataset
    features = Features({**dataset.features, column: plain})
    options = {"column": column, "folder": folder}
    return dataset.map(_join, batched=True, input_columns=column, fn_kwargs=options, features=features)


def _join(paths: list[Any], column: str, folder: str) -> dict[str, list[Any]]:
    """Absolute paths stay as they are."""

    def joined(path: Any) -> Any:
        if isinstance(path, list):
            return [joined(item) for item in path]
        return path and os.path.join(folder, path)

    return {column: [joined(path) for path in paths]}


def encode_labels(splits: dict[str, Dataset], args: DataArguments) -> dict[str, Dataset]:
    """The same splits with `label` as ClassLabel, numbered alike in all of them by the classes of `train`.

    Without a label column that can be used, or with one class only, no split has labels afterwards. A ValueError for a
    column that the user named and that cannot be used, and for validation classes that training does not know.
    """
    lacking = [split for split, dataset in splits.items() if "label" not in dataset.features]
    if lacking:
        if len(lacking) < len(splits):
            logger.warning(f"The {lacking[0]} data have no label column: labels are left out, and so is the probe.")
        note("train", f"There is no probe, since the {' and the '.join(lacking)} data have no labels.")
        return {split: _without_label(dataset) for split, dataset in splits.items()}

    try:
        values = {split: _class_names(dataset, split) for split, dataset in splits.items()}
    except ValueError as error:
        if args.label_column_name is not None:
            raise
        logger.warning(f"{error} Labels are left out, and so is the probe.")
        note("train", f"There is no probe: {error}")
        return {split: _without_label(dataset) for split, dataset in splits.items()}
    names = in_order(values["train"], splits["train"].features["label"])
    if len(names) < 2:
        note("train", f"There is no probe, since all rows are of one class ({', '.join(names)}).")
        return {split: _without_label(dataset) for split, dataset in splits.items()}

    counts = Counter(values["train"])
    listed = [f"{name} ({counts[name]})" for name in names[:_LISTED]]
    note("train", f"{len(names)} classes: {', '.join([*listed, '...'] if len(names) > _LISTED else listed)}.")
    number = {name: position for position, name in enumerate(names)}
    for split, found in values.items():
        if unseen := sorted(set(found) - set(number)):
            raise ValueError(
                f"The {split} data have {len(unseen)} classes that the training data lack ({', '.join(unseen[:5])}). "
                f"Use the same classes in both; training has {len(names)}: {', '.join(names[:20])}."
            )
    encoded = {}
    for split, dataset in splits.items():
        column = np.array([number[name] for name in values[split]])
        encoded[split] = _without_label(dataset).add_column("label", column, feature=ClassLabel(names=names))
    return encoded


def in_order(found: Iterable[str], feature: Any) -> list[str]:
    """The classes that labels of this type are numbered by: all of a ClassLabel, in its order; else those found, whole
    numbers by their value."""
    if isinstance(feature, ClassLabel):
        return list(feature.names)
    return sorted(set(found), key=int if is_whole_number(feature) else None)


def _class_names(dataset: Dataset, split: str) -> list[str]:
    """The class of every row as a string, whatever type the column has."""
    feature = dataset.features["label"]
    raw = dataset["label"][:]
    if isinstance(feature, ClassLabel):
        if beyond := [value for value in raw if value is not None and value >= feature.num_classes]:
            raise ValueError(
                f"The label column of the {split} data holds {beyond[0]}, and its type has "
                f"{feature.num_classes} classes."
            )
        # -1 is the Hub's convention for test rows whose class is kept secret
        names = [feature.int2str(value) for value in raw if value is not None and value >= 0]
    elif isinstance(feature, Value) and feature.dtype.startswith(("int", "uint", "string", "large_string", "bool")):
        names = [str(value) for value in raw if value is not None]
    else:
        raise ValueError(
            f"The label column of the {split} data holds {feature}, not classes: expected whole numbers or strings. "
            "Name another column with --label_column_name."
        )
    if (classes := len(set(names))) > _MOST_CLASSES:
        raise ValueError(
            f"The label column of the {split} data holds {classes} different values, more than {_MOST_CLASSES}: it "
            "seems to name rows rather than classes. Name another column with --label_column_name."
        )
    if len(names) < len(raw):
        raise ValueError(
            f"{len(raw) - len(names)} of {len(raw)} {split} rows have no label: label or remove them. In a csv file "
            "words such as None, NA and null say that there is none."
        )
    return names


def _note_other_labels(features: Features, args: DataArguments, split: str) -> None:
    """Say that a column of a name that is usual for labels is passed over."""
    found = [name for name in features if name.lower() in _LABELS]
    if args.label_column_name is None and "label" not in features and found:
        flags = " or ".join(f"--label_column_name {name}" for name in found)
        note(split, f"The column {' or '.join(map(repr, found))} is not used as label. If it is one, add {flags}.")


def _without_label(dataset: Dataset) -> Dataset:
    return dataset.remove_columns("label") if "label" in dataset.features else dataset


def _require(dataset: Dataset, column: str, flag: str, split: str) -> None:
    if column not in dataset.features:
        raise ValueError(f"{flag}={column!r} is not a column of the {split} data. There are: {_listed(dataset)}.")


def _listed(dataset: Dataset) -> str:
    return ", ".join(dataset.column_names)
