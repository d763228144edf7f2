"""Loads the rows of any source: built-in data, a folder, a file, or a dataset of `datasets.load_dataset`.

`load_raw_datasets` gives the rows of all sources the same form: the splits `train` and, if wanted, `validation`, with
the column `image`, `text`, `audio`, `series` or `video` (files not decoded), the column `sample_index` and, if there
are labels, the column `label`.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from datasets import Dataset, DatasetDict, Features, concatenate_datasets
from numpy.typing import NDArray
from transformers.utils import logging

from ..arguments import VALIDATION_FLAGS, DataArguments
from ..arrow_cache import is_checked, require_text
from ..folders.listing import listing_of
from ..folders.loading import load_folder, nothing_found
from ..kinds_of_data import KINDS
from ..quality.processes import most_processes
from ..splitting import SPLIT_SEED, split_positions, stratified, warn_of_validation
from ..summary import note
from ..tables.table import Table
from .built_in import BUILT_IN
from .columns import (
    ABOUT_SAMPLES,
    canonical,
    column_of,
    columns_of_source,
    encode_labels,
    holds,
    label_column,
    may_hold,
    renamed,
    times_of,
)
from .hub import builder_of, loading_hub, train_and_validation
from .listing import check_sources, is_given, separate_sources, source_name, sources_of
from .local_folders import holds_rows
from .mixing import Part, joined, mixed
from .opening import open_splits
from .streamed_source import stream_types

logger = logging.get_logger(__name__)


def infer_modality(args: DataArguments, encoder_reads: Callable[[], str | None] = lambda: None) -> str:
    """The modality: the one that the user gives, otherwise the one of the data.

    Args:
        args: the flags.
        encoder_reads: returns the main input of the encoder, such as "pixel_values", or None if it is not known.
            Columns that the encoder can read are preferred.

    Raises:
        ValueError: no training data are given, or their modality is not clear.
    """
    check_sources(args)
    if args.modality is not None:
        return args.modality
    found = {source_name(source): _modalities_of(source, encoder_reads) for source in sources_of(args)}
    modalities = list(dict.fromkeys(name for names in found.values() for name in names))
    if len(modalities) != 1 or not all(found.values()):
        held = " and ".join(modalities) or "no known modality"
        if len(found) > 1:
            held = "; ".join(f"{' and '.join(names) or 'nothing known'} in {name}" for name, names in found.items())
        raise ValueError(f"The data hold {held}: say which to use with --modality.")
    logger.info(f"modality={modalities[0]}, inferred from the data.")
    return modalities[0]


def _modalities_of(args: DataArguments, encoder_reads: Callable[[], str | None]) -> list[str]:
    """The modalities that a source may have; `args` are the flags of this source."""
    named = [modality for modality, kind in KINDS.items() if getattr(args, kind.column_flag)]
    if args.dataset_name is not None and args.dataset_name[0] in BUILT_IN:
        return [BUILT_IN[args.dataset_name[0]][0]]
    if named:
        return named
    if args.train_dir is not None and not holds_rows(args.train_dir[0]):
        files = listing_of(args.train_dir[0], "train_dir")
        found = files.modalities()
        if not found:
            raise ValueError(nothing_found(files, args.train_dir[0], "train_dir", "images or sound"))
        if "series" in found:  # arrays, of which only the encoder can say what they are
            reads = encoder_reads()
            found = [modality for modality in found if reads in KINDS[modality].read_by] or found
        return found
    # Without validation data, since reading a folder needs the modality.
    training = replace(args, validation_file=None, validation_dir=None)
    features = stream_types(training) if args.streaming else _open_splits(training, None)["train"].features
    return _modalities_of_columns(features, label_column(features, args), encoder_reads())


def _modalities_of_columns(features: Features, label: str, encoder_reads: str | None) -> list[str]:
    """The modalities that columns with these types and names may have. If it is clear, there is only one."""
    columns = {column: feature for column, feature in features.items() if column not in (label, *ABOUT_SAMPLES)}
    fitting = [name for name, kind in KINDS.items() if encoder_reads in kind.read_by and may_hold(columns, name)]
    if len(fitting) == 1:
        return fitting
    # Any data may have a column of strings (captions, paths, names) or of lists of numbers (features). The modality is
    # therefore text or series only if no other column or name decides.
    of_files = [name for name, kind in KINDS.items() if kind.file_type is not None and name != "series"]
    found = [name for name in of_files if any(holds(feature, name) for feature in features.values())]
    found = found or [name for name, kind in KINDS.items() if name != "text" and kind.column in features]
    found = found or ["text"] * ("text" in features)
    found = found or [name for name in ("text", "series") if any(holds(feature, name) for feature in columns.values())]
    return found or ["series"] * bool(times_of(features, [label]))


def load_raw_datasets(args: DataArguments, modality: str, validation: bool = True) -> DatasetDict:
    """Loads the splits `train` and `validation`; see the top of this file for their columns.

    If a source has no validation data, `validation_split_percentage` of its training rows are held out. Several
    sources are mixed by `dataset_weights` (see `mixed`), and so are only rows that are not held out.

    Args:
        args: the flags.
        modality: the modality of the data.
        validation: whether validation data are needed.

    Returns:
        `train` and, if it is needed and there are validation data or rows to hold out, `validation`.

    Raises:
        ValueError: data are missing or empty, or a column is missing or cannot be used.
    """
    splits, parts = _joined_splits(args, modality)
    if not validation:
        splits.pop("validation", None)
        parts = [part._replace(holds_out=False) for part in parts]
    splits = encode_labels(splits, args)
    in_order = modality == "text" and "label" not in splits["train"].features
    if args.validation_split_percentage > 0 and any(part.holds_out for part in parts):
        train, held_out = _held_out(parts, _labels(splits["train"]), args.validation_split_percentage / 100, in_order)
        note("validation", f"{len(held_out)} of {len(train) + len(held_out)} training rows are held out.")
        further = [splits["validation"]] if "validation" in splits else []
        splits["validation"] = concatenate_datasets([*further, splits["train"].select(held_out)])
    else:
        train = np.arange(len(splits["train"]))
    if args.dataset_weights is not None:
        splits["train"] = mixed(splits["train"], parts, train, in_order)
    elif len(train) < len(splits["train"]):
        splits["train"] = splits["train"].select(train)
    splits = limited(splits, args, _labels, in_order)
    if "validation" in splits and (labels := _labels(splits["validation"])) is not None:
        names = splits["validation"].features["label"].names
        warn_of_validation(len(labels), dict(zip(names, np.bincount(labels, minlength=len(names)), strict=True)))
    return DatasetDict(splits)


def _joined_splits(args: DataArguments, modality: str) -> tuple[dict[str, Dataset], list[Part]]:
    """The rows of all sources, one source after the other, and which training rows belong to which source.

    Validation rows are those of the flags, otherwise those of the sources that have some.
    """
    given = is_given(args, VALIDATION_FLAGS)
    train, validation, parts = [], {}, []
    start = number = 0
    for place, (source, weight) in enumerate(zip(separate_sources(args), args.dataset_weights or [1.0], strict=True)):
        name = source_name(source)
        splits, rows_read = read_source(source, modality, first=number)
        if "validation" in splits and not (given and place):
            validation[name] = splits["validation"]
        holds_out = not given and "validation" not in splits
        parts.append(Part(name, weight, start, start + len(splits["train"]), holds_out))
        train.append(splits["train"])
        start, number = parts[-1].stop, number + rows_read["train"]
    found = {"train": joined(train, [part.name for part in parts], "train")}
    if validation:
        found["validation"] = joined(list(validation.values()), list(validation), "validation")
    return found, parts


def _held_out(
    parts: list[Part], labels: NDArray[np.int64] | None, share: float, in_order: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The positions of the training rows that are kept and of those that are held out, from each source its share."""
    kept, held_out = [], []
    for part in parts:
        rows = part.stop - part.start
        if not part.holds_out:
            kept.append(np.arange(part.start, part.stop))
            continue
        own = None if labels is None else labels[part.start : part.stop]
        first, second = split_positions(rows, own, share, in_order)
        if not len(first) or not len(second):
            raise ValueError(
                f"The training data{f' of {part.name}' if len(parts) > 1 else ''} have one row, too few to split off "
                "validation rows. Add data, or set --validation_split_percentage 0."
            )
        kept.append(first + part.start)
        held_out.append(second + part.start)
    return np.concatenate(kept), np.concatenate(held_out)


