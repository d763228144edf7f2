"""Finds the columns that are used and gives them canonical names and types, for all sources alike.

The canonical names are `image`, `text`, `audio`, `series` or `video` for the data, and `label`.
"""

import os
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow
import pyarrow.compute
from datasets import ClassLabel, Dataset, Features, Image, Value
from datasets.fingerprint import Hasher
from numpy.typing import NDArray
from transformers.utils import logging

from ..arguments import SOURCE_FLAGS, VALIDATION_FLAGS, DataArguments
from ..cache_keys import renewed
from ..column_types import is_array, is_list, is_number, is_text, is_whole_number
from ..encoded_files import file_of
from ..kinds_of_data import KINDS
from ..quality.screening import good_rows
from ..summary import note
from ..tables.table import Table
from ..tables.untyped.value_types import PROBLEM, typed_labels
from .array_columns import arrays_as_files
from .listing import is_given, source_name
from .local_folders import is_saved

logger = logging.get_logger(__name__)

_WORDS_COLUMN = "tokens"  # the usual name in datasets for token classification; its canonical name is `text`
_LABELS = frozenset(("label", "labels", "category", "categories", "class", "classes", "target", "targets"))
# Usual names of columns of paths, for paths whose extensions do not show what the files are.
_PATHS = ("file_name", "file", "path", "filename", "filepath", "file_path")
ABOUT_SAMPLES = ("__key__", "__url__")  # columns of WebDataset with the name of a sample and of its archive
_CLS = "cls"  # the column of WebDataset with the class of a sample
_FEWEST_TIMES = 4  # with fewer numbered columns they are not taken as the times of a series
_LISTED = 10  # classes and columns that are named in the summary
_MOST_CLASSES = 100_000
_WORDS_EXPECTED = "lists of words, or strings of which each letter is one"
_LAYOUT = {
    "series": (
        " A row is a series: one column of lists of numbers (jsonl, parquet), or a column of numbers for each time "
        "(t0, t1, ...)."
    )
}


def holds(feature: Any, kind: str) -> bool:
    """Whether a column of this type can hold a kind of data, or "words", that is, text that is split already."""
    if kind == "words":
        return is_text(feature) or is_list(feature, is_text)
    return KINDS[kind].column_holds(feature)


def may_hold(columns: Mapping[str, Any], modality: str) -> bool:
    """Whether a table with these columns (types by name) can be read as a modality."""
    if KINDS[modality].column in columns or any(holds(feature, modality) for feature in columns.values()):
        return True
    if modality == "series" and times_of(columns):
        return True
    return bool(_file_columns(columns, modality, ()))


def chosen_columns(
    features: Features,
    modality: str,
    args: DataArguments,
    split: str,
    further: Mapping[str, str] | None = None,
    words: bool = False,
    untyped: bool = False,
    source: str = "",
) -> dict[str, str | tuple[str, ...]]:
    """Chooses the columns that are read.

    Args:
        features: the types of all columns of the source.
        modality: the modality of the data.
        args: the flags.
        split: the split, for messages.
        further: more columns to read, by the canonical names that they get. A flag NAME_column_name names each.
        words: whether the text is split into words: a list of words, or a string in which each letter is a word.
        untyped: whether any column can be read as text, as in csv and JSON files.
        source: what the source is called, and how it is read, for the summary.

    Returns:
        The columns by canonical name: that of the data, `label` if there is one, and those of `further`. If a series
        has one column for each time, it is the tuple of these columns.

    Raises:
        ValueError: a column does not exist, is used twice or has a type that cannot be used, or it is not clear which
            column is meant.
    """
    chosen: dict[str, str | tuple[str, ...]] = {}
    label = label_column(features, args)
    others = {label, *ABOUT_SAMPLES, *(further or {}).values()}
    content = content_column(features, modality, args, split, others, words, untyped)
    if args.label_column_name is not None:
        _require(features, label, "label_column_name", split)
        if label == content:
            raise ValueError(f"label_column_name={content!r} is the column of the data. Name another one.")
    chosen[KINDS[modality].column] = content
    _note_other_labels(features, args, split)
    if label in features and label != content:
        chosen["label"] = label
    for name, column in (further or {}).items():
        _require(features, column, f"{name}_column_name", split)
        used = next((other for other, taken in chosen.items() if taken == column), None)
        if used is not None:
            raise ValueError(f"{name}_column_name={column!r} is used as {used!r} already: name another.")
        chosen[name] = column
    _note_columns(chosen, features, split, source)
    return chosen


