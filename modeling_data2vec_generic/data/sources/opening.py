"""Finds the source of each split by the flags; used both for loading and for streaming."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar

import datasets
from datasets import Dataset

from ...errors import as_value_error, require_writable
from ..arguments import DataArguments
from ..summary import note
from .built_in import BUILT_IN

Rows = TypeVar("Rows")

_CLS = "cls"  # the column with the class of a sample in WebDataset archives
VALIDATION_SPLITS = ("validation", "test")  # splits that are used as validation data, in order of preference


def open_splits(
    args: DataArguments,
    modality: str | None,
    built_in: Callable[[Dataset], Rows],
    hub: Callable[[str, str | None], dict[str, Rows]],
    file: Callable[[str, str], Rows],
    folder: Callable[[str, str, Any, bool], dict[str, Rows]],
) -> dict[str, Rows]:
    """Opens the source that the flags name.

    Args:
        args: the flags.
        modality: the modality of the data; None if it is not known yet.
        built_in: opens a built-in dataset, given its rows.
        hub: opens the splits of a dataset, given its name and configuration.
        file: opens a file, given its path and the flag that named it.
        folder: opens the splits of a folder, given its path, the flag that named it, the modality, and whether the
            user asked for labels.

    Returns:
        The rows of `train` and, if there are validation data, of `validation`, with the columns of the source.

    Raises:
        ValueError: the cache of datasets cannot be written.
    """
    require_writable(
        Path(datasets.config.HF_DATASETS_CACHE),
        "The cache of datasets",
        "Name another folder in the environment variable HF_DATASETS_CACHE, or in HF_HOME for all of Hugging Face.",
    )
    labels_wanted = args.label_column_name is not None
    if args.dataset_name in BUILT_IN:
        splits = {split: built_in(rows) for split, rows in BUILT_IN[args.dataset_name][1]().items()}
    elif args.dataset_name is not None:
        splits = hub(args.dataset_name, args.dataset_config_name)
        if args.label_column_name != _CLS:
            splits = {split: _labelled_by_cls(rows) for split, rows in splits.items()}
    elif args.train_file is not None:
        splits = {"train": file(args.train_file, "train_file")}
    else:
        splits = folder(str(args.train_dir), "train_dir", modality, labels_wanted)
    if args.validation_file is not None:
        splits["validation"] = file(args.validation_file, "validation_file")
    elif args.validation_dir is not None:
        found = folder(args.validation_dir, "validation_dir", modality, labels_wanted)
        splits["validation"] = found["validation"] if "validation" in found else found["train"]
    return splits


def _labelled_by_cls(rows: Any) -> Any:
    """The same rows, with the column `cls` of a WebDataset renamed to `label`."""
    columns = set(getattr(rows, "column_names", None) or ())
    if not {_CLS, "__key__", "__url__"} <= columns or "label" in columns:
        return rows
    note("train", f"The column {_CLS!r} of the WebDataset is the label.")
    return rows.rename_column(_CLS, "label")


def loading_hub(name: str) -> AbstractContextManager[None]:
    """Turns errors of datasets about the dataset `name` into a ValueError that says what --dataset_name accepts."""
    return as_value_error(
        f"dataset_name={name!r} cannot be loaded", "Name a dataset of the Hub or a folder; a file is for --train_file."
    )
