"""Looks at images before training, and decodes them on access: to 8-bit RGB, or to arrays that keep their values."""

import io
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageOps
from datasets import Dataset, Value

from ...data.arguments import DataArguments
from ...data.encoded_files import encoded_file
from ...data.kinds_of_data import IMAGE_FORMATS
from ...data.quality.processes import processes_for
from ...data.quality.reading import Unreadable, readable
from ...data.quality.screening import first_look, good_rows, inspected, path_of
from ...data.summary import note
from .arrays.array_format import ArrayFormat
from .arrays.array_image import ArrayImage
from .arrays.channels import with_channels
from .arrays.files import open_array
from .arrays.stored_array import ORIENTATION, StoredArray, check_size
from .intensity_levels import Levels, levels_in, settle_levels
from .jpeg import UndecodedJpeg, jpeg_content


@dataclass(frozen=True)
class Decoding:
    """How the images of a data set are decoded.

    Attributes:
        arrays: the format of the arrays that they become; None: they become 8-bit RGB.
        levels: black and white of images with more than 8 bits that become 8-bit RGB; None: the smallest and the
            largest value of each.
        only_bytes: whether images with more than 8 bits are bad, since none of those that were looked at has more.
        channels: the number that the encoder reads.
    """

    arrays: ArrayFormat | None = None
    levels: Levels | None = None
    only_bytes: bool = False
    channels: int = 3

    @classmethod
    def by(cls, processor: Any) -> "Decoding":
        """What an image processor says of it; see `fit_to_images`. None: the default."""
        arrays = ArrayFormat.of(processor)
        is_grey = processor is not None and processor.do_normalize and np.size(processor.image_mean) == 1
        return cls(arrays, channels=arrays.channels if arrays is not None else 1 if is_grey else 3)


def prepare_images(raw: Dataset, args: DataArguments, split: str, processor: Any = None) -> Dataset:
    """Decodes some images to look at them (`first_look`). Those that cannot be decoded are bad rows (see `good_rows`).

    If these are all images, the bad ones are left out.

    Args:
        raw: the rows, as `load_raw_datasets` gives them.
        args: the flags.
        split: the split, for messages.
        processor: the image processor, which says whether images become arrays (`fit_to_images`), and otherwise stores
            the black and the white level of images with more than 8 bits (`settle_levels`). Without one, the levels
            are those of these images.

    Returns:
        A map-style dataset of `image` (PIL RGB, or `ArrayImage`; decoded on access, JPEG files when their pixels are
        used; an `Unreadable` if it cannot be decoded), `sample_index` and, if `raw` has it, `label`.
        `dataset.with_format(None)["label"][:]` reads all labels without decoding images.

    Raises:
        ValueError: too many rows are bad, or none is left.
    """
    good, decoding = screen_images(raw, args, split, processor)
    return good.with_transform(partial(_decode_batch, decoding=decoding))