def read_splits(
    args: DataArguments,
    modality: str,
    further: Mapping[str, str] | None = None,
    words: bool = False,
    labels: str = "any",
) -> dict[str, Dataset]:
    """Loads all rows of the source's own splits, with canonical columns.

    Args:
        args: the flags.
        modality: the modality of the data.
        further: as in `chosen_columns`.
        words: as in `chosen_columns`.
        labels: as in `canonical`.

    Raises:
        ValueError: as `load_raw_datasets`.
    """
    check_sources(args)
    return read_source(args, modality, further, words, labels)[0]


def read_source(
    args: DataArguments,
    modality: str,
    further: Mapping[str, str] | None = None,
    words: bool = False,
    labels: str = "any",
    first: int = 0,
) -> tuple[dict[str, Dataset], dict[str, int]]:
    """The splits of one source, and how many rows each has with the bad ones. Arguments and errors as `read_splits`.

    Args:
        first: the number of the first training row.
    """
    splits, counts = {}, {}
    for split, rows in _open_splits(args, modality).items():
        chosen = columns_of_source(rows, modality, args, split, further, words)
        if isinstance(rows, Table):
            dataset = rows.load(chosen, most_processes(args))
        else:
            dataset = renamed(rows, chosen)
            if not is_checked(dataset):
                _require_text(dataset, split)
        counts[split] = len(dataset)
        splits[split] = canonical(dataset, modality, args, split, labels, first if split == "train" else 0)
    return splits, counts


