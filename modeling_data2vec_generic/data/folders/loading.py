"""Loads a folder of images, sound or clips: which files are data, their rows and labels, and what is left out.

The imagefolder and audiofolder of datasets are not used, since audiofolder needs torchcodec, and both leave out
unknown files without a message.
"""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow
import pyarrow.compute
from datasets import Dataset, Features, List, Value
from datasets.fingerprint import Hasher
from xxhash import xxh3_128_hexdigest

from ..arrow_cache import cached_rows
from ..cache_keys import code_version
from ..kinds_of_data import KINDS
from ..summary import note
from .clips import Clips
from .listing import Listing, Mask, counted, listing_of, split_of
from .metadata import Metadata, folders_below, metadata_of
from .splits_and_classes import Samples, labelled, splits_of

_HEIC = (".heic", ".heif")
_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")
_AT_ONCE = 1 << 16  # rows of a piece of the table


def nothing_found(listing: Listing, folder: str, flag: str, wanted: str) -> str:
    """The message if a folder has no files of the wanted kind."""
    found = listing.counts()
    listed = counted(found) or "no files at all"
    other_source = f" Name another folder, or give text and tables as --{flag.replace('_dir', '_file')}."
    return f"{flag}={folder!r} holds no {wanted}. It holds: {listed}.{_remedy(found) or other_source}"


def load_folder(folder: str, flag: str, modality: str | None, labels_wanted: bool = False) -> dict[str, Dataset]:
    """Makes rows of the files in a folder.

    - Files without an extension are recognised by their content.
    - Folders called train, validation (val, valid, dev) and test are splits, not classes. Without a validation split,
      test is used as validation data.
    - A table that names the files gives the rows and all of its other columns (see `metadata_of`).
    - Otherwise files that are exactly one folder deep have the name of that folder as `label` (string).

    If at most a tenth of the files fit neither of the last two rules, they are left out. If there are more, all files
    are rows without labels; with `labels_wanted` they are left out then, too. The summary says what was left out.

    Rows are written to the cache of datasets and read from there, so that their number takes no memory.

    Args:
        folder: its path.
        flag: the flag that gave it, for messages.
        modality: a kind of data whose rows are files.
        labels_wanted: whether the user asked for labels.

    Returns:
        `train` and, if there is such a split, `validation`. The columns are `image` or `audio` with a path, or `video`
        with the paths of a clip's frames, sorted by the numbers in their names (frame2 before frame10); and `label`
        and the columns of the metadata, if there are any.

    Raises:
        ValueError: there is no such folder, it has no suitable file, or labels are wanted and there are none.
    """
    kind = None if modality is None else KINDS[modality]
    if kind is None or kind.file_type is None:
        raise ValueError(
            f"{flag}={folder!r} goes with images, sound, video or series, not with modality={modality!r}: use "
            "--train_file."
        )
    listing = listing_of(folder, flag)
    listing.tell(folder, flag)
    own = listing.of_type(kind.file_type)
    if not own.any():
        wanted = kind.file_type.noun
        if kind.several_files:
            wanted = f"{kind.noun}, that is, folders of {wanted}"
        endings = " ".join(sorted(kind.file_type.extensions))
        raise ValueError(nothing_found(listing, folder, flag, f"{wanted} ({endings})"))
    source, noun = split_of(flag), kind.noun
    note(source, f"{own.sum()} files of {kind.file_type.noun}: {counted(listing.counts(own))}.")
    clips = Clips(listing, own) if kind.several_files else None
    samples = _samples_of(listing, own, clips)
    metadata = metadata_of(listing, lambda: _paths_of(listing, clips, samples), flag)
    others = ~own
    if metadata is not None:
        others[metadata.files] = False
        known = metadata.knows(_paths_of(listing, clips, samples))
        if metadata.are_used(samples, known, noun, source, labels_wanted):
            note(source, f"{len(metadata.paths)} {noun} {metadata.remark}.")
            samples = metadata.samples(listing.root)
            if others.any():
                others[others] = ~metadata.knows(listing.paths(np.flatnonzero(others)))
        else:
            metadata = None
    note_others(listing, others, source)
    rows: dict[str, Dataset] = {}
    classes: set[str] = set()  # of the training data
    for split, found in splits_of(samples, noun, source).items():
        has_labels = False
        if metadata is None:
            noted_split = split if source == "train" else source
            found, labels, why_none = labelled(found, noun, noted_split, labels_wanted)
            has_labels = bool(labels)
            if classes and classes.isdisjoint(labels):
                note(source, "The folder's validation data are not used: they share no class with the training data.")
                continue
            if labels_wanted and not labels:
                raise ValueError(
                    f"{flag}={folder!r} gives no labels: {why_none}. Give each class a folder of its own, or add a "
                    "metadata.csv with the columns file_name and label."
                )
            if not labels:
                note(noted_split, f"There are no classes: {why_none}.")
            classes |= labels
        elif "label" not in metadata.rows.column_names:
            has_labels = all(len(found.folders[number]) == 1 for number in found.used)
        rows[split] = _Rows(listing, found, has_labels, kind.column, clips, metadata).stored()
    return rows


