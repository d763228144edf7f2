"""Segmentation masks, the labels of image segmentation: images whose pixels are numbers of classes."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageOps
from datasets import Dataset, Features, List, Value
from numpy.typing import NDArray

from ...data.arguments import DataArguments
from ...data.cache_keys import renewed
from ...data.encoded_files import encoded_file
from ...data.kinds_of_data import IMAGE_FORMATS
from ...data.quality.processes import processes_for
from ...data.quality.screening import good_rows
from ...data.summary import note
from .arrays.files import open_array
from .arrays.stored_array import ORIENTATION, check_size, upright
from .images import Decoding, decode_image, screen_images

IGNORED = 255  # a pixel without a class, in 8-bit masks
_MODES = ("1", "L", "P", "I", "I;16")  # modes with one integer per pixel; in "P" it is an index of the palette


def inspect_masks(raw: Dataset, args: DataArguments, split: str) -> Dataset:
    """For each mask (column `label`), the `problem` with it ("" if nothing), and the `values` in it, ascending."""
    return renewed(raw, "label").map(
        _inspect,
        input_columns="label",
        remove_columns=raw.column_names,
        features=Features({"problem": Value("string"), "values": List(Value("int64"))}),
        num_proc=processes_for(len(raw), args),
        desc=f"Checking {split} masks",
    )


def ignored_value(found: Mapping[str, Dataset], ignored: int) -> int | None:
    """The value of pixels that are ignored; None if no value is.

    It is None if `ignored` is 255 and all masks together have no values but 0 and 255, since most tools write masks of
    two classes like this. Otherwise it is `ignored`.

    Args:
        found: the results of `inspect_masks` for each split.
        ignored: the value to ignore.
    """
    masks = [values for report in found.values() for values in report["values"][:]]
    values = {value for mask in masks for value in mask}
    if ignored == IGNORED and values == {0, IGNORED}:
        note("train", f"The masks hold 0 and {IGNORED} only: two classes, and no pixel is ignored.")
        return None
    return ignored


def screen_masks(
    raw: Dataset, args: DataArguments, split: str, ignored: int | None, found: Dataset | None = None
) -> Dataset:
    """The rows with good masks, and a column `values` with the values in each mask, ascending, without `ignored`.

    Masks that cannot be decoded, have several channels, or have no value except `ignored` are bad rows (see
    `good_rows`).

    Args:
        raw: the rows; column `label` has the masks.
        args: the flags.
        split: the split, for messages.
        ignored: the value of pixels that are ignored; None if there is none.
        found: the result of `inspect_masks`; computed if it is not given.

    Raises:
        ValueError: too many masks are bad, or none is left.
    """
    found = inspect_masks(raw, args, split) if found is None else found
    values = [[value for value in row if value != ignored] for row in found["values"][:]]
    problems = [
        problem or ("" if kept else f"all pixels are {ignored}, which is ignored")
        for problem, kept in zip(found["problem"][:], values, strict=True)
    ]
    if partly := sum(len(row) > len(kept) for row, kept in zip(found["values"][:], values, strict=True)):
        note(split, f"Pixels of {ignored} are ignored, which {partly} of {len(raw)} masks have.")
    good = _good(problems, raw, args, split)
    raw = raw.add_column("values", values, feature=found.features["values"])
    return raw if len(good) == len(raw) else raw.select(good)


def prepare_masked_images(
    raw: Dataset, args: DataArguments, split: str, classes: Sequence[int], size: tuple[int, int], processor: Any = None
) -> Dataset:
    """Checks images together with their masks.

    If the sizes of an image and its mask differ, or if no pixel of the resized mask has a class, it is a bad row (see
    `good_rows`).

    Args:
        raw: the rows, as `screen_masks` gives them.
        args: the flags.
        split: the split, for messages.
        classes: the values of the classes in masks, ascending, at most 255.
        size: the width and height that masks are resized to.
        processor: as in `prepare_images`.

    Returns:
        A map-style dataset of `image` (PIL RGB or `ArrayImage`), `label` (PIL, 8 bits: the index of each pixel's value
        in `classes`, or IGNORED for other values) and `sample_index`, decoded on access.

    Raises:
        ValueError: too many rows are bad, or none is left.
    """
    images, decoding = screen_images(raw, args, split, processor)
    report = renewed(renewed(images, "image"), "label").map(
        _compare,
        input_columns=["image", "label"],
        fn_kwargs={"classes": np.array(classes), "size": size, "channels": decoding.channels},
        remove_columns=images.column_names,
        features=Features({"problem": Value("string"), "turned": Value("bool")}),
        num_proc=processes_for(len(images), args),
        desc=f"Comparing {split} masks with images",
    )
    good = _good(report["problem"][:], images, args, split)
    if turned := sum(report.select(good)["turned"][:]):
        note(
            split,
            f"{turned} of {len(good)} masks are turned with their pictures, whose EXIF data say that they are not "
            "stored upright, and whose masks are taken to be stored as they are.",
        )
    return images.select(good).with_transform(partial(_decode_batch, classes=np.array(classes), decoding=decoding))


def resized(
    mask: PIL.Image.Image, size: tuple[int, int], box: tuple[int, int, int, int] | None = None
) -> NDArray[np.uint8]:
    """A mask, or the part of it in `box`, resized to `size` (width, height) by nearest neighbours: (H, W) uint8."""
    return np.array(mask.resize(size, PIL.Image.Resampling.NEAREST, box=box))


def _good(problems: list[str], rows: Dataset, args: DataArguments, split: str) -> NDArray[np.int64]:
    return good_rows(
        problems,
        rows,
        noun="mask",
        split=split,
        max_bad_fraction=args.max_bad_fraction,
        column="label",
    )


def _inspect(value: dict[str, Any] | None) -> dict[str, Any]:
    if value is None or (value["bytes"] is None and value["path"] is None):
        return {"problem": "no mask", "values": []}
    try:
        return {"problem": "", "values": np.unique(_decode(value)).tolist()}
    except Exception as error:  # for broken files, decoders raise exceptions of many types
        return {"problem": f"{type(error).__name__}: {error}", "values": []}


def _compare(
    image: dict[str, Any], label: dict[str, Any], classes: NDArray[np.int64], size: tuple[int, int], channels: int
) -> dict[str, Any]:
    orientation, expected = _orientation_and_size(image, channels)
    mask, turned = _upright(label, classes, orientation, expected)
    if mask.size != expected:
        problem = f"{mask.width} x {mask.height} pixels, and the image has {expected[0]} x {expected[1]}"
    elif (resized(mask, size) == IGNORED).all():
        problem = f"no pixel has a class at {size[0]} x {size[1]} pixels"
    else:
        problem = ""
    return {"problem": problem, "turned": turned}


def _upright(
    label: dict[str, Any], classes: NDArray[np.int64], orientation: int, expected: tuple[int, int]
) -> tuple[PIL.Image.Image, bool]:
    """The upright mask, as indices of `classes`, and whether it was turned by the orientation of its image.

    A mask that has an EXIF orientation itself is turned by that. Otherwise it is turned as its image is, unless its
    size shows that it is upright already.

    Args:
        label: the encoded mask.
        classes: the values of the classes.
        orientation: the EXIF orientation of the image.
        expected: the width and height of the upright image.
    """
    own = _orientation_and_size(label, 1)[0]
    values = _decode(label)
    lies_on_its_side = orientation >= 5 and expected[0] != expected[1]
    is_upright = own != 1 or orientation == 1 or (lies_on_its_side and values.shape[::-1] == expected)
    return _numbered(values if is_upright else upright(values, orientation), classes), not is_upright


def _orientation_and_size(value: dict[str, Any], channels: int) -> tuple[int, tuple[int, int]]:
    """The EXIF orientation of an image, 1 to 8, and its width and height after it is turned upright.

    Args:
        value: the encoded image.
        channels: the number that is read.
    """
    file = encoded_file(value)
    stored = open_array(file, channels)
    if stored is not None:
        return stored.orientation, stored.size
    with PIL.Image.open(file, formats=IMAGE_FORMATS) as image:
        orientation = image.getexif().get(ORIENTATION, 1)
        is_turned = image.format == "TIFF"  # Pillow gives the size of the upright image
        return orientation, (image.height, image.width) if orientation >= 5 and not is_turned else image.size


def _decode(value: dict[str, Any]) -> NDArray[np.int64]:
    """The values of a mask, (H, W) int64, turned upright if it has an EXIF orientation."""
    file = encoded_file(value)
    stored = open_array(file, 1)
    if stored is not None:
        check_size(*stored.size)
        values = stored.stored()
        if stored.channels != 1 or values.dtype.kind not in "bui":
            raise ValueError(f"{stored.channels} channels of {values.dtype}, and one of class numbers is expected")
        return upright(values[..., 0].astype(np.int64), stored.orientation)
    with PIL.Image.open(file, formats=IMAGE_FORMATS) as mask:
        check_size(*mask.size)
        if mask.mode not in _MODES:
            raise ValueError(f"mode {mask.mode}, and one channel of class numbers is expected ({', '.join(_MODES)})")
        return np.asarray(PIL.ImageOps.exif_transpose(mask)).astype(np.int64)


def _numbered(values: NDArray[np.int64], classes: NDArray[np.int64]) -> PIL.Image.Image:
    """The mask with each value replaced by its index in `classes`, or by IGNORED if it is not in there."""
    places = np.searchsorted(classes, values).clip(max=len(classes) - 1)
    return PIL.Image.fromarray(np.where(classes[places] == values, places, IGNORED).astype(np.uint8))


def _decode_batch(batch: dict[str, list[Any]], classes: NDArray[np.int64], decoding: Decoding) -> dict[str, list[Any]]:
    if "label" in batch:  # otherwise other columns were selected
        pictures = [_orientation_and_size(value, decoding.channels) for value in batch["image"]]
        batch["label"] = [
            _upright(value, classes, *picture)[0] for value, picture in zip(batch["label"], pictures, strict=True)
        ]
    if "image" in batch:
        batch["image"] = [decode_image(value, decoding) for value in batch["image"]]
    return batch
