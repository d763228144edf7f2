"""Which source each split is read from, whether it is then loaded or streamed."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar

import datasets
from datasets import Dataset

from ...errors import loading, require_writable
from ..arguments import DataArguments
from ..summary import note
from .built_in import BUILT_IN

Rows = TypeVar("Rows")

_CLS = "cls"  # what WebDataset calls the file with a sample's class
VALIDATION_SPLITS = ("validation", "test")  # of a dataset on the Hub, in the order in which they are tried


def open_splits(
    args: DataArguments,
    modality: str | None,
    built_in: Callable[[Dataset], Rows],
    hub: Callable[[str, str | None], dict[str, Rows]],
    file: Callable[[str, str], Rows],
    folder: Callable[[str, str, Any, bool], dict[str, Rows]],
) -> dict[str, Rows]:
    """The source's rows as they are: `train`, and `validation` if it has one.

    Args:
        built_in: from the rows of a built-in dataset.
        hub: from name and configuration of a dataset, its splits.
        file: from a path and the flag that gave it.
        folder: from a path, the flag that gave it, the modality, and whether the user asked for labels, its splits.

    Raises:
        ValueError: the cache of datasets can't be written.
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
    """The same rows; the class that a WebDataset has for each is `label`, as other sources call it."""
    columns = set(getattr(rows, "column_names", None) or ())
    if not {_CLS, "__key__", "__url__"} <= columns or "label" in columns:
        return rows
    note("train", f"The column {_CLS!r} of the WebDataset is the label.")
    return rows.rename_column(_CLS, "label")


def loading_hub(name: str) -> AbstractContextManager[None]:
    """Errors of datasets about a dataset of this name become a ValueError that says what may be named."""
    return loading(
        f"dataset_name={name!r} cannot be loaded", "Name a dataset of the Hub or a folder; a file is for --train_file."
    )