def columns_of_source(
    rows: Any,
    modality: str,
    args: DataArguments,
    split: str,
    further: Mapping[str, str] | None = None,
    words: bool = False,
) -> dict[str, str | tuple[str, ...]]:
    """Chooses the columns of an open source: a table, or rows that know their `features`. The rest as above.

    Raises:
        ValueError: also if a file of a table lacks a column that is used.
    """
    flags = SOURCE_FLAGS if split == "train" or not is_given(args, VALIDATION_FLAGS) else VALIDATION_FLAGS
    source, untyped = source_name(args, flags), False
    if isinstance(rows, Table):
        source, untyped = f"{source} ({rows.layout})", rows.untyped
    chosen = chosen_columns(rows.features, modality, args, split, further, words, untyped, source)
    if isinstance(rows, Table):
        rows.check(chosen)
    return chosen


def label_column(features: Mapping[str, Any], args: DataArguments) -> str:
    """The column that is the label if it exists: the one of the flag, or `label`, which a WebDataset calls `cls`."""
    name = args.label_column_name or "label"
    of_webdataset = {_CLS, ABOUT_SAMPLES[0]} <= features.keys()
    return _CLS if name == "label" and of_webdataset and name not in features else name


def content_column(
    features: Features,
    modality: str,
    args: DataArguments,
    split: str,
    others: Collection[str] = (),
    words: bool = False,
    untyped: bool = False,
) -> str | tuple[str, ...]:
    """Chooses the column that the model reads; arguments and errors as `chosen_columns`.

    It is the one that a flag names, else the one with the canonical name (`tokens` for words), else the only one with
    a suitable type, else, for images and sound, the only one with a usual name for paths. Columns in `others` are not
    considered. For series it may be a tuple of columns, one for each time.
    """
    kind = "words" if words else modality
    usual = _WORDS_COLUMN if words else KINDS[modality].column
    flag = KINDS[modality].column_flag
    chosen = getattr(args, flag)
    if chosen is None:
        of_type = [name for name, feature in features.items() if holds(feature, kind) and name not in others]
        times = times_of(features, others) if modality == "series" and not of_type else ()
        paths = [] if of_type else _file_columns(features, modality, others)
        if usual in features:
            chosen = usual
        elif times:
            return times
        elif len(of_type or paths) == 1:
            chosen = (of_type or paths)[0]
        else:
            choices = of_type or paths
            found_are = f"{len(choices)} that {'may ' if paths else ''}hold" if choices else "none that holds"
            raise ValueError(
                f"The {split} data have no column '{usual}' and {found_are} {kind}. "
                f"Name the column with --{flag}; there are: {', '.join(choices or features)}."
                f"{_LAYOUT.get(modality, '')}"
            )
    _require(features, chosen, flag, split)
    found = features[chosen]
    expected = _WORDS_EXPECTED if words else KINDS[modality].expected
    as_text = untyped and kind in ("text", "words") and isinstance(found, Value)
    in_folder = is_text(found) and _start_of_paths(args, split) is None  # files that `load_folder` has found
    as_file = modality == "series" and (in_folder or isinstance(found, Image) or found == Value("binary"))
    if expected and not (holds(found, kind) or as_text or as_file or (untyped and found == Value("null"))):
        raise ValueError(
            f"{flag}={chosen!r} holds {found} in the {split} data, not {expected}. "
            f"Choose another column: {_listed(features)}."
        )
    if KINDS[modality].file_type is not None and is_number(found):
        raise _no_files(f"{flag}={chosen!r}", found, split, modality)
    return str(chosen)


def times_of(features: Mapping[str, Any], others: Collection[str] = ()) -> tuple[str, ...]:
    """The columns of a table of series with one column for each time, in order.

    They hold numbers, and their names are the same text, or nothing, followed by consecutive numbers: t0, t1, ... or
    0, 1, ... The result is empty if there is no such group of at least four columns, or several.
    """
    groups: dict[str, dict[int, str]] = defaultdict(dict)
    for name, feature in features.items():
        if is_number(feature) and name not in others and (parts := re.fullmatch(r"(.*?)(\d+)", name)):
            groups[parts[1]][int(parts[2])] = name
    found = [group for group in groups.values() if len(group) >= _FEWEST_TIMES]
    if len(found) != 1:
        return ()
    numbers = sorted(found[0])
    if numbers[-1] - numbers[0] != len(numbers) - 1:
        return ()
    return tuple(found[0][number] for number in numbers)


