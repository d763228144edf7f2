"""TIFF files with more than 8 bits, with more channels than RGB, or whose pages are channels."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .channels import channels_last, on_white
from .stored_array import ORIENTATION, StoredArray

_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the last two of files above 4 GB
_OPACITY = (1, 2)  # values of the tag ExtraSamples that mean opacity; 0 is any other channel
_PREMULTIPLIED = 1
_SEPARATED = 5  # value of the tag PhotometricInterpretation for CMYK


def is_tiff(beginning: bytes) -> bool:
    """Whether a file with this beginning is a TIFF file."""
    return beginning.startswith(_MAGIC)


def open_tiff(file: io.BytesIO | str, channels: int | None) -> StoredArray | None:
    """Reads the header of a TIFF file; arguments, result and errors as `files.open_array`.

    The first page is read. If it has one channel and all pages together have as many as the encoder reads, or if the
    metadata of ImageJ or OME call the pages channels, each page is a channel.
    """
    import tifffile  # an optional dependency, which takes half a second to import

    try:
        tiff = tifffile.TiffFile(_fresh(file))
    except tifffile.TiffFileError:
        return None  # Pillow says what is wrong with it
    with tiff:
        page: Any = tiff.pages.first
        if page.dtype is None or len(page.axes.replace("S", "")) != 2:
            raise ValueError(f"a TIFF file of {page.bitspersample} bits and axes {page.axes}, which cannot be read")
        orientation = page.tags[ORIENTATION].value if ORIENTATION in page.tags else 1
        samples = page.samplesperpixel
        has_opacity = samples > 1 and bool(page.extrasamples) and page.extrasamples[-1] in _OPACITY
        drops_opacity = has_opacity and samples != channels
        colours = samples - drops_opacity
        eight_bits = page.dtype.kind in "bu" and page.dtype.itemsize == 1
        pages = len(tiff.pages)
        stacked = pages > 1 and samples == 1 and _are_channels(tiff, channels)
        has_mode = colours in (1, 3) or (page.photometric == _SEPARATED and samples != channels)
        if eight_bits and has_mode and not stacked:
            return None
        width, height = page.imagewidth, page.imagelength

    return StoredArray(
        (height, width) if orientation >= 5 else (width, height),
        pages if stacked else colours,
        eight_bits,
        _reader(file, stacked, drops_opacity),
        orientation,
        pages,
        stacked,
    )


def _are_channels(tiff: Any, channels: int | None) -> bool:
    """Whether the pages of a file, of which there are several, are the channels of one image."""
    pages = tiff.pages
    wanted = len(pages) == channels
    if not wanted and channels is None and (tiff.is_imagej or tiff.is_ome):
        wanted = sorted(tiff.series[0].axes) == ["C", "X", "Y"] and tiff.series[0].shape[0] == len(pages)
    return wanted and all((page.shape, page.dtype) == (pages.first.shape, pages.first.dtype) for page in pages)


def _reader(file: io.BytesIO | str, stacked: bool, drops_opacity: bool) -> Callable[[], NDArray[Any]]:
    def stored() -> NDArray[Any]:
        import tifffile

        with tifffile.TiffFile(_fresh(file)) as tiff:
            if stacked:
                return np.stack([page.asarray(maxworkers=1) for page in tiff.pages], axis=-1)
            page: Any = tiff.pages.first
            values = channels_last(page.asarray(maxworkers=1), page.axes.index("S") if "S" in page.axes else None)
        if not drops_opacity:
            return values
        if values.dtype.kind != "u":
            return values[..., :-1]  # no value is known to be white
        return on_white(values, np.iinfo(values.dtype).max, page.extrasamples[-1] == _PREMULTIPLIED)

    return stored


def _fresh(file: io.BytesIO | str) -> io.BytesIO | str:
    """The file at its beginning. tifffile closes what it has opened."""
    return file if isinstance(file, str) else io.BytesIO(file.getvalue())
