"""Finds the source of each split by the flags; used both for loading and for streaming."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import datasets
from datasets import Dataset

from ...errors import require_writable
from ..arguments import SOURCE_FLAGS, VALIDATION_FLAGS, DataArguments
from ..tables.opening import open_files
from ..tables.table import Table
from .built_in import BUILT_IN
from .local_folders import local_splits

Rows = TypeVar("Rows")


def open_splits(
    args: DataArguments,
    modality: str | None,
    built_in: Callable[[Dataset], Rows],
    table: Callable[[Table], Rows],
    hub: Callable[[str, str | None], dict[str, Rows]],
    folder: Callable[[str, str, Any, bool], dict[str, Rows]],
) -> dict[str, Rows]:
    """Opens the source that the flags name, and the validation data that they name.

    Args:
        args: the flags of one source (see `sources_of`).
        modality: the modality of the data; None if it is not known yet.
        built_in: opens a dataset that is built in or was saved to the disk, given its rows.
        table: opens a table.
        hub: opens the splits of a dataset, given its name and configuration.
        folder: opens the splits of a folder, given its path, the flag that named it, the modality, and whether the
            user asked for labels.

    Returns:
        The rows of `train` and, if there are validation data, of `validation`, with the columns of the source.

    Raises:
        ValueError: the cache of datasets cannot be written, or there are several sources.
    """
    if args.dataset_weights is not None:
        raise ValueError("dataset_weights mixes sources for pre-training, before which each is opened on its own.")
    require_writable(
        Path(datasets.config.HF_DATASETS_CACHE),
        "The cache of datasets",
        "Name another folder in the environment variable HF_DATASETS_CACHE, or in HF_HOME for all of Hugging Face.",
    )
    labels_wanted = args.label_column_name is not None

    def opened(value: list[str], flag: str, config_name: str | None = None) -> dict[str, Rows]:
        local = local_splits(value[0], flag, config_name) if len(value) == 1 else None
        if local is not None:
            return {
                split: built_in(rows) if isinstance(rows, Dataset) else table(rows) for split, rows in local.items()
            }
        if flag == "dataset_name":
            return hub(value[0], config_name)
        if flag.endswith("_file"):
            return {"train": table(open_files(value, flag))}
        return folder(value[0], flag, modality, labels_wanted)

    if args.dataset_name is not None and args.dataset_name[0] in BUILT_IN:
        splits = {split: built_in(rows) for split, rows in BUILT_IN[args.dataset_name[0]][1]().items()}
    else:
        flag = next(name for name in SOURCE_FLAGS if getattr(args, name) is not None)
        splits = opened(getattr(args, flag), flag, args.dataset_config_name)
    for flag in VALIDATION_FLAGS:
        if getattr(args, flag) is not None:
            found = opened(getattr(args, flag), flag)
            splits["validation"] = found.get("validation", found["train"])
    return splits
