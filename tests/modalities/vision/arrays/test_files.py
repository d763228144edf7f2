"""Files with other channels or more bits than Pillow reads; expected pixels are those that were written."""

import io
import struct
import zlib

import imagecodecs
import numpy as np
import PIL.Image
import pytest
import tifffile

from modeling_data2vec_generic.modalities.vision.arrays.files import open_array

pytestmark = pytest.mark.fast

RNG = np.random.default_rng(0)
DEEP = RNG.integers(0, 65536, (6, 9, 5), dtype=np.uint16)
FLOATS = RNG.normal(size=(6, 9, 5)).astype(np.float32)
BYTES = RNG.integers(0, 256, (6, 9, 4), dtype=np.uint8)
PREMULTIPLIED = np.concatenate([np.minimum(DEEP[..., :3], DEEP[..., 3:4]), DEEP[..., 3:4]], axis=2)
FIRST = {channels: np.ascontiguousarray(np.moveaxis(DEEP, 2, 0)[:channels]) for channels in (3, 5)}


def npy(values):
    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()


def npz(**arrays):
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def tiff(values, **options):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, **options)
    return buffer.getvalue()


def png(values):
    return imagecodecs.png_encode(np.ascontiguousarray(values))


def white_behind(values):
    """Colours over white, by the definition of opacity."""
    share = values[..., -1:] / 65535
    return np.rint(values[..., :-1] * share + 65535 * (1 - share)).astype(np.uint16)


# What is in the file, the number of channels that the encoder reads, and the pixels.
FILES = {
    "npy, channels last": (npy(DEEP), None, DEEP),
    "npy, channels first": (npy(FIRST[5]), None, DEEP),
    "npy, channels first by number": (npy(np.zeros((6, 3, 9), np.uint16)), 6, np.zeros((3, 9, 6), np.uint16)),
    "npy, one channel": (npy(DEEP[..., 0]), None, DEEP[..., :1]),
    "npy, in the order of Fortran": (npy(np.asfortranarray(DEEP)), 5, DEEP),
    "npy, big-endian": (npy(DEEP.astype(">u2")), 5, DEEP),
    "npy, float64": (npy(FLOATS.astype(np.float64)), 5, FLOATS),
    "npy, half": (npy(FLOATS.astype(np.float16)), 5, FLOATS.astype(np.float16).astype(np.float32)),
    "npy, with a sign": (npy(DEEP.astype(np.int32) - 9), 5, DEEP.astype(np.float32) - 9),
    "npy, 8 bits": (npy(BYTES), None, BYTES),
    "npy, booleans": (npy(DEEP > 9), 5, (DEEP > 9).astype(np.uint8) * 255),
    "npz, one array": (npz(any_name=DEEP), None, DEEP),
    "npz, the one called image": (npz(image=DEEP, mask=DEEP[..., 0]), None, DEEP),
    "tiff, channels last": (tiff(DEEP, photometric="minisblack", planarconfig="contig"), None, DEEP),
    "tiff, channels first": (tiff(FIRST[5], photometric="minisblack", planarconfig="separate"), None, DEEP),
    "tiff, floats, compressed": (
        tiff(FLOATS, photometric="minisblack", planarconfig="contig", compression="lzw", predictor=True),
        None,
        FLOATS,
    ),
    "tiff, tiles, big-endian": (
        tiff(DEEP, photometric="minisblack", planarconfig="contig", tile=(16, 16), byteorder=">"),
        None,
        DEEP,
    ),
    "tiff, above 4 GB": (tiff(DEEP, photometric="minisblack", planarconfig="contig", bigtiff=True), None, DEEP),
    "tiff, RGB of 16 bits": (tiff(DEEP[..., :3], photometric="rgb"), 3, DEEP[..., :3]),
    "tiff, RGBA of 16 bits": (tiff(DEEP[..., :4], photometric="rgb"), 3, white_behind(DEEP[..., :4])),
    "tiff, RGBA of 16 bits, premultiplied": (
        tiff(PREMULTIPLIED, photometric="rgb", extrasamples=["assocalpha"]),
        3,
        PREMULTIPLIED[..., :3] + (65535 - PREMULTIPLIED[..., 3:]),
    ),
    "tiff, RGB and infrared": (tiff(BYTES, photometric="rgb", extrasamples=["unspecified"]), None, BYTES),
    "tiff, pages that are channels": (tiff(FIRST[5], photometric="minisblack"), 5, DEEP),
    "tiff, pages that are not": (tiff(FIRST[5], photometric="minisblack"), 1, DEEP[..., :1]),
    "tiff, pages of 8 bits for RGB": (
        tiff(np.ascontiguousarray(np.moveaxis(BYTES[..., :3], 2, 0)), photometric="minisblack"),
        3,
        BYTES[..., :3],
    ),
    "tiff, channels by ImageJ": (tiff(FIRST[5], imagej=True, metadata={"axes": "CYX"}), None, DEEP),
    "tiff, channels by OME": (tiff(FIRST[5], ome=True, metadata={"axes": "CYX"}), None, DEEP),
    "png, grey of 16 bits": (png(DEEP[..., 0]), None, DEEP[..., :1]),
    "png, grey and opacity of 16 bits": (png(DEEP[..., :2]), None, white_behind(DEEP[..., :2])),
    "png, RGB of 16 bits": (png(DEEP[..., :3]), None, DEEP[..., :3]),
    "png, RGBA of 16 bits": (png(DEEP[..., :4]), None, white_behind(DEEP[..., :4])),
    "png, four channels of 16 bits": (png(DEEP[..., :4]), 4, DEEP[..., :4]),
    "png, four channels of 8 bits": (png(BYTES), 4, BYTES),
    "jpeg 2000, RGB of 16 bits": (
        imagecodecs.jpeg2k_encode(np.ascontiguousarray(DEEP[..., :3]), level=0),
        None,
        DEEP[..., :3],
    ),
    "ppm of 16 bits": (b"P6\n9 6\n65535\n" + DEEP[..., :3].astype(">u2").tobytes(), None, DEEP[..., :3]),
    "pgm of 12 bits": (b"P5\n9 6 # scan\n4095\n" + (DEEP[..., 0] >> 4).astype(">u2").tobytes(), 1, DEEP[..., :1] >> 4),
    "pfm": (b"Pf\n9 6\n-1.0\n" + FLOATS[::-1, :, 0].tobytes(), 1, FLOATS[..., :1]),
}


