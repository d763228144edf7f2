"""Image files that Pillow does not read as they are: numpy arrays, more than 8 bits, and more than three channels."""

import io
import struct
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from ....data.kinds_of_data import IMAGE_FORMATS
from ...numpy_files import is_numpy, open_numpy
from .channels import channel_axis, channels_last, on_white
from .stored_array import ORIENTATION, StoredArray
from .tiff import is_tiff, open_tiff

_BEGINNING = 64  # bytes of a file by which its type is recognised
_HEADER = 1 << 16  # bytes in which the header of a JPEG 2000 file is looked for
_PNG, _JPEG2000 = b"\x89PNG\r\n\x1a\n", (b"\0\0\0\x0cjP", b"\xff\x4f\xff\x51")
_PNG_SAMPLES = {0: 1, 2: 3, 4: 2, 6: 4}  # by type of colour; the last of 2 or 4 is the opacity


def open_array(file: io.BytesIO | str, channels: int | None) -> StoredArray | None:
    """Reads the header of an image that Pillow does not read as it is stored.

    Args:
        file: the content of a file, or its path.
        channels: the number that the encoder reads; None if it is not known yet.

    Returns:
        None for all other images, which are left to Pillow. These have 8 bits and are grey or coloured, also with a
        palette or opacity, unless `channels` says that their two or four bands are wanted as they are.

    Raises:
        ValueError: the array cannot be an image, or it is not clear which axis is its channels. For broken files,
            decoders raise other exceptions, too.
    """
    beginning = _first(file, _BEGINNING)
    found = None
    if is_numpy(beginning):
        return _numpy(file, channels)
    if is_tiff(beginning):
        found = open_tiff(file, channels)
    elif beginning.startswith(_PNG) and beginning[24:25] == b"\x10":
        return _png(file, channels, *struct.unpack(">IIxB", beginning[16:26]))
    elif beginning.startswith(_JPEG2000):
        found = _jpeg2000(file)
    elif beginning[:2] in (b"P2", b"P5", b"P6", b"Pf"):
        found = _netpbm(file)
    if found is None and channels not in (None, 1, 3):
        found = _bands(file, channels)
    return found


def _first(file: io.BytesIO | str, size: int) -> bytes:
    if not isinstance(file, str):
        return bytes(file.getbuffer()[:size])
    with open(file, "rb") as opened:
        return opened.read(size)


def _content(file: io.BytesIO | str) -> bytes:
    if not isinstance(file, str):
        return file.getvalue()
    with open(file, "rb") as opened:
        return opened.read()


def _numpy(file: io.BytesIO | str, channels: int | None) -> StoredArray:
    numbers = open_numpy(file)
    axis = channel_axis(numbers.shape, channels)
    sides = list(numbers.shape)
    found = 1 if axis is None else sides.pop(axis)
    if not (found and all(sides)):
        raise ValueError(f"an array of shape {numbers.shape} has no pixels")
    height, width = sides
    eight_bits = numbers.dtype.kind in "bu" and numbers.dtype.itemsize == 1
    return StoredArray((width, height), found, eight_bits, lambda: channels_last(numbers.read(), axis))


def _png(file: io.BytesIO | str, channels: int | None, width: int, height: int, colours: int) -> StoredArray:
    """A PNG file of 16 bits, of which Pillow would drop the lower 8 unless it is grey."""
    samples = _PNG_SAMPLES[colours]
    keeps_all = samples in (1, 3, channels)
    orientation = _png_orientation(_content(file))

    def stored() -> NDArray[Any]:
        import imagecodecs  # an optional dependency

        values = np.asarray(imagecodecs.png_decode(_content(file))).reshape(height, width, samples)
        return values if keeps_all else on_white(values, 65535)

    size = (height, width) if orientation >= 5 else (width, height)
    return StoredArray(size, samples if keeps_all else samples - 1, False, stored, orientation)


def _png_orientation(content: bytes) -> int:
    """The EXIF orientation. Pillow would decode the image to look for it behind the pixels."""
    position = len(_PNG)
    while position + 8 <= len(content):
        length, kind = struct.unpack(">I4s", content[position : position + 8])
        if kind == b"eXIf":
            exif = PIL.Image.Exif()
            exif.load(content[position + 8 : position + 8 + length])
            return int(exif.get(ORIENTATION, 1))
        position += 12 + length  # the length, the kind, and a checksum behind the content
    return 1


def _jpeg2000(file: io.BytesIO | str) -> StoredArray | None:
    """A JPEG 2000 file with more than 8 bits, or with more than four channels."""
    header = _first(file, _HEADER)
    start = header.find(_JPEG2000[1]) + len(_JPEG2000[1])  # of the segment SIZ (ISO 15444-1, A.5.1)
    right, bottom, left, top, samples, depth = struct.unpack(">4x4I16xHB", header[start : start + 39])
    bits = (depth & 0x7F) + 1  # the first bit says whether there is a sign
    if samples <= 4 and bits <= 8:
        return None

    def stored() -> NDArray[Any]:
        import imagecodecs  # an optional dependency

        return np.asarray(imagecodecs.jpeg2k_decode(_content(file))).reshape(bottom - top, right - left, samples)

    return StoredArray((right - left, bottom - top), samples, bits <= 8, stored)


def _netpbm(file: io.BytesIO | str) -> StoredArray | None:
    """A PGM or PPM file of 16 bits, which Pillow would stretch to 16 or narrow to 8 bits, or a file of floats."""
    with PIL.Image.open(file, formats=("PPM",)) as image:
        parameters: Any
        (width, height), (codec, _, offset, parameters) = image.size, image.tile[0]
        samples = len(image.getbands())
        is_deep = image.mode in ("I", "F") or (codec == "ppm" and parameters[1] > 255)
    if not is_deep:
        return None

    def stored() -> NDArray[Any]:
        if codec == "ppm_plain" or image.mode == "F":
            with PIL.Image.open(file, formats=("PPM",)) as opened:
                return np.asarray(opened)[..., None]
        values = np.frombuffer(_content(file), ">u2", width * height * samples, offset)
        return values.reshape(height, width, samples)

    return StoredArray((width, height), samples, False, stored)


def _bands(file: io.BytesIO | str, channels: int | None) -> StoredArray | None:
    """An image whose bands are the channels that the encoder reads, such as RGBA, CMYK or grey with opacity."""
    with PIL.Image.open(file, formats=IMAGE_FORMATS) as image:
        if len(image.getbands()) != channels:
            return None
        orientation = image.getexif().get(ORIENTATION, 1)
        width, height = image.size

    def stored() -> NDArray[Any]:
        with PIL.Image.open(file, formats=IMAGE_FORMATS) as opened:
            return np.asarray(opened)

    is_tiff_file = image.format == "TIFF"  # Pillow turns TIFF files upright itself
    if orientation >= 5 and not is_tiff_file:
        width, height = height, width
    return StoredArray((width, height), channels, True, stored, 1 if is_tiff_file else orientation)
