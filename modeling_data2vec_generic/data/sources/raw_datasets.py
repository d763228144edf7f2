"""Where rows come from: built-in data, a folder, a file, or anything `datasets.load_dataset` knows.

`load_raw_datasets` gives every source the same shape: `train` and, if there is or shall be one, `validation`, with the
columns `image`, `text`, `audio`, `series` or `video` (files not decoded), `sample_index`, and `label` where labels
exist.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from datasets import Dataset, DatasetDict, Features
from numpy.typing import NDArray
from transformers.utils import logging

from ..arguments import DataArguments
from ..folders.loading import load_folder, modalities_of, nothing_found, walk
from ..splitting import SPLIT_SEED, split_positions, stratified, warn_of_validation
from ..summary import note
from ..tables.formats import Table, UntypedTable, open_file
from .built_in import BUILT_IN
from .columns import CONTENT_COLUMN, canonical, chosen_columns, encode_labels, holds, may_hold, renamed, times_of
from .hub import builder_of
from .opening import VALIDATION_SPLITS, loading_hub, open_splits
from .streamed_source import stream_types
from .table_folders import tables_of_folder

logger = logging.get_logger(__name__)

FILES = ("vision", "speech", "video")  # modalities whose columns hold files, by which their types can be told
# What an encoder for each main input may be given.
_READ_AS = {
    "pixel_values": ("vision", "video"),
    "pixel_values_videos": ("video",),
    "input_values": ("speech",),
    "input_features": ("speech",),
    "input_ids": ("text",),
    "past_values": ("series",),
}


def infer_modality(args: DataArguments, encoder_reads: Callable[[], str | None] = lambda: None) -> str:
    """The modality the user gives, else the one the source holds. ValueError where that is unclear.

    Args:
        encoder_reads: gives the main input of the encoder, such as "pixel_values", by which columns are preferred
            that give it; None if it is not known.
    """
    _check_source(args)
    if args.modality is not None:
        return args.modality
    named = [modality for modality, column in CONTENT_COLUMN.items() if getattr(args, f"{column}_column_name")]
    if args.dataset_name in BUILT_IN:
        found = [BUILT_IN[args.dataset_name][0]]
    elif named:
        found = named
    elif args.train_dir is not None:
        files = walk(args.train_dir, "train_dir")
        found = modalities_of(files)
        if not found:
            raise ValueError(nothing_found(args.train_dir, "train_dir", "images or sound", files))
    else:
        training = replace(args, validation_file=None, validation_dir=None)  # a folder is read by its modality
        features = stream_types(training) if args.streaming else _open_splits(training, None)["train"].features
        found = _told_by(features, args.label_column_name or "label", encoder_reads())
    if len(found) != 1:
        raise ValueError(
            f"The data hold {' and '.join(found) or 'no known modality'}: say which to use with --modality."
        )
    logger.info(f"modality={found[0]}, inferred from the data.")
    return found[0]


def _told_by(features: Features, label: str, encoder_reads: str | None) -> list[str]:
    """The modalities that columns of these types and names may be of; more than one leaves it open."""
    columns = {column: feature for column, feature in features.items() if column != label}
    fitting = [name for name in _READ_AS.get(encoder_reads or "", ()) if may_hold(columns, name)]
    if len(fitting) == 1:
        return fitting
    # A column of strings goes with anything else as its caption, path or name, and one of lists of numbers as its
    # features: types tell these two only where nothing else does.
    found = [name for name in FILES if any(holds(feature, name) for feature in features.values())]
    found = found or [name for name, column in CONTENT_COLUMN.items() if name != "text" and column in features]
    found = found or ["text"] * ("text" in features)
    found = found or [name for name in ("text", "series") if any(holds(feature, name) for feature in columns.values())]
    return found or ["series"] * bool(times_of(features, [label]))


def load_raw_datasets(args: DataArguments, modality: str, validation: bool = True) -> DatasetDict:
    """Splits `train` and, if `validation` is asked for and can be had, `validation`.

    A source without validation rows has `validation_split_percentage` of its training rows split off. ValueError for
    data that are missing, empty, or lack a column.
    """
    splits = read_splits(args, modality)
    if not validation:
        splits.pop("validation", None)
    splits = encode_labels(splits, args)
    in_order = modality == "text" and "label" not in splits["train"].features
    if validation and "validation" not in splits and args.validation_split_percentage > 0:
        train, held_out = split_positions(
            len(splits["train"]), _labels(splits["train"]), args.validation_split_percentage / 100, in_order
        )
        if not len(train) or not len(held_out):
            raise ValueError(
                "The training data have one row, too few to split off validation rows. "
                "Add data, or set --validation_split_percentage 0."
            )
        note("validation", f"{len(held_out)} of {len(train) + len(held_out)} training rows are held out.")
        splits["validation"] = splits["train"].select(held_out)
        splits["train"] = splits["train"].select(train)
    splits = limited(splits, args, _labels, in_order)
    if "validation" in splits and (labels := _labels(splits["validation"])) is not None:
        names = splits["validation"].features["label"].names
        warn_of_validation(len(labels), dict(zip(names, np.bincount(labels, minlength=len(names)), strict=True)))
    return DatasetDict(splits)


def read_splits(
    args: DataArguments,
    modality: str,
    further: Mapping[str, str] | None = None,
    words: bool = False,
    labels: str = "any",
) -> dict[str, Dataset]:
    """The source's own splits, all of their rows, with canonical columns (`chosen_columns`, `canonical`); labels as
    the source has them, or as what they are wanted."""
    _check_source(args)
    splits = {}
    for split, rows in _open_splits(args, modality).items():
        untyped, layout = isinstance(rows, UntypedTable), rows.layout if isinstance(rows, Table) else ""
        chosen = chosen_columns(rows.features, modality, args, split, further, words, untyped, layout)
        dataset = rows.load(chosen) if isinstance(rows, Table) else renamed(rows, chosen)
        splits[split] = canonical(dataset, modality, args, split, labels)
    return splits


def limited(
    splits: dict[str, Dataset],
    args: DataArguments,
    classes: Callable[[Dataset], NDArray[np.int64] | None],
    in_order: bool = False,
) -> dict[str, Dataset]:
    """The same splits with at most `max_train_samples` and `max_eval_samples` rows: a fixed random choice, since
    folders and many files are sorted by class, or with `in_order` the first ones.

    Args:
        classes: gives the class of each row, (N,), of which the choice keeps the shares; None where there are none.
    """
    for split, limit in (("train", args.max_train_samples), ("validation", args.max_eval_samples)):
        if split in splits and limit is not None and limit < len(splits[split]):
            dataset, rows = splits[split], len(splits[split])
            chosen = np.arange(limit) if in_order else stratified(classes(dataset), rows, limit, SPLIT_SEED, least=1)
            note(split, f"{limit} of {rows} rows are used.")
            splits = splits | {split: dataset.select(chosen)}
    return splits


def _labels(dataset: Dataset) -> NDArray[np.int64] | None:
    return np.array(dataset["label"][:]) if "label" in dataset.features else None


def _check_source(args: DataArguments) -> None:
    for split, names in (
        ("training", ("dataset_name", "train_file", "train_dir")),
        ("validation", ("validation_file", "validation_dir")),
    ):
        given = [f"{name}={getattr(args, name)!r}" for name in names if getattr(args, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} are two sources of {split} data: give one of them.")
        if not given and split == "training":
            raise ValueError(f"No training data: give one of {', '.join(f'--{name}' for name in names)}.")


def _open_splits(args: DataArguments, modality: str | None) -> dict[str, Dataset | Table]:
    return open_splits(args, modality, built_in=lambda rows: rows, hub=_load_hub, file=open_file, folder=load_folder)


def _load_hub(name: str, config_name: str | None) -> dict[str, Dataset | Table]:
    tables = tables_of_folder(name, config_name)
    if tables is not None:
        return tables
    with loading_hub(name):
        builder = builder_of(name, config_name)
        builder.download_and_prepare()
    rows = {split: info.num_examples for split, info in builder.info.splits.items()}
    if "train" not in rows:
        raise ValueError(f"dataset_name={name!r} has no split 'train'. There are: {', '.join(rows)}.")
    if rows["train"] == 0:
        raise ValueError(f"dataset_name={name!r} has no rows in its split 'train'. Choose another dataset.")
    splits: dict[str, Dataset | Table] = {"train": builder.as_dataset("train")}
    for split in VALIDATION_SPLITS:
        if rows.get(split):
            logger.info(f"The split '{split}' of {name} is used for validation.")
            splits["validation"] = builder.as_dataset(split)
            break
    return splits
