"""Which splits and classes the files of a folder belong to, by the names of the subfolders that they are in."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..summary import note

_SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid", "dev"),
    "test": ("test", "testing"),
}
_FEW = 0.1  # up to this share of files without a class are left out, so that the others keep their labels
_NAMED = 5  # files that are named in a message


@dataclass(frozen=True)
class Sample:
    """An image, a recording, or a clip.

    Args:
        path: the file, or the folder with the frames of the clip.
        folders: the subfolders that it is in, from the top of the data on.
        entry: number of its row in the metadata files; None if there are none.
    """

    path: Path
    folders: tuple[str, ...]
    entry: int | None = None


def sample_at(path: Path, root: Path, entry: int | None = None) -> Sample:
    """The sample at a path. `root` is the top of the data."""
    inside = path.relative_to(root) if path.is_relative_to(root) else Path(path.name)
    return Sample(path, inside.parts[:-1], entry)


def splits_of(samples: list[Sample], root: Path, noun: str, source: str) -> dict[str, list[Sample]]:
    """Divides samples into the splits that folders are named after.

    Args:
        samples: all samples of the folder.
        root: the top of the data, for messages.
        noun: what samples are called in messages.
        source: "train" if the folder was given as training data, "validation" if it was given as validation data.

    Returns:
        The samples of `train` and of `validation`. Without folders of splits all samples are `train`. Folders of
        splits, and folders above all of these, are removed from `Sample.folders`, so that they are not classes.

    Raises:
        ValueError: there are folders of splits in training data, and none of them is for training.
    """
    for exact in (True, False):
        places = [_place(sample, exact) for sample in samples]
        others = [sample for sample, place in zip(samples, places, strict=True) if place is None]
        called = {place[0] for place in places if place is not None}
        # Beside other folders, train may also be the name of a class, as in: bus, car, train.
        if called and (
            not others
            or (len(called) > 1 and "train" in called and (exact or are_few(others, samples)))
            or (are_few(others, samples) and not any(sample.folders for sample in others))
        ):
            break
    else:
        return {"train": samples}

    names: dict[str, set[str]] = {}
    found: dict[str, list[Sample]] = {}
    placed = [(sample, *place) for sample, place in zip(samples, places, strict=True) if place is not None]
    shared = len(os.path.commonprefix([sample.folders[:depth] for sample, _, depth in placed]))
    for sample, split, depth in placed:
        names.setdefault(split, set()).add(sample.folders[depth])
        folders = sample.folders[shared:depth] + sample.folders[depth + 1 :]
        found.setdefault(split, []).append(Sample(sample.path, folders, sample.entry))
    listed = [f"{len(rows)} {noun} in {' and '.join(sorted(names[split]))}" for split, rows in found.items()]
    note(source, f"Folders named after splits are read as splits, not as classes: {', '.join(listed)}.")
    if others:
        note(source, f"{len(others)} {noun} outside of these folders are left out: {named(others, root)}.")
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


def _place(sample: Sample, exact: bool) -> tuple[str, int] | None:
    """The split that one of the sample's folders is named after, and the depth of that folder; None if there is none.

    Unless `exact`, a name may go on after a digit or a separator, as in train2017 and dev-clean.
    """
    for depth, folder in enumerate(sample.folders):
        for split, names in _SPLIT_NAMES.items():
            name = folder.lower()
            if name in names or (not exact and re.fullmatch(rf"({'|'.join(names)})[-._ 0-9].*", name)):
                return split, depth
    return None


def labelled(
    samples: list[Sample], root: Path, noun: str, split: str, wanted: bool
) -> tuple[list[Sample], list[str] | None, str]:
    """Takes the folder that each sample is in as its class.

    Samples that are not exactly one folder deep have no class. They are left out if they are at most a tenth, or if
    labels are `wanted`. Otherwise all samples stay, without classes.

    Returns:
        The samples, their classes or None, and the reason if there are no classes.
    """
    inside = [sample for sample in samples if len(sample.folders) == 1]
    elsewhere = [sample for sample in samples if len(sample.folders) != 1]
    if not elsewhere:
        return samples, [sample.folders[0] for sample in samples], ""
    classes = {sample.folders[0] for sample in inside}
    found = named(elsewhere, root)
    if len(classes) > 1 and (wanted or are_few(elsewhere, samples)):
        note(split, f"{len(elsewhere)} {noun} are not in the folder of a class and are left out: {found}.")
        return inside, [sample.folders[0] for sample in inside], ""
    if any(sample.folders for sample in samples):
        return samples, None, f"{len(elsewhere)} of {len(samples)} {noun} are not exactly one folder deep ({found})"
    return samples, None, f"the {noun} are not in one folder for each class"


def are_few(some: Sequence[Sample], samples: Sequence[Sample]) -> bool:
    """Whether `some` are at most a tenth of the samples, so that they may be left out."""
    return len(some) <= _FEW * len(samples)


def named(samples: list[Sample], root: Path) -> str:
    """The paths of the first samples, for messages."""
    listed = [os.path.relpath(sample.path, root) for sample in samples[:_NAMED]]
    return ", ".join([*listed, "..."] if len(samples) > _NAMED else listed)
