"""Looks at images before training, and decodes them on access, always to 8-bit RGB."""

import io
from functools import partial
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageOps
from datasets import Dataset, Features, Value

from ...data.arguments import DataArguments
from ...data.encoded_files import encoded_file
from ...data.kinds_of_data import IMAGE_FORMATS
from ...data.quality.processes import processes_for
from ...data.quality.reading import Unreadable, readable
from ...data.quality.screening import first_look, good_rows, path_of
from ...data.summary import note
from .intensity_levels import Levels, levels_in, settle_levels
from .jpeg import ORIENTATION, UndecodedJpeg, jpeg_content

# Largest ratio of the sides. When a processor scales the shorter side to its size, the longer side becomes this many
# times that size, which takes memory.
_LARGEST_RATIO = 200


def prepare_images(raw: Dataset, args: DataArguments, split: str, processor: Any = None) -> Dataset:
    """Decodes some images to look at them (`first_look`). Those that cannot be decoded are bad rows (see `good_rows`).

    If these are all images, the bad ones are left out.

    Args:
        raw: the rows, as `load_raw_datasets` gives them.
        args: the flags.
        split: the split, for messages.
        processor: the image processor, which stores the black and the white level of images with more than 8 bits (see
            `settle_levels`). Without one, the levels are those of these images.

    Returns:
        A map-style dataset of `image` (PIL RGB, decoded on access, JPEG files when their pixels are used; an
        `Unreadable` if it cannot be decoded), `sample_index` and, if `raw` has it, `label`.
        `dataset.with_format(None)["label"][:]` reads all labels without decoding images.

    Raises:
        ValueError: too many rows are bad, or none is left.
    """
    good, levels = screen_images(raw, args, split, processor)
    return good.with_transform(partial(_decode_batch, levels=levels))


def screen_images(
    raw: Dataset, args: DataArguments, split: str, processor: Any = None
) -> tuple[Dataset, Levels | None]:
    """Like `prepare_images`, but returns the rows without decoding on access, and the levels to decode them with."""
    looked_at = first_look(raw, args)
    report = looked_at.map(
        inspect_image,
        input_columns="image",
        remove_columns=raw.column_names,
        features=Features(INSPECTED),
        num_proc=processes_for(len(looked_at), args),
        desc=f"Checking {split} images",
    )

    good = good_rows(
        report["problem"][:],
        looked_at,
        noun="image",
        split=split,
        max_bad_fraction=args.max_bad_fraction,
        column="image",
        total=len(raw),
    )
    if len(good) < len(looked_at):
        raw, report = raw.select(good) if looked_at is raw else raw, report.select(good)
    return raw, settle_inspected(report, args, split, "image", processor)


def settle_inspected(report: Dataset, args: DataArguments, split: str, noun: str, processor: Any) -> Levels | None:
    """Settles the levels of images (`settle_levels`), and notes in the summary which parts of them are not read.

    Args:
        report: the results of `inspect_image`.
        noun: what each row is, in the singular.
    """
    for column, remark in (
        ("several", "hold several pages or frames, of which only the first is read"),
        ("narrowed", "have more than 8 bits in each of several channels, of which the upper 8 are read"),
    ):
        if count := sum(report[column][:]):
            note(split, f"{count} of {len(report)} {noun}s {remark}.")
    ends = zip(report["black"][:], report["white"][:], strict=True)
    found = [None if black is None else Levels(black, white) for black, white in ends]
    return settle_levels(found, args, split, noun, processor)


def image_file(value: dict[str, Any] | None) -> io.BytesIO | str:
    """What Pillow can open. Raises [`Unreadable`] if there is no image, and as `encoded_file`."""
    if value is None or (value["bytes"] is None and value["path"] is None):
        raise Unreadable("no image")
    return encoded_file(value)