def _file_columns(features: Mapping[str, Any], modality: str, others: Collection[str]) -> list[str]:
    """The columns that may hold files of a modality whose rows are one file each, if no type of a column says so."""
    if KINDS[modality].file_type is None or KINDS[modality].several_files:
        return []
    arrays = [name for name, feature in features.items() if modality == "series" and isinstance(feature, Image)]
    found = arrays or [name for name in _PATHS if name in features and is_text(features[name])]
    return [name for name in found if name not in others]


def _note_columns(chosen: Mapping[str, str | tuple[str, ...]], features: Features, split: str, source: str) -> None:
    taken = [
        f"{column!r} as {name}"
        if isinstance(column, str)
        else f"{len(column)} columns from {column[0]!r} to {column[-1]!r} as one {name}"
        for name, column in chosen.items()
    ]
    used = {name for column in chosen.values() for name in ([column] if isinstance(column, str) else column)}
    left = [name for name in features if name not in used]
    more = f", and {len(left) - _LISTED} more" if len(left) > _LISTED else ""
    left_out = f"; left out: {', '.join(left[:_LISTED])}{more}" if left else ""
    note(split, f"Columns{f' of {source}' if source else ''}: {', '.join(taken)}{left_out}.")


def renamed(dataset: Dataset, chosen: Mapping[str, str | tuple[str, ...]]) -> Dataset:
    """The dataset with the chosen columns only, under their canonical names."""
    names = {column: name for name, column in chosen.items() if isinstance(column, str)}
    dataset = dataset.select_columns(list(names))
    return dataset.rename_columns({old: new for old, new in names.items() if old != new})


def canonical(
    dataset: Dataset, modality: str, args: DataArguments, split: str, labels: str | None = "any", first: int = 0
) -> Dataset:
    """Gives the columns their canonical types and adds `sample_index`.

    `sample_index` is the number of the row in the source, and stays the same when rows are selected later. Files are
    not decoded. Rows that could not be read are left out (`good_rows`).

    Args:
        dataset: the chosen columns under their canonical names. With a column PROBLEM, from csv or JSON, its labels
            are given one type here.
        modality: the modality of the data.
        args: the flags.
        split: the split, for messages.
        labels: the type that labels are given: "any" (one that all of them have), "text" or "numbers"; see
            `typed_labels`. None leaves them out.
        first: the number of the first row.

    Raises:
        ValueError: the column of the data does not hold files, or too many rows are bad.
    """
    usual, flag = KINDS[modality].column, KINDS[modality].column_flag
    if labels is None:
        dataset = _without_label(dataset)
    is_numbers = modality == "series" and holds(dataset.features[usual], modality)
    if KINDS[modality].file_type is not None and not is_numbers:
        column = getattr(args, flag) or usual
        dataset = undecoded(dataset, usual, modality, args, split, f"{flag}={column!r}")
    # Keys are made of what the columns depend on: datasets would make several copies of them to make a key.
    key = Hasher.hash([dataset._fingerprint, "sample_index", first])
    dataset = dataset.add_column("sample_index", np.arange(first, first + len(dataset)), new_fingerprint=key)
    if PROBLEM in dataset.features:
        dataset = _without_problems(dataset, args, split, labels or "any")
    elif labels == "text" and "label" in dataset.features and is_whole_number(dataset.features["label"]):
        dataset = dataset.cast_column("label", Value("string"))
    return renewed(dataset)


def _without_problems(dataset: Dataset, args: DataArguments, split: str, labels: str) -> Dataset:
    """The rows of a csv or JSON table that could be read, with labels of one type."""
    problems = [problem or "" for problem in dataset[PROBLEM][:]]
    dataset = dataset.remove_columns(PROBLEM)
    if "label" in dataset.features:
        values, odd = typed_labels(dataset["label"][:], labels, args.max_bad_fraction)
        for row, reason in odd.items():
            problems[row] = problems[row] or f"column {args.label_column_name or 'label'!r} holds {reason}"
        column = pyarrow.array(values)
        feature = Features.from_arrow_schema(pyarrow.schema([("label", column.type)]))["label"]
        dataset = dataset.remove_columns("label").add_column("label", column, feature=feature)
    if not any(problems):
        return dataset
    good = good_rows(problems, dataset, noun="row", split=split, max_bad_fraction=args.max_bad_fraction)
    return dataset.select(good)


