"""Opens datasets of the Hub and folders with `datasets`, and works around some shortcomings of its builders."""

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow
import pyarrow.compute
from datasets import Audio, DatasetBuilder, SplitGenerator, load_dataset_builder
from datasets.data_files import get_data_patterns
from datasets.packaged_modules.audiofolder.audiofolder import AudioFolder
from datasets.packaged_modules.folder_based_builder.folder_based_builder import FolderBasedBuilder
from datasets.utils.metadata import MetadataConfigs
from huggingface_hub import DatasetCard
from transformers.utils import logging

from ...errors import as_value_error
from ...versions import without_names_of_archives
from ..folders.listing import listing_of
from ..folders.loading import note_others

logger = logging.get_logger(__name__)

Rows = TypeVar("Rows")

VALIDATION_SPLITS = ("validation", "test")  # splits that are used as validation data, in order of preference


def loading_hub(name: str) -> AbstractContextManager[None]:
    """Turns errors of datasets about a dataset into a ValueError that says what --dataset_name accepts.

    Args:
        name: what the dataset is called in the message, such as `dataset_name='digits'`.
    """
    return as_value_error(
        f"{name} cannot be loaded", "Name a dataset of the Hub or a folder; a file is for --train_file."
    )


def train_and_validation(splits: Mapping[str, Rows], name: str) -> dict[str, Rows]:
    """The splits that are used, as `train` and, if there is one, `validation`.

    Args:
        splits: all splits of a dataset that have rows.
        name: what the dataset is called in messages.

    Raises:
        ValueError: there is no split `train`.
    """
    if "train" not in splits:
        raise ValueError(f"{name} has no split 'train'. There are: {', '.join(splits)}.")
    chosen = {"train": splits["train"]}
    own = next((split for split in VALIDATION_SPLITS if split in splits), None)
    if own is not None:
        logger.info(f"The split '{own}' of {name} is used for validation.")
        chosen["validation"] = splits[own]
    return chosen


def builder_of(name: str, config_name: str | None) -> DatasetBuilder:
    """The builder that `datasets` has for a dataset, with two changes.

    Sound needs no torchcodec, and a file in an archive has the folder in the archive as its class.

    Raises:
        ValueError: see `_files_below`.
    """
    builder = load_dataset_builder(name, config_name, data_files=_files_below(name))
    if isinstance(builder, AudioFolder):
        builder.BASE_FEATURE = _EncodedAudio
    if isinstance(builder, FolderBasedBuilder):
        # datasets would take the folder that the archive is in as the class of all files in the archive.
        _note_unread(name, builder)
        builder._split_generators = partial(_labelled_in_archives, builder._split_generators)
    return builder


def _note_unread(name: str, builder: FolderBasedBuilder) -> None:
    """Notes in the summary which files of a local folder datasets leaves out, since it does so without a message."""
    if not os.path.isdir(name):
        return
    known = {*builder.EXTENSIONS, ".zip"}
    found = [Path(path) for paths in (builder.config.data_files or {}).values() for path in paths]
    read = [str(path) for path in found if path.suffix.lower() in known or path.name in builder.METADATA_FILENAMES]
    listing = listing_of(name, "dataset_name")
    listing.tell(name, "dataset_name")
    everything = listing.paths(np.arange(len(listing)))
    is_read = pyarrow.compute.is_in(everything, pyarrow.array(read, pyarrow.string())).to_numpy(zero_copy_only=False)
    note_others(listing, ~is_read, "train")


def _files_below(name: str) -> dict[str, list[str]] | None:
    """The glob patterns of each split's files in a local folder; None if datasets can find them itself.

    datasets takes the characters * ? [ in the path of a folder for a pattern, and would read other folders or none.

    Raises:
        ValueError: the path has such characters, and the README of the folder defines configurations.
    """
    folder = Path(name).absolute()
    root = "".join(f"[{character}]" if character in "*?[" else character for character in str(folder))
    if not folder.is_dir() or root == str(folder):
        return None
    readme = folder / "README.md"
    if readme.is_file() and MetadataConfigs.from_dataset_card_data(DatasetCard.load(readme).data):
        raise ValueError("its README.md has configurations, which need a path without any of * ? [: rename the folder")
    return {split: [f"{root}/{pattern}" for pattern in found] for split, found in get_data_patterns(root).items()}


class _EncodedAudio(Audio):
    """A column of sound that stores paths as they are. The base class does the same, but asks for torchcodec."""

    def encode_example(self, value: Any) -> dict[str, Any]:
        return {"bytes": None, "path": value} if isinstance(value, str) else value


def _labelled_in_archives(
    split_generators: Callable[[Any], list[SplitGenerator]], manager: Any
) -> list[SplitGenerator]:
    """The splits of `split_generators`. The path of an archive is removed from its files, so that the class of a file
    is the folder that it has in the archive."""
    splits = split_generators(manager)
    for split in splits:
        split.gen_kwargs["files"] = without_names_of_archives(split.gen_kwargs["files"])
    return splits
