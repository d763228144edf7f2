"""Images: check every one before training, decode on access, always to 8-bit RGB."""

from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageOps
from datasets import Dataset

from .arguments import DataArguments
from .encoded import encoded_file
from .screening import good_rows

# Pillow goes by the content, whatever the name, and knows formats that it hands to other programs (EPS: Ghostscript).
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF")
# An image processor that scales the shorter side to its size makes the longer one as many times that size.
_LARGEST_RATIO = 200
ORIENTATION = 0x0112  # EXIF tag


def prepare_images(raw: Dataset, args: DataArguments, split: str) -> Dataset:
    """Map-style dataset of `image` (PIL RGB, decoded on access), `sample_index` and, if `raw` has it, `label`.

    `raw` as load_raw_datasets gives it. Every image is decoded once here: what cannot be is left out (`good_rows`).
    `dataset.with_format(None)["label"][:]` reads all labels without decoding an image.
    """
    report = raw.map(
        _inspect,
        input_columns="image",
        remove_columns=raw.column_names,
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
        raw = raw.select(good)
    return raw.with_transform(_decode_batch)


def decode_image(value: dict[str, Any]) -> PIL.Image.Image:
    """RGB image from {"bytes": encoded file or None, "path": its path}; turned upright as its EXIF data say.

    Of several frames the first. ValueError for an image of more pixels than `PIL.Image.MAX_IMAGE_PIXELS` (89 million),
    or more than 200 times as long as it is wide; what else Pillow raises depends on the format.
    """
    with PIL.Image.open(encoded_file(value), formats=FORMATS) as image:
        check_size(*image.size)
        image.load()
        if image.getexif().get(ORIENTATION, 1) != 1:
            return to_rgb(PIL.ImageOps.exif_transpose(image))
        return to_rgb(image)


def check_size(width: int, height: int) -> None:
    """Raise ValueError for a size, as the header states it, that would take too much memory here or later on."""
    limit = PIL.Image.MAX_IMAGE_PIXELS  # beyond which Pillow itself only warns
    if limit is not None and width * height > limit:
        raise ValueError(f"{width} x {height} pixels are more than the {limit} of PIL.Image.MAX_IMAGE_PIXELS")
    if max(width, height) > _LARGEST_RATIO * min(width, height):
        raise ValueError(f"{width} x {height} pixels: one side is over {_LARGEST_RATIO} times the other")


def to_rgb(image: PIL.Image.Image) -> PIL.Image.Image:
    """8-bit RGB from any mode: transparent parts become white, more than 8 bits per channel are scaled down.

    Pillow's own conversion shows whatever colour lies under transparent pixels, and clips values above 255.
    """
    if image.mode.startswith(("I", "F")):
        return PIL.Image.fromarray(_to_8_bits(np.asarray(image), image.mode)).convert("RGB")
    if image.has_transparency_data:
        if image.mode == "La":  # premultiplied grey: Pillow has no direct way to RGBA
            image = image.convert("LA")
        canvas = PIL.Image.new("RGBA", image.size, "white")
        canvas.alpha_composite(image.convert("RGBA"))
        return canvas.convert("RGB")
    return image.convert("RGB")


def _to_8_bits(values: np.ndarray, mode: str) -> np.ndarray:
    """Grey levels (H, W) uint8. Modes I and F do not say what white is: the least usual maximum that fits."""
    values = values.astype(np.float64)
    if mode.startswith("I;16"):
        white = 65535.0
    else:
        if not np.isfinite(values).all():
            raise ValueError("pixels that are not finite")
        usual = (1.0, 255.0, 65535.0) if mode == "F" else (255.0, 65535.0)
        peak = float(values.max())
        white = next((maximum for maximum in usual if peak <= maximum), peak)
    return np.round(np.clip(values / white, 0, 1) * 255).astype(np.uint8)


def _inspect(value: dict[str, Any] | None) -> dict[str, str]:
    if value is None or (value["bytes"] is None and value["path"] is None):
        return {"problem": "no image"}
    try:
        decode_image(value)
    except Exception as error:  # decoders of broken files raise about anything; the reason is reported
        return {"problem": f"{type(error).__name__}: {error}"}
    return {"problem": ""}


def _decode_batch(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
    if "image" in batch:  # not if other columns were selected
        batch["image"] = [decode_image(value) for value in batch["image"]]
    return batch
