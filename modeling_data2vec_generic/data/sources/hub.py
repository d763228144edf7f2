"""Datasets of the Hub and folders as `datasets.load_dataset` knows them, with what its builders lack."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from datasets import Audio, DatasetBuilder, SplitGenerator, load_dataset_builder
from datasets.data_files import get_data_patterns
from datasets.packaged_modules.audiofolder.audiofolder import AudioFolder
from datasets.packaged_modules.folder_based_builder.folder_based_builder import FolderBasedBuilder
from datasets.utils.metadata import MetadataConfigs
from huggingface_hub import DatasetCard

from ..file_types import escaped
from ..folders.loading import note_others, walk


def builder_of(name: str, config_name: str | None) -> DatasetBuilder:
    """The builder of a dataset. Sound is noted as it is, and classes are found in archives too."""
    builder = load_dataset_builder(name, config_name, data_files=_files_below(name))
    if isinstance(builder, AudioFolder):
        builder.BASE_FEATURE = _EncodedAudio
    if isinstance(builder, FolderBasedBuilder):
        # datasets takes the folder that an archive lies in for the class of all files in it.
        _note_unread(name, builder)
        builder._split_generators = partial(_labelled_in_archives, builder._split_generators)
    return builder


def _note_unread(name: str, builder: FolderBasedBuilder) -> None:
    """Say which files of a local folder datasets passes over, which it does without a word."""
    if not os.path.isdir(name):
        return
    known = {*builder.EXTENSIONS, ".zip"}
    found = {Path(path) for paths in (builder.config.data_files or {}).values() for path in paths}
    read = {path for path in found if path.suffix.lower() in known or path.name in builder.METADATA_FILENAMES}
    note_others(set(walk(name, "dataset_name")) - read, "train")


def _files_below(name: str) -> dict[str, list[str]] | None:
    """Patterns of each split's files in a folder whose path holds characters that datasets takes for a pattern, by
    which it would read other folders or none; `None` leaves it to datasets.

    Raises:
        ValueError: its README names the files of configurations.
    """
    folder = Path(name).absolute()
    root = escaped(folder)
    if not folder.is_dir() or root == str(folder):
        return None
    readme = folder / "README.md"
    if readme.is_file() and MetadataConfigs.from_dataset_card_data(DatasetCard.load(readme).data):
        raise ValueError("its README.md has configurations, which need a path without any of * ? [: rename the folder")
    return {split: [f"{root}/{pattern}" for pattern in found] for split, found in get_data_patterns(root).items()}


class _EncodedAudio(Audio):
    """A column of sound whose files are noted as they are. datasets' own does so too, but asks for torchcodec."""

    def encode_example(self, value: Any) -> dict[str, Any]:
        return {"bytes": None, "path": value} if isinstance(value, str) else value


def _labelled_in_archives(
    split_generators: Callable[[Any], list[SplitGenerator]], manager: Any
) -> list[SplitGenerator]:
    """The same splits; a file in an archive is not called by the archive, so that its own folder is its class."""
    splits = split_generators(manager)
    for split in splits:
        split.gen_kwargs["files"] = tuple(
            (original if unpacked is None else None, unpacked, files)
            for original, unpacked, files in split.gen_kwargs["files"]
        )
    return splits