def screen_images(raw: Dataset, args: DataArguments, split: str, processor: Any = None) -> tuple[Dataset, Decoding]:
    """Like `prepare_images`, but returns the rows without decoding on access, and how to decode them."""
    looked_at = first_look(raw, args)
    report = inspected(
        looked_at,
        inspect_image,
        "image",
        INSPECTED,
        fn_kwargs={"decoding": Decoding.by(processor)},
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
    is_all = looked_at is raw
    if len(good) < len(looked_at):
        raw, report = raw.select(good) if is_all else raw, report.select(good)
    return raw, settle_inspected(report, args, split, "image", processor, is_all)


def settle_inspected(
    report: Dataset, args: DataArguments, split: str, noun: str, processor: Any, is_all: bool
) -> Decoding:
    """Settles how images are decoded, and notes in the summary which parts of them are not read.

    Args:
        report: the results of `inspect_image`.
        noun: what each row is, in the singular.
        is_all: whether the results are those of all images.
    """
    for column, remark in (
        (
            "several",
            "hold several pages or frames, of which only the first is read (the pages of a TIFF file are read as "
            "channels if the encoder's num_channels is their number)",
        ),
        ("stacked", "hold several pages, which are read as the channels of one image"),
    ):
        if count := sum(report[column][:]):
            note(split, f"{count} of {len(report)} {noun}s {remark}.")
    decoding = Decoding.by(processor)
    if decoding.arrays is not None:
        return decoding
    ends = zip(report["black"][:], report["white"][:], strict=True)
    found = [None if black is None else Levels(black, white) for black, white in ends]
    levels = settle_levels(found, args, split, noun, processor)
    return replace(decoding, levels=levels, only_bytes=levels is None and not is_all)


def image_file(value: dict[str, Any] | None) -> io.BytesIO | str:
    """What Pillow can open. Raises [`Unreadable`] if there is no image, and as `encoded_file`."""
    if value is None or (value["bytes"] is None and value["path"] is None):
        raise Unreadable("no image")
    return encoded_file(value)


def decode_image(value: dict[str, Any] | None, decoding: Decoding | None = None) -> PIL.Image.Image | ArrayImage:
    """Decodes the first frame of an image, and turns it upright by its EXIF data.

    A JPEG file is decoded when its pixels are first used, so that a crop needs no more of them than it reads (see
    `UndecodedJpeg`).

    Args:
        value: {"bytes": encoded file or None, "path": its path}.
        decoding: what it becomes; 8-bit RGB by default.

    Raises:
        ValueError: the image has more pixels than `PIL.Image.MAX_IMAGE_PIXELS` (89 million), or one side is more than
            200 times as long as the other, or pixels are not finite, or it has other channels than others. For broken
            files, decoders raise other exceptions, too; if a JPEG file is broken behind its header, its use raises
            [`Unreadable`].
    """
    decoding = decoding or Decoding()
    file = image_file(value)
    content = jpeg_content(file) if decoding.arrays is None else None
    if content is not None:
        jpeg = UndecodedJpeg(content, path_of(value))
        check_size(*jpeg.size)
        return jpeg
    stored = open_array(file, decoding.channels)
    if decoding.arrays is not None:
        return decoding.arrays.image(stored)
    if stored is not None:
        return _as_rgb(stored, decoding)
    with PIL.Image.open(file, formats=IMAGE_FORMATS) as image:
        _load(image)
        if image.getexif().get(ORIENTATION, 1) != 1:
            return to_rgb(PIL.ImageOps.exif_transpose(image))
        return to_rgb(image)


def _load(image: PIL.Image.Image) -> None:
    check_size(*image.size)
    image.load()


def _as_rgb(stored: StoredArray, decoding: Decoding) -> PIL.Image.Image:
    """An image that Pillow does not read as it is, as 8-bit RGB."""
    if not stored.eight_bits and decoding.only_bytes:
        raise ValueError(
            "more than 8 bits per pixel, and the images that were looked at have 8: say which values become black and "
            "white with --black_level and --white_level"
        )
    values = stored.decode()
    if not stored.eight_bits:
        values = (decoding.levels or levels_in(values)).apply(values)
    return PIL.Image.fromarray(with_channels(values, 3))


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


# The results of `inspect_image`: what is wrong ("" if nothing), the levels of an image with more than 8 bits that
# becomes 8-bit RGB, whether there are further pages or frames, and whether the pages are channels.
INSPECTED = {
    "problem": Value("string"),
    "black": Value("float64"),
    "white": Value("float64"),
    "several": Value("bool"),
    "stacked": Value("bool"),
}
_NOTHING = {"problem": "", "black": None, "white": None, "several": False, "stacked": False}


def inspect_image(value: dict[str, Any] | None, decoding: Decoding) -> dict[str, Any]:
    """Decodes an image, and returns the fields of INSPECTED."""
    found = readable(examine_image, value, decoding)
    return {**_NOTHING, "problem": found.reason} if isinstance(found, Unreadable) else found[1]


def examine_image(value: dict[str, Any] | None, decoding: Decoding) -> tuple[tuple[int, int], dict[str, Any]]:
    """The width and height of the upright image, and the fields of INSPECTED. Raises as `decode_image`."""
    file = image_file(value)
    stored = open_array(file, decoding.channels)
    found: dict[str, Any] = dict(_NOTHING)
    if decoding.arrays is not None:
        stored = decoding.arrays.checked(stored)
    if stored is not None:
        values = stored.decode()
        if decoding.arrays is None:
            with_channels(values, 3)
            if not stored.eight_bits:
                found["black"], found["white"] = levels_in(values)
        found["stacked"] = stored.pages_are_channels
        found["several"] = stored.pages > 1 and not stored.pages_are_channels
        return stored.size, found
    with PIL.Image.open(file, formats=IMAGE_FORMATS) as image:
        _load(image)
        to_rgb(image)
        lies_on_its_side = image.getexif().get(ORIENTATION, 1) >= 5
        size = (image.height, image.width) if lies_on_its_side else image.size
        found["several"] = bool(getattr(image, "is_animated", False))  # last, since it may seek to the second frame
    return size, found


def _decode_batch(batch: dict[str, list[Any]], decoding: Decoding) -> dict[str, list[Any]]:
    if "image" in batch:  # otherwise other columns were selected
        batch["image"] = [readable(decode_image, value, decoding) for value in batch["image"]]
    return batch