def undecoded(dataset: Dataset, column: str, modality: str, args: DataArguments, split: str, flag: str) -> Dataset:
    """Gives a column the type of encoded files of a modality, without decoding them.

    Paths are relative to the folder of the table.

    Args:
        dataset: the rows.
        column: the column with the files.
        modality: the modality, whose rows are files.
        args: the flags.
        split: the split of the rows.
        flag: what the column is called in messages.

    Raises:
        ValueError: the column does not hold files.
    """
    found = dataset.features[column]
    if (folder := _start_of_paths(args, split)) is not None:
        dataset = _located(dataset, column, modality, folder)
    if is_array(found) and not KINDS[modality].several_files:
        dataset = arrays_as_files(dataset, column, KINDS[modality].feature, args)
    try:
        return dataset.cast_column(column, KINDS[modality].feature)
    except (TypeError, ValueError, NotImplementedError) as error:  # depends on the type that was found
        raise _no_files(flag, found, split, modality) from error


def _start_of_paths(args: DataArguments, split: str) -> str | None:
    """The folder that paths are relative to: that of a table, or of a local dataset.

    With a folder in front, a path is never taken for a URL, which must not be downloaded. None: paths of `load_folder`
    are complete.
    """
    tables = args.train_file if split == "train" else args.validation_file
    if tables is not None:
        return os.path.dirname(os.path.abspath(tables[0]))
    saved = args.train_dir if split == "train" else args.validation_dir
    if saved is not None and is_saved(saved[0]):
        return saved[0]
    return None if args.dataset_name is None else next(filter(os.path.isdir, args.dataset_name), os.curdir)


def _no_files(flag: str, found: Any, split: str, modality: str) -> ValueError:
    return ValueError(
        f"{flag} holds {found} in the {split} data, which cannot be read as {modality}: expected "
        f"{'lists of ' if KINDS[modality].several_files else ''}encoded files (bytes) or paths to them."
    )


def _located(dataset: Dataset, column: str, modality: str, folder: str) -> Dataset:
    """The same rows, with strings (or lists of strings) in the column turned into files.

    See `file_of` for what strings are. Columns of other types stay as they are, among them those of tables with the
    data, whose strings are turned into files when they are read.
    """
    feature = dataset.features[column]
    if not holds(feature, "words"):
        return dataset
    # Not by a cast, since datasets cannot cast large strings, which csv files give, to files.
    features = Features({**dataset.features, column: KINDS[modality].feature})
    options = {"column": column, "folder": folder}
    return dataset.map(_as_files, batched=True, input_columns=column, fn_kwargs=options, features=features)


def _as_files(strings: list[Any], column: str, folder: str) -> dict[str, list[Any]]:
    return {column: [file_of(string, folder) for string in strings]}


def encode_labels(splits: dict[str, Dataset], args: DataArguments) -> dict[str, Dataset]:
    """The same splits with `label` as ClassLabel, with the classes of `train` in all of them.

    If a split has no labels that can be used, or all rows have the same class, labels are removed from all splits.

    Raises:
        ValueError: the user named a label column that cannot be used, or the validation data have other classes.
    """
    lacking = [split for split, dataset in splits.items() if "label" not in dataset.features]
    if lacking:
        if len(lacking) < len(splits):
            logger.warning(f"The {lacking[0]} data have no label column: labels are left out, and so is the probe.")
        note("train", f"There is no probe, since the {' and the '.join(lacking)} data have no labels.")
        return {split: _without_label(dataset) for split, dataset in splits.items()}

    try:
        found = {split: _classes_of(dataset, split) for split, dataset in splits.items()}
    except ValueError as error:
        if args.label_column_name is not None:
            raise
        logger.warning(f"{error} Labels are left out, and so is the probe.")
        note("train", f"There is no probe: {error}")
        return {split: _without_label(dataset) for split, dataset in splits.items()}
    own, numbers = found["train"]
    names = in_order(own, splits["train"].features["label"])
    if len(names) < 2:
        note("train", f"There is no probe, since all rows are of one class ({', '.join(names)}).")
        return {split: _without_label(dataset) for split, dataset in splits.items()}

    counts = dict(zip(own, np.bincount(numbers, minlength=len(own)).tolist(), strict=True))
    listed = [f"{name} ({counts.get(name, 0)})" for name in names[:_LISTED]]
    note("train", f"{len(names)} classes: {', '.join([*listed, '...'] if len(names) > _LISTED else listed)}.")
    number = {name: position for position, name in enumerate(names)}
    for split, (own, _) in found.items():
        if unseen := sorted(set(own) - set(number)):
            raise ValueError(
                f"The {split} data have {len(unseen)} classes that the training data lack ({', '.join(unseen[:5])}). "
                f"Use the same classes in both; training has {len(names)}: {', '.join(names[:20])}."
            )
    encoded = {}
    for split, dataset in splits.items():
        own, numbers = found[split]
        column = np.array([number[name] for name in own], dtype=np.int64)[numbers]
        key = Hasher.hash([dataset._fingerprint, "label", names])
        dataset = _without_label(dataset)
        encoded[split] = dataset.add_column("label", column, feature=ClassLabel(names=names), new_fingerprint=key)
    return encoded