def note_others(listing: Listing, others: Mask, split: str) -> None:
    """Notes in the summary how many files are left out, by their extensions."""
    found = listing.counts(others)
    if found:
        note(split, f"{found.total()} other files are left out: {counted(found)}.{_remedy(found)}")


def _remedy(found: Counter[str]) -> str:
    heic = " Pillow reads no HEIC: convert it to JPEG or PNG." if found.keys() & set(_HEIC) else ""
    archives = " Unpack archives, or give the folder as --dataset_name." if found.keys() & set(_ARCHIVES) else ""
    return heic + archives


# Samples without metadata


def _samples_of(listing: Listing, own: Mask, clips: Clips | None) -> Samples:
    root = listing.root
    if clips is None:
        folders = [folders_below(root, folder) for folder in listing.folders]
        files = np.flatnonzero(own)
        return Samples(files, listing.folder[files], folders, lambda item: os.path.relpath(listing.path(item), root))
    number_of: dict[Any, int] = {}
    above = [folders_below(root, clips.path(number))[:-1] for number in range(len(clips))]
    places = np.array([number_of.setdefault(folders, len(number_of)) for folders in above], dtype=np.int32)
    path_of = clips.path
    return Samples(np.arange(len(clips)), places, list(number_of), lambda item: os.path.relpath(path_of(item), root))


def _paths_of(listing: Listing, clips: Clips | None, samples: Samples) -> pyarrow.Array:
    """The absolute paths of samples without metadata."""
    if clips is None:
        return listing.paths(samples.items)
    return pyarrow.array([clips.path(item) for item in samples.items], pyarrow.string())


# Rows


@dataclass(frozen=True)
class _Rows:
    """The rows of a split.

    Args:
        listing: the files of the folder.
        samples: those of the split.
        labelled: whether the folder that each sample is in is its label.
        column: the name of the column of paths.
        clips: the clips that samples are; None if each is a file.
        metadata: the metadata whose rows samples are; None if there are none.
    """

    listing: Listing
    samples: Samples
    labelled: bool
    column: str
    clips: Clips | None
    metadata: Metadata | None

    def stored(self) -> Dataset:
        """The rows on the disk. A second run finds them there, and what was made of them, in the cache."""
        samples = self.samples
        depends_on = [
            *(code_version(), self.listing.key, self.column, self.features, self.clips is None, self.labelled),
            *(xxh3_128_hexdigest(samples.items.tobytes()), samples.folders if self.labelled else None),
            None if self.metadata is None else self.metadata.state,
        ]
        return cached_rows(Hasher.hash(depends_on), lambda: (self.features, self._tables()))

    @property
    def features(self) -> Features:
        found: dict[str, Any] = {self.column: Value("string") if self.clips is None else List(Value("string"))}
        if self.labelled:
            found["label"] = Value("string")
        if self.metadata is not None:
            found |= {name: kind for name, kind in self.metadata.rows.features.items() if name != self.column}
        return Features(found)

    def _tables(self) -> Iterator[pyarrow.Table]:
        classes = pyarrow.array(["/".join(folders) for folders in self.samples.folders], pyarrow.string())
        first = 0
        for content in self._content():
            own = slice(first, first + len(content))
            columns = {self.column: content}
            if self.labelled:
                columns["label"] = classes.take(pyarrow.array(self.samples.places[own]))
            if self.metadata is not None:
                further = self.metadata.rows.with_format("arrow")[self.samples.items[own]]
                columns |= {name: further[name] for name in self.features if name in further.column_names}
            yield pyarrow.table(columns)
            first = own.stop

    def _content(self) -> Iterator[pyarrow.Array]:
        """The column of paths, in pieces."""
        items = self.samples.items
        if self.clips is not None:
            clips = items
            if self.metadata is not None:
                own = pyarrow.array([self.clips.path(number) for number in range(len(self.clips))], pyarrow.string())
                clips = pyarrow.compute.index_in(self.metadata.paths, own).fill_null(-1).to_numpy()[items]
            yield from self.clips.frames(clips)
            return
        for first in range(0, len(items), _AT_ONCE):
            piece = items[first : first + _AT_ONCE]
            yield (
                self.listing.paths(piece) if self.metadata is None else self.metadata.paths.take(pyarrow.array(piece))
            )