def decode_image(value: dict[str, Any] | None, levels: Levels | None = None) -> PIL.Image.Image:
    """Decodes the first frame of an image to 8-bit RGB, and turns it upright by its EXIF data.

    A JPEG file is decoded when its pixels are first used, so that a crop needs no more of them than it reads (see
    `UndecodedJpeg`).

    Args:
        value: {"bytes": encoded file or None, "path": its path}.
        levels: as in `to_rgb`.

    Raises:
        ValueError: the image has more pixels than `PIL.Image.MAX_IMAGE_PIXELS` (89 million), or one side is more than
            200 times as long as the other, or pixels are not finite. For broken files, Pillow raises other exceptions,
            too; if a JPEG file is broken behind its header, its use raises [`Unreadable`].
    """
    file = image_file(value)
    content = jpeg_content(file)
    if content is not None:
        jpeg = UndecodedJpeg(content, path_of(value))
        check_size(*jpeg.size)
        return jpeg
    with PIL.Image.open(file, formats=IMAGE_FORMATS) as image:
        _load(image)
        if image.getexif().get(ORIENTATION, 1) != 1:
            return to_rgb(PIL.ImageOps.exif_transpose(image), levels)
        return to_rgb(image, levels)


def _load(image: PIL.Image.Image) -> None:
    check_size(*image.size)
    image.load()


def check_size(width: int, height: int) -> None:
    """Raises ValueError for a size, as the header states it, that would take too much memory."""
    limit = PIL.Image.MAX_IMAGE_PIXELS  # Pillow itself only warns above it
    if limit is not None and width * height > limit:
        raise ValueError(f"{width} x {height} pixels are more than the {limit} of PIL.Image.MAX_IMAGE_PIXELS")
    if max(width, height) > _LARGEST_RATIO * min(width, height):
        raise ValueError(f"{width} x {height} pixels: one side is over {_LARGEST_RATIO} times the other")


def to_rgb(image: PIL.Image.Image, levels: Levels | None = None) -> PIL.Image.Image:
    """Converts an image of any mode to 8-bit RGB. Transparent parts become white.

    Images with more than 8 bits per pixel are scaled with `levels`, or by default from their own smallest to their own
    largest value. Pillow's own conversion would show the colour under transparent pixels, and clip values above 255.
    """
    if _is_deep(image):
        values = _finite(np.asarray(image))
        return PIL.Image.fromarray((levels or levels_in(values)).apply(values)).convert("RGB")
    if image.has_transparency_data:
        if image.mode == "La":  # premultiplied grey, which Pillow cannot convert to RGBA directly
            image = image.convert("LA")
        canvas = PIL.Image.new("RGBA", image.size, "white")
        canvas.alpha_composite(image.convert("RGBA"))
        return canvas.convert("RGB")
    return image.convert("RGB")


def _finite(values: np.ndarray) -> np.ndarray:
    if not np.isfinite(values).all():
        raise ValueError("pixels that are not finite")
    return values


def _is_deep(image: PIL.Image.Image) -> bool:
    return image.mode.startswith(("I", "F"))


# The results of `inspect_image`: what is wrong ("" if nothing), the levels of an image with more than 8 bits, whether
# there are further pages or frames, and whether Pillow drops the lower 8 of 16 bits.
INSPECTED = {
    "problem": Value("string"),
    "black": Value("float64"),
    "white": Value("float64"),
    "several": Value("bool"),
    "narrowed": Value("bool"),
}
_NOTHING = {"problem": "", "black": None, "white": None, "several": False, "narrowed": False}


def inspect_image(value: dict[str, Any] | None) -> dict[str, Any]:
    """Decodes an image, and returns the fields of INSPECTED."""
    found = readable(examine_image, value)
    return {**_NOTHING, "problem": found.reason} if isinstance(found, Unreadable) else found[1]


def examine_image(value: dict[str, Any] | None) -> tuple[tuple[int, int], dict[str, Any]]:
    """The width and height of the upright image, and the fields of INSPECTED. Raises as `decode_image`."""
    with PIL.Image.open(image_file(value), formats=IMAGE_FORMATS) as image:
        stored_as = str([tile.args for tile in image.tile])  # gone once the pixels are loaded
        _load(image)
        found: dict[str, Any] = dict(_NOTHING)
        if _is_deep(image):
            found["black"], found["white"] = levels_in(_finite(np.asarray(image)))
        else:
            to_rgb(image)
            found["narrowed"] = ";16" in stored_as
        lies_on_its_side = image.getexif().get(ORIENTATION, 1) >= 5
        size = (image.height, image.width) if lies_on_its_side else image.size
        found["several"] = bool(getattr(image, "is_animated", False))  # last, since it may seek to the second frame
    return size, found


def _decode_batch(batch: dict[str, list[Any]], levels: Levels | None) -> dict[str, list[Any]]:
    if "image" in batch:  # otherwise other columns were selected
        batch["image"] = [readable(decode_image, value, levels) for value in batch["image"]]
    return batch
