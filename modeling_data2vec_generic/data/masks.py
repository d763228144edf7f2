"""Masks for segmentation: images whose pixels are numbers of classes, checked with the images they belong to."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import PIL.Image
from datasets import Dataset
from numpy.typing import NDArray

from .arguments import DataArguments
from .encoded import encoded_file
from .images import FORMATS, ORIENTATION, check_size, decode_image, prepare_images
from .screening import good_rows

IGNORED = 255  # of 8-bit masks: a pixel without a class
_MODES = ("1", "L", "P", "I", "I;16")  # a whole number per pixel; that of a palette image is its place in the palette


def screen_masks(raw: Dataset, args: DataArguments, split: str, ignored: int) -> Dataset:
    """The rows with a mask (`label`), and the `values` that are in it, ascending, without `ignored`.

    What cannot be decoded, has several channels or no value but `ignored` is left out (`good_rows`).
    """
    report = raw.map(
        _inspect,
        input_columns="label",
        fn_kwargs={"ignored": ignored},
        remove_columns=raw.column_names,
        num_proc=args.preprocessing_num_workers,
        desc=f"Checking {split} masks",
    )
    good = _good(report["problem"][:], raw, args, split)
    raw = raw.add_column("values", report.data.column("values"), feature=report.features["values"])
    return raw if len(good) == len(raw) else raw.select(good)


def prepare_masked_images(
    raw: Dataset, args: DataArguments, split: str, classes: Sequence[int], size: tuple[int, int]
) -> Dataset:
    """Map-style dataset of `image` (PIL RGB), `label` (PIL, 8 bits: the place of each pixel's value in `classes`,
    IGNORED where it is none of them) and `sample_index`, decoded on access.

    Args:
        raw: as `screen_masks` gives it; it and the images are left out where the two differ in size, or where no pixel
            has a class any more once the mask is resized.
        classes: at most 255 values, ascending.
        size: width and height that masks are resized to.
    """
    images = prepare_images(raw, args, split).with_format(None)
    report = images.map(
        _compare,
        input_columns=["image", "label"],
        fn_kwargs={"classes": np.array(classes), "size": size},
        remove_columns=images.column_names,
        num_proc=args.preprocessing_num_workers,
        desc=f"Comparing {split} masks with images",
    )
    good = _good(report["problem"][:], images, args, split)
    return images.select(good).with_transform(partial(_decode_batch, classes=np.array(classes)))


def resized(
    mask: PIL.Image.Image, size: tuple[int, int], box: tuple[int, int, int, int] | None = None
) -> NDArray[np.uint8]:
    """(H, W) of a mask, or of a part of it, at another size (width, height)."""
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


def _inspect(value: dict[str, Any] | None, ignored: int) -> dict[str, Any]:
    if value is None or (value["bytes"] is None and value["path"] is None):
        return {"problem": "no mask", "values": []}
    try:
        mask = _decode(value)
    except Exception as error:  # decoders of broken files raise about anything; the reason is reported
        return {"problem": f"{type(error).__name__}: {error}", "values": []}
    values = np.unique(mask[mask != ignored]).tolist()
    return {"problem": "" if values else f"all pixels are {ignored}, which is ignored", "values": values}


def _compare(
    image: dict[str, Any], label: dict[str, Any], classes: NDArray[np.int64], size: tuple[int, int]
) -> dict[str, str]:
    expected, mask = _upright_size(image), _numbered(label, classes)
    if mask.size != expected:
        problem = f"{mask.width} x {mask.height} pixels, and the image has {expected[0]} x {expected[1]}"
    elif (resized(mask, size) == IGNORED).all():
        problem = f"no pixel has a class at {size[0]} x {size[1]} pixels"
    else:
        problem = ""
    return {"problem": problem}


def _decode(value: dict[str, Any]) -> NDArray[np.int64]:
    """(H, W) values."""
    with PIL.Image.open(encoded_file(value), formats=FORMATS) as mask:
        check_size(*mask.size)
        if mask.mode not in _MODES:
            raise ValueError(f"mode {mask.mode}, and one channel of class numbers is expected ({', '.join(_MODES)})")
        return np.asarray(mask).astype(np.int64)


def _numbered(value: dict[str, Any], classes: NDArray[np.int64]) -> PIL.Image.Image:
    """The mask with places in `classes` for values."""
    values = _decode(value)
    places = np.searchsorted(classes, values).clip(max=len(classes) - 1)
    return PIL.Image.fromarray(np.where(classes[places] == values, places, IGNORED).astype(np.uint8))


def _upright_size(value: dict[str, Any]) -> tuple[int, int]:
    with PIL.Image.open(encoded_file(value), formats=FORMATS) as image:
        lies_on_its_side = image.getexif().get(ORIENTATION, 1) >= 5
        return (image.height, image.width) if lies_on_its_side else image.size


def _decode_batch(batch: dict[str, list[Any]], classes: NDArray[np.int64]) -> dict[str, list[Any]]:
    if "image" in batch:  # not if other columns were selected
        batch["image"] = [decode_image(value) for value in batch["image"]]
    if "label" in batch:
        batch["label"] = [_numbered(value, classes) for value in batch["label"]]
    return batch
