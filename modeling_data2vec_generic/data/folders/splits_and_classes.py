"""Which splits and classes the files of a folder belong to, by the names of the subfolders that they are in.

All of this depends on subfolders alone, so it is found once for each subfolder and not for each file.
"""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..summary import note

_SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid", "dev"),
    "test": ("test", "testing"),
}
_FEW = 0.1  # up to this share of files without a class are left out, so that the others keep their labels
_NAMED = 5  # files that are named in a message

Folders = tuple[str, ...]


@dataclass(frozen=True)
class Samples:
    """Images, recordings or clips, in order.

    Args:
        items: (N,) int64, what each sample is: the number of a file, of a clip, or of a row of the metadata.
        places: (N,) the number of the subfolder that each is in.
        folders: the subfolders by number, each as the names of the folders from the top of the data on.
        path_of: returns the path of an item from the top of the data on, for messages.
    """

    items: NDArray[np.int64]
    places: NDArray[np.int32]
    folders: list[Folders]
    path_of: Callable[[int], str]

    def __len__(self) -> int:
        return len(self.items)

    @cached_property
    def used(self) -> list[int]:
        """The numbers of the subfolders with samples, in the order of their first ones."""
        numbers, first = np.unique(self.places, return_index=True)
        return numbers[np.argsort(first)].tolist()

    def select(self, chosen: NDArray[np.bool_]) -> "Samples":
        """The samples for which `chosen` (N,) is true."""
        return replace(self, items=self.items[chosen], places=self.places[chosen])

    def within(self, wanted: Callable[[Folders], bool]) -> NDArray[np.bool_]:
        """Which samples are in a subfolder that is wanted, (N,)."""
        return np.array([wanted(folders) for folders in self.folders], dtype=bool)[self.places]

    def named(self) -> str:
        """The paths of the first samples, for messages."""
        listed = [self.path_of(int(item)) for item in self.items[:_NAMED]]
        return ", ".join([*listed, "..."] if len(self) > _NAMED else listed)


def splits_of(samples: Samples, noun: str, source: str) -> dict[str, Samples]:
    """Divides samples into the splits that folders are named after.

    Args:
        samples: all samples of the folder.
        noun: what samples are called in messages.
        source: "train" if the folder was given as training data, "validation" if it was given as validation data.

    Returns:
        The samples of `train` and of `validation`. Without folders of splits all samples are `train`. Folders of
        splits, and folders above all of these, are removed from `Samples.folders`, so that they are not classes.

    Raises:
        ValueError: there are folders of splits in training data, and none of them is for training.
    """
    for exact in (True, False):
        places = {number: place for number in samples.used if (place := _place(samples.folders[number], exact))}
        outside = np.isin(samples.places, list(places), invert=True)
        others = samples.select(outside)
        called = {split for split, _ in places.values()}
        # Beside other folders, train may also be the name of a class, as in: bus, car, train.
        if called and (
            not len(others)
            or (len(called) > 1 and "train" in called and (exact or are_few(len(others), len(samples))))
            or (are_few(len(others), len(samples)) and not any(samples.folders[number] for number in others.used))
        ):
            break
    else:
        return {"train": samples}

    names: dict[str, set[str]] = {}
    folders = list(samples.folders)
    shared = len(os.path.commonprefix([samples.folders[number][:depth] for number, (_, depth) in places.items()]))
    for number, (split, depth) in places.items():
        own = samples.folders[number]
        names.setdefault(split, set()).add(own[depth])
        folders[number] = own[shared:depth] + own[depth + 1 :]
    placed = replace(samples, folders=folders)
    found = {
        split: placed.select(np.isin(samples.places, [number for number in places if places[number][0] == split]))
        for split in names
    }
    listed = [f"{len(rows)} {noun} in {' and '.join(sorted(names[split]))}" for split, rows in found.items()]
    note(source, f"Folders named after splits are read as splits, not as classes: {', '.join(listed)}.")
    if len(others):
        note(source, f"{len(others)} {noun} outside of these folders are left out: {others.named()}.")
    held_out = next((split for split in ("validation", "test") if split in found), None)
    if source == "train" and "train" not in found:
        raise ValueError(
            f"The training folder holds {', '.join(listed)}: these are names of splits, and none of them is train. "
            "Name the folder whose files are to be trained on."
        )
    if held_out is not None:
        note(source, f"{' and '.join(sorted(names[held_out]))} is used as validation data.")
    for split in set(found) - {"train", held_out}:
        note(source, f"{' and '.join(sorted(names[split]))} is not read.")
    train = {"train": found["train"]} if "train" in found else {}
    return train if held_out is None else {**train, "validation": found[held_out]}


def _place(folders: Folders, exact: bool) -> tuple[str, int] | None:
    """The split that one of the folders is named after, and the depth of that folder; None if there is none.

    Unless `exact`, a name may go on after a digit or a separator, as in train2017 and dev-clean.
    """
    for depth, folder in enumerate(folders):
        for split, names in _SPLIT_NAMES.items():
            name = folder.lower()
            if name in names or (not exact and re.fullmatch(rf"({'|'.join(names)})[-._ 0-9].*", name)):
                return split, depth
    return None


def labelled(samples: Samples, noun: str, split: str, wanted: bool) -> tuple[Samples, set[str], str]:
    """Takes the folder that each sample is in as its class.

    Samples that are not exactly one folder deep have no class. They are left out if they are at most a tenth, or if
    labels are `wanted`. Otherwise all samples stay, without classes.

    Returns:
        The samples, their classes (empty if there are none), and the reason if there are no classes. With classes,
        each sample is in one folder, which is its class.
    """
    inside = samples.within(lambda folders: len(folders) == 1)
    elsewhere = samples.select(~inside)
    classes = {samples.folders[number][0] for number in samples.used if len(samples.folders[number]) == 1}
    if not len(elsewhere):
        return samples, classes, ""
    found = elsewhere.named()
    if len(classes) > 1 and (wanted or are_few(len(elsewhere), len(samples))):
        note(split, f"{len(elsewhere)} {noun} are not in the folder of a class and are left out: {found}.")
        return samples.select(inside), classes, ""
    if any(samples.folders[number] for number in samples.used):
        reason = f"{len(elsewhere)} of {len(samples)} {noun} are not exactly one folder deep ({found})"
        return samples, set(), reason
    return samples, set(), f"the {noun} are not in one folder for each class"


def are_few(some: int, samples: int) -> bool:
    """Whether `some` are at most a tenth of the samples, so that they may be left out."""
    return some <= _FEW * samples
