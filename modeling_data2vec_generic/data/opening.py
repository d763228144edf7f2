"""Which source each split is read from, whether it is then loaded or streamed."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from datasets import Dataset

from ..loading import loading
from .arguments import DataArguments
from .embedded import EMBEDDED

Rows = TypeVar("Rows")

VALIDATION_SPLITS = ("validation", "test")  # of a dataset on the Hub, in the order in which they are tried


def open_splits(
    args: DataArguments,
    modality: str | None,
    embedded: Callable[[Dataset], Rows],
    hub: Callable[[str, str | None], dict[str, Rows]],
    file: Callable[[str, str], Rows],
    folder: Callable[[str, str, Any, bool], dict[str, Rows]],
) -> dict[str, Rows]:
    """The source's rows as they are: `train`, and `validation` if it has one.

    Args:
        embedded: from the rows of an embedded dataset.
        hub: from name and configuration of a dataset, its splits.
        file: from a path and the flag that gave it.
        folder: from a path, the flag that gave it, the modality, and whether the user asked for labels, its splits.
    """
    labels_wanted = args.label_column_name is not None
    if args.dataset_name in EMBEDDED:
        splits = {split: embedded(rows) for split, rows in EMBEDDED[args.dataset_name][1]().items()}
    elif args.dataset_name is not None:
        splits = hub(args.dataset_name, args.dataset_config_name)
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


def loading_hub(name: str) -> AbstractContextManager[None]:
    """Errors of datasets about a dataset of this name become a ValueError that says what may be named."""
    return loading(
        f"dataset_name={name!r} cannot be loaded", "Name a dataset of the Hub or a folder; a file is for --train_file."
    )
