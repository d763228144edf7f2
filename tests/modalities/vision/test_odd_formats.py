"""Every way in which files store 8-bit images, by pixels that are computed here from what the file stores."""

import io
import struct
import zlib

import numpy as np
import PIL.Image
import pytest
import tifffile
from packaging.version import Version
from PIL.Image import Resampling
from transformers import ViTImageProcessorPil

from modeling_data2vec_generic import DataCollatorForData2VecVision
from modeling_data2vec_generic.masking.sampler import MaskSampler
from modeling_data2vec_generic.modalities.vision.images import decode_image
from modeling_data2vec_generic.modalities.vision.jpeg import UndecodedJpeg

pytestmark = pytest.mark.fast

RNG = np.random.default_rng(0)
SIZE = 16
GREY = RNG.integers(0, 256, (SIZE, SIZE), dtype=np.uint8)
OPACITY = RNG.integers(0, 256, (SIZE, SIZE), dtype=np.uint8)
COLOURS = RNG.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
PALETTE = RNG.integers(0, 256, (4, 3), dtype=np.uint8)
NUMBERS = RNG.integers(0, 4, (SIZE, SIZE), dtype=np.uint8)
BITS = RNG.integers(0, 2, (SIZE, SIZE), dtype=np.uint8)
# Four areas, larger than the blocks of a JPEG file, so that compression changes little.
AREAS = np.kron(RNG.integers(0, 256, (2, 2, 4)), np.ones((SIZE // 2, SIZE // 2, 1))).astype(np.uint8)


def png(pixels, kind, depth=8, *chunks):
    """A PNG file of this type of colour: 0 grey, 2 RGB, 3 palette, 4 grey and opacity, 6 RGBA."""
    packed = np.packbits(pixels, axis=1) if depth == 1 else pixels.reshape(len(pixels), -1)
    lines = b"".join(b"\0" + line.tobytes() for line in packed)
    size = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], depth, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in ((b"IHDR", size), *chunks, (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    )


def saved(values, kind, mode=None, **options):
    buffer = io.BytesIO()
    image = values if isinstance(values, PIL.Image.Image) else PIL.Image.fromarray(values, mode)
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def tiff(values, **options):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, **options)
    return buffer.getvalue()


def rgb(grey):
    return np.repeat(grey[..., None], 3, axis=2)


def over_white(colours, opacity):
    share = opacity[..., None] / 255
    return colours * share + 255 * (1 - share)


def from_inks(inks):
    """What is left of white light by cyan, magenta and yellow, and then by black."""
    inks = inks.astype(np.float64)
    return (255 - inks[..., :3]) * (255 - inks[..., 3:]) / 255


def frames(kind, **options):
    """An animation of three images, the first of which is COLOURS."""
    others = [PIL.Image.new("RGB", (SIZE, SIZE), colour) for colour in ("red", "blue")]
    return saved(PIL.Image.fromarray(COLOURS), kind, save_all=True, append_images=others, duration=40, **options)


PLTE, TRNS = (b"PLTE", PALETTE.tobytes()), (b"tRNS", bytes([0, 128, 255]))
OF_PALETTE = np.array([0, 128, 255, 255], dtype=np.uint8)  # opacity by number; those that are not listed are opaque
FEW = np.kron(PALETTE[:, None].reshape(2, 2, 3), np.ones((8, 8, 1))).astype(np.uint8)
# The file, its pixels, and how far from them a pixel may be.
FILES = {
    "palette": (png(NUMBERS, 3, 8, PLTE), PALETTE[NUMBERS], 0),
    "palette, partly transparent": (
        png(NUMBERS, 3, 8, PLTE, TRNS),
        over_white(PALETTE[NUMBERS].astype(float), OF_PALETTE[NUMBERS]),
        1,
    ),
    "grey, one value transparent": (
        png(GREY, 0, 8, (b"tRNS", struct.pack(">H", GREY[0, 0]))),
        rgb(np.where(GREY == GREY[0, 0], 255, GREY)),
        0,
    ),
    "grey and opacity": (png(np.dstack([GREY, OPACITY]), 4), over_white(rgb(GREY).astype(float), OPACITY), 1),
    "RGBA": (png(np.dstack([COLOURS, OPACITY]), 6), over_white(COLOURS.astype(float), OPACITY), 1),
    "premultiplied grey": (
        tiff(np.dstack([np.minimum(GREY, OPACITY), OPACITY]), photometric="minisblack", extrasamples=["assocalpha"]),
        rgb(np.minimum(GREY, OPACITY).astype(float) + 255 - OPACITY),
        2,
    ),
    "one bit, PNG": (png(BITS, 0, 1), rgb(BITS * 255), 0),
    "one bit, TIFF": (saved(PIL.Image.fromarray(BITS * 255).convert("1"), "TIFF"), rgb(BITS * 255), 0),
    "one bit, PBM, where 1 is black": (b"P4\n16 16\n" + np.packbits(BITS, axis=1).tobytes(), rgb(255 - BITS * 255), 0),
    "CMYK, TIFF": (saved(AREAS, "TIFF", "CMYK"), from_inks(AREAS), 1),
    "CMYK, JPEG by Adobe's convention": (saved(AREAS, "JPEG", "CMYK", quality=100), from_inks(AREAS), 6),
    "RGB, JPEG": (saved(AREAS[..., :3], "JPEG", quality=100, subsampling=0), AREAS[..., :3], 6),
    "grey, JPEG": (saved(AREAS[..., 0], "JPEG", quality=100), rgb(AREAS[..., 0]), 3),
    "animated, GIF": (
        saved(PIL.Image.fromarray(FEW), "GIF", save_all=True, append_images=[PIL.Image.new("RGB", (16, 16), "red")]),
        FEW,
        0,
    ),
    "animated, WebP": (frames("WEBP", lossless=True, exact=True), COLOURS, 0),
    "animated, PNG": (frames("PNG"), COLOURS, 0),
    "animated, PNG, whose first frame is not the default image": (
        frames("PNG", default_image=True),
        COLOURS,
        0,
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_decode_image__pixels_of_what_is_stored(name):
    if name == "premultiplied grey" and Version(PIL.__version__) < Version("13"):
        pytest.skip("Pillow cannot read it")
    content, expected, tolerance = FILES[name]
    decoded = decode_image({"bytes": content, "path": None})
    assert decoded.mode == "RGB"
    assert isinstance(decoded, UndecodedJpeg) == ("JPEG" in name)
    examples = [{"image": decoded, "sample_index": 0}]
    # What the encoder reads, in a whole image and in a crop that keeps all of it.
    half = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": {"height": SIZE, "width": SIZE}}
    collator = DataCollatorForData2VecVision(
        ViTImageProcessorPil(**half, resample=Resampling.BICUBIC), (2, 2), MaskSampler("random", 0.5)
    )
    read = (collator.plain(examples)["pixel_values"][0].permute(1, 2, 0).numpy() + 1) * 127.5
    whole = collator._pixels.cut([decoded], np.array([[0, 0, SIZE, SIZE]]), np.array([False]))
    cut = (whole[0].permute(1, 2, 0).numpy() + 1) * 127.5
    for pixels in (np.asarray(decoded).astype(float), read, cut):
        assert np.abs(pixels - expected).max() <= tolerance + 1e-3


TURNED = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.transpose(1, 0, 2),
    6: lambda stored: stored[::-1].transpose(1, 0, 2),
    7: lambda stored: stored[::-1, ::-1].transpose(1, 0, 2),
    8: lambda stored: stored[:, ::-1].transpose(1, 0, 2),
}


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "JPEG"])
@pytest.mark.parametrize("orientation", TURNED)
def test_decode_image__upright(kind, orientation):
    stored = np.kron(RNG.integers(0, 256, (2, 3, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}}.get(kind, {})
    decoded = decode_image({"bytes": saved(stored, kind, exif=exif, **options), "path": None})
    expected = TURNED[orientation](stored).astype(float)
    assert decoded.size == expected.shape[1::-1]
    assert np.abs(np.asarray(decoded) - expected).max() <= (8 if kind == "JPEG" else 0)