def in_order(found: Iterable[str], feature: Any) -> list[str]:
    """The names of the classes in the order of their numbers.

    These are all classes of a ClassLabel in its own order, or otherwise the ones in `found`, sorted by name, or by
    value if they are whole numbers.
    """
    if isinstance(feature, ClassLabel):
        return list(feature.names)
    return sorted(set(found), key=int if is_whole_number(feature) else None)


def _classes_of(dataset: Dataset, split: str) -> tuple[list[str], NDArray[np.int64]]:
    """The names of the classes that rows have, and the position of each row's class among them, (N,).

    Raises:
        ValueError: the column does not hold classes, or a row has none.
    """
    feature = dataset.features["label"]
    raw = column_of(dataset, "label")
    if isinstance(feature, ClassLabel):
        beyond = raw.filter(pyarrow.compute.greater_equal(raw, feature.num_classes))
        if len(beyond):
            raise ValueError(
                f"The label column of the {split} data holds {beyond[0]}, and its type has "
                f"{feature.num_classes} classes."
            )
        # -1 is the convention of the Hub for test rows whose class is not published.
        known = raw.filter(pyarrow.compute.greater_equal(raw, 0))
    elif isinstance(feature, Value) and feature.dtype.startswith(("int", "uint", "string", "large_string", "bool")):
        known = raw.drop_null()
    else:
        raise ValueError(
            f"The label column of the {split} data holds {feature}, not classes: expected whole numbers or strings. "
            "Name another column with --label_column_name."
        )
    encoded = known.combine_chunks().dictionary_encode()
    if (classes := len(encoded.dictionary)) > _MOST_CLASSES:
        raise ValueError(
            f"The label column of the {split} data holds {classes} different values, more than {_MOST_CLASSES}: it "
            "seems to name rows rather than classes. Name another column with --label_column_name."
        )
    if len(known) < len(raw):
        raise ValueError(
            f"{len(raw) - len(known)} of {len(raw)} {split} rows have no label: label or remove them. In a csv file "
            "an empty cell says that there is none."
        )
    values = encoded.dictionary.to_pylist()
    names = feature.int2str(values) if isinstance(feature, ClassLabel) else list(map(str, values))
    return names, encoded.indices.to_numpy().astype(np.int64)


def column_of(dataset: Dataset, name: str) -> pyarrow.ChunkedArray:
    """All values of a column, not decoded, without an object for each."""
    return dataset.select_columns(name).with_format("arrow")[:][name]


def _note_other_labels(features: Features, args: DataArguments, split: str) -> None:
    """Notes in the summary that a column with a usual name for labels is not used."""
    found = [name for name in features if name.lower() in _LABELS]
    if args.label_column_name is None and label_column(features, args) not in features and found:
        flags = " or ".join(f"--label_column_name {name}" for name in found)
        note(split, f"The column {' or '.join(map(repr, found))} is not used as label. If it is one, add {flags}.")


def _without_label(dataset: Dataset) -> Dataset:
    return dataset.remove_columns("label") if "label" in dataset.features else dataset


def _require(features: Features, column: str, flag: str, split: str) -> None:
    if column not in features:
        raise ValueError(f"{flag}={column!r} is not a column of the {split} data. There are: {_listed(features)}.")


def _listed(features: Features) -> str:
    return ", ".join(features)