def _require_text(dataset: Dataset, split: str) -> None:
    try:
        require_text(dataset.data.table)
    except ValueError as error:
        raise ValueError(f"The {split} data are damaged: {error}.") from error


def limited(
    splits: dict[str, Dataset],
    args: DataArguments,
    classes: Callable[[Dataset], NDArray[np.int64] | None],
    in_order: bool = False,
) -> dict[str, Dataset]:
    """The same splits with at most `max_train_samples` and `max_eval_samples` rows.

    Args:
        splits: the rows of each split.
        args: the flags.
        classes: returns the class of each row of a split, (N,), or None if there are none. The choice keeps the share
            of each class.
        in_order: take the first rows. By default the choice is random (but fixed), since data are often sorted by
            class.
    """
    for split, limit in (("train", args.max_train_samples), ("validation", args.max_eval_samples)):
        if split in splits and limit is not None and limit < len(splits[split]):
            dataset, rows = splits[split], len(splits[split])
            chosen = np.arange(limit) if in_order else stratified(classes(dataset), rows, limit, SPLIT_SEED, least=1)
            note(split, f"{limit} of {rows} rows are used.")
            splits = splits | {split: dataset.select(chosen)}
    return splits


def _labels(dataset: Dataset) -> NDArray[np.int64] | None:
    return column_of(dataset, "label").to_numpy() if "label" in dataset.features else None


def _open_splits(args: DataArguments, modality: str | None) -> dict[str, Dataset | Table]:
    return open_splits(
        args, modality, built_in=lambda rows: rows, table=lambda rows: rows, hub=_load_hub, folder=load_folder
    )


def _load_hub(name: str, config_name: str | None) -> dict[str, Dataset]:
    shown = f"dataset_name={name!r}"
    with loading_hub(shown):
        builder = builder_of(name, config_name)
        builder.download_and_prepare()
    rows = {split: info.num_examples for split, info in builder.info.splits.items()}
    if rows.get("train") == 0:
        raise ValueError(f"{shown} has no rows in its split 'train'. Choose another dataset.")
    found = train_and_validation({split: split for split, count in rows.items() if count}, shown)
    return {split: builder.as_dataset(own) for split, own in found.items()}
