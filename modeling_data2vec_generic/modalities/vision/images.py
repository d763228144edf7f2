"""Images: check every one before training, decode on access, always to 8-bit RGB."""

from functools import partial
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageOps
from datasets import Dataset, Features, Value

from ...data.arguments import DataArguments
from ...data.encoded_files import encoded_file
from ...data.file_types import IMAGE_FORMATS
from ...data.screening import good_rows
from ...data.summary import note
from .intensity_levels import Levels, levels_in, settle_levels

# An image processor that scales the shorter side to its size makes the longer one as many times that size.
_LARGEST_RATIO = 200
ORIENTATION = 0x0112  # EXIF tag


def prepare_images(raw: Dataset, args: DataArguments, split: str, processor: Any = None) -> Dataset:
    """Map-style dataset of `image` (PIL RGB, decoded on access), `sample_index` and, if `raw` has it, `label`.

    Every image is decoded once here: what cannot be is left out (`good_rows`).
    `dataset.with_format(None)["label"][:]` reads all labels without decoding an image.

    Args:
        raw: as load_raw_datasets gives it.
        processor: the image processor, which keeps the black and white of images of more than 8 bits
            (`settle_levels`); without one they are those of these images.
    """
    good, levels = screen_images(raw, args, split, processor)
    return good.with_transform(partial(_decode_batch, levels=levels))


def screen_images(
    raw: Dataset, args: DataArguments, split: str, processor: Any = None
) -> tuple[Dataset, Levels | None]:
    """The rows of `prepare_images` with their images not decoded, and the levels to decode them by."""
    report = raw.map(
        inspect_image,
        input_columns="image",
        remove_columns=raw.column_names,
        features=Features(INSPECTED),
        num_proc=args.preprocessing_num_workers,
        desc=f"Checking {split} images",
    )

    good = good_rows(
        report["problem"][:],
        raw,
        noun="image",
        split=split,
        max_bad_fraction=args.max_bad_fraction,
        column="image",
    )
    if len(good) < len(raw):
        raw, report = raw.select(good), report.select(good)
    return raw, settle_inspected(report, args, split, "image", processor)


def settle_inspected(report: Dataset, args: DataArguments, split: str, noun: str, processor: Any) -> Levels | None:
    """`settle_levels` of rows as `inspect_image` gives them, and notes on what is not read of them."""
    for column, remark in (
        ("several", "hold several pages or frames, of which only the first is read"),
        ("narrowed", "have more than 8 bits in each of several channels, of which the upper 8 are read"),
    ):
        if count := sum(report[column][:]):
            note(split, f"{count} of {len(report)} {noun}s {remark}.")
    ends = zip(report["black"][:], report["white"][:], strict=True)
    found = [None if black is None else Levels(black, white) for black, white in ends]
    return settle_levels(found, args, split, noun, processor)


def decode_image(value: dict[str, Any], levels: Levels | None = None) -> PIL.Image.Image:
    """RGB image from {"bytes": encoded file or None, "path": its path}; turned upright as its EXIF data say.

    Of several frames the first. `levels` as in `to_rgb`. ValueError for an image of more pixels than
    `PIL.Image.MAX_IMAGE_PIXELS` (89 million), or more than 200 times as long as it is wide; what else Pillow raises
    depends on the format.
    """
    with PIL.Image.open(encoded_file(value), formats=IMAGE_FORMATS) as image:
        _load(image)
        if image.getexif().get(ORIENTATION, 1) != 1:
            return to_rgb(PIL.ImageOps.exif_transpose(image), levels)
        return to_rgb(image, levels)


def _load(image: PIL.Image.Image) -> None:
    check_size(*image.size)
    image.load()


def check_size(width: int, height: int) -> None:
    """Raise ValueError for a size, as the header states it, that would take too much memory here or later on."""
    limit = PIL.Image.MAX_IMAGE_PIXELS  # beyond which Pillow itself only warns
    if limit is not None and width * height > limit:
        raise ValueError(f"{width} x {height} pixels are more than the {limit} of PIL.Image.MAX_IMAGE_PIXELS")
    if max(width, height) > _LARGEST_RATIO * min(width, height):
        raise ValueError(f"{width} x {height} pixels: one side is over {_LARGEST_RATIO} times the other")


def to_rgb(image: PIL.Image.Image, levels: Levels | None = None) -> PIL.Image.Image:
    """8-bit RGB from any mode: transparent parts become white, more than 8 bits per pixel are scaled to `levels`.

    Pillow's own conversion shows whatever colour lies under transparent pixels, and clips values above 255. Without
    `levels` an image is scaled from its own smallest to its own largest value.
    """
    if _is_deep(image):
        values = np.asarray(image)
        return PIL.Image.fromarray((levels or levels_in(values)).apply(values)).convert("RGB")
    if image.has_transparency_data:
        if image.mode == "La":  # premultiplied grey: Pillow has no direct way to RGBA
            image = image.convert("LA")
        canvas = PIL.Image.new("RGBA", image.size, "white")
        canvas.alpha_composite(image.convert("RGBA"))
        return canvas.convert("RGB")
    return image.convert("RGB")


def _is_deep(image: PIL.Image.Image) -> bool:
    return image.mode.startswith(("I", "F"))


# What `inspect_image` finds: what is wrong ("" if nothing), the levels of an image of more than 8 bits, whether there
# are further pages or frames, and whether Pillow drops the lower 8 of 16 bits.
INSPECTED = {
    "problem": Value("string"),
    "black": Value("float64"),
    "white": Value("float64"),
    "several": Value("bool"),
    "narrowed": Value("bool"),
}
_NOTHING = {"problem": "", "black": None, "white": None, "several": False, "narrowed": False}


def inspect_image(value: dict[str, Any] | None) -> dict[str, Any]:
    """A row of INSPECTED. Decodes the image."""
    if value is None or (value["bytes"] is None and value["path"] is None):
        return {**_NOTHING, "problem": "no image"}
    try:
        return examine_image(value)[1]
    except Exception as error:  # decoders of broken files raise about anything; the reason is reported
        return {**_NOTHING, "problem": f"{type(error).__name__}: {error}"}


def examine_image(value: dict[str, Any]) -> tuple[tuple[int, int], dict[str, Any]]:
    """Width and height upright, and a row of INSPECTED; raises as `decode_image` does."""
    with PIL.Image.open(encoded_file(value), formats=IMAGE_FORMATS) as image:
        stored_as = str([tile.args for tile in image.tile])  # gone once the pixels are loaded
        _load(image)
        found: dict[str, Any] = dict(_NOTHING)
        if _is_deep(image):
            values = np.asarray(image)
            if not np.isfinite(values).all():
                raise ValueError("pixels that are not finite")
            found["black"], found["white"] = levels_in(values)
        else:
            to_rgb(image)
            found["narrowed"] = ";16" in stored_as
        lies_on_its_side = image.getexif().get(ORIENTATION, 1) >= 5
        size = (image.height, image.width) if lies_on_its_side else image.size
        found["several"] = bool(getattr(image, "is_animated", False))  # may go on to the second
    return size, found


def _decode_batch(batch: dict[str, list[Any]], levels: Levels | None) -> dict[str, list[Any]]:
    if "image" in batch:  # not if other columns were selected
        batch["image"] = [decode_image(value, levels) for value in batch["image"]]
    return batch