@pytest.mark.parametrize("on_disk", [False, True])
@pytest.mark.parametrize("name", FILES)
def test_open_array__pixels_as_written(name, on_disk, tmp_path):
    content, channels, expected = FILES[name]
    file = io.BytesIO(content)
    if on_disk:
        (tmp_path / "image").write_bytes(content)
        file = str(tmp_path / "image")
    stored = open_array(file, channels)
    assert (stored.size, stored.channels) == ((9, 6) if "by number" not in name else (9, 3), expected.shape[2])
    assert stored.eight_bits == (expected.dtype == np.uint8)
    values = stored.decode()
    assert values.dtype == expected.dtype
    np.testing.assert_array_equal(values, expected)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_open_array__ordinary_images_are_left_to_pillow(kind):
    for mode in ("1", "L", "P", "LA", "RGB", "RGBA", "CMYK"):
        if (kind, mode) != ("PNG", "CMYK"):
            buffer = io.BytesIO()
            PIL.Image.new(mode, (4, 3)).save(buffer, kind)
            assert open_array(buffer, 3) is None


BROKEN = {
    "objects": (npy(np.array([[None]])), None, "real numbers are expected"),
    "fields": (npy(np.zeros((2, 2), [("a", "f4")])), None, "real numbers are expected"),
    "one axis": (npy(DEEP[0, 0]), None, r"shape \(5,\), and \(height, width\)"),
    "first or last": (
        npy(np.zeros((4, 9, 4))),
        None,
        r"\(4, 9, 4\), whose channels may be the first or the last",
    ),
    "first or last, by number": (npy(np.zeros((4, 9, 4))), 4, "may be the first or the last axis"),
    "the smallest in the middle": (npy(np.zeros((9, 4, 9))), None, "may be the first or the last axis"),
    "several arrays": (npz(first=DEEP, second=DEEP), None, r"2 arrays \(first, second\)"),
    "no pixels": (npy(np.zeros((0, 4))), None, "no pixels"),
    "not finite": (npy(np.full((4, 4), np.nan)), None, "not finite"),
    "beyond float32": (npy(np.full((4, 4), 1e300)), None, "not finite"),
    "too short": (npy(DEEP)[:-1], None, "539 bytes of values where 540 are expected"),
    "too long a side": (npy(np.zeros((1, 900))), None, "one side is over 200 times the other"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_open_array__what_is_no_image(name):
    content, channels, message = BROKEN[name]
    with pytest.raises(ValueError, match=message):
        open_array(io.BytesIO(content), channels).decode()


def test_open_array__a_small_file_that_claims_to_be_huge(little_memory):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (9000, 9000, 9)})
    with little_memory(1 << 29), pytest.raises(ValueError, match=r"channels are too many|bytes is larger"):
        open_array(io.BytesIO(file.getvalue()), 9).decode()


# The row of the upright image and its column of each pixel of one that is stored, by its EXIF orientation.
TURNED = {
    1: lambda stored: stored,
    2: lambda stored: [row[::-1] for row in stored],
    3: lambda stored: [row[::-1] for row in stored[::-1]],
    4: lambda stored: stored[::-1],
    5: lambda stored: [list(column) for column in zip(*stored, strict=True)],
    6: lambda stored: [list(column)[::-1] for column in zip(*stored, strict=True)],
    7: lambda stored: [list(column)[::-1] for column in zip(*stored, strict=True)][::-1],
    8: lambda stored: [list(column) for column in zip(*stored, strict=True)][::-1],
}


@pytest.mark.parametrize("orientation", TURNED)
def test_open_array__upright(orientation):
    expected = TURNED[orientation](DEEP[..., 0].tolist())
    exif = struct.pack(">2sHIHHHIHHI", b"MM", 42, 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    chunk = b"eXIf" + exif
    content = png(DEEP[..., 0])
    checksum = struct.pack(">I", zlib.crc32(chunk))
    turned_png = content[:-12] + struct.pack(">I", len(exif)) + chunk + checksum + content[-12:]
    turned_tiff = tiff(DEEP[..., 0], extratags=[(274, 3, 1, orientation, True)])
    for file in (turned_png, turned_tiff):
        stored = open_array(io.BytesIO(file), 1)
        values = stored.decode()[..., 0]
        assert stored.size == values.shape[::-1]
        assert values.tolist() == expected
