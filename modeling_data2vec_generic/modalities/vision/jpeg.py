"""JPEG files, which are decoded once it is known which part of them is wanted, at the smallest scale that is enough.

libjpeg can decode at 1/2, 1/4 or 1/8 of the size, for which it computes so many times fewer pixels per side. Crops of
large pictures then take a fraction of the time.
"""

import io
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch.nn import functional

from ...data.quality.reading import Unreadable
from .arrays.stored_array import ORIENTATION

_FIRST_BYTES = b"\xff\xd8\xff"
_SCALES = (8, 4, 2)
# Orientations for which x or y of the upright image run against the axis that is stored.
_X_REVERSED, _Y_REVERSED = (2, 3, 6, 7), (3, 4, 7, 8)
_MODES = {Image.Resampling.BILINEAR: "bilinear", Image.Resampling.BICUBIC: "bicubic"}  # that torch has too


def jpeg_content(file: io.BytesIO | str) -> bytes | None:
    """The bytes of a JPEG file; None for files of other types, of which only the beginning is read."""
    if not isinstance(file, str):
        content = file.getvalue()
        return content if content.startswith(_FIRST_BYTES) else None
    with open(file, "rb") as opened:
        beginning = opened.read(len(_FIRST_BYTES))
        return beginning + opened.read() if beginning == _FIRST_BYTES else None


class UndecodedJpeg(Image.Image):
    """An upright RGB image like any other of Pillow, but decoded from `content` when its pixels are first used.

    At first only the header is read, which gives the size. Unlike an image that Pillow has just opened, it keeps no
    file open, and it is upright (EXIF) and RGB, whatever is stored.

    Args:
        content: the bytes of the file.
        path: of the file, for errors.

    Raises:
        Unreadable: when its pixels are used, if the file is broken behind its header.
    """

    content: bytes | None = None  # of copies that were pickled, which are decoded

    def __init__(self, content: bytes, path: str | None = None):
        super().__init__()
        self.content, self.path = content, path
        self._header: Image.Image | None = self._opened()
        orientation = self._header.getexif().get(ORIENTATION, 1)
        self.orientation = orientation if 1 <= orientation <= 8 else 1
        width, height = self._header.size
        self._mode, self._size = "RGB", (height, width) if self.orientation >= 5 else (width, height)
        self._is_decoded = False

    def load(self) -> Any:
        """Decode the whole image unless that has been done, as Pillow's methods ask for."""
        if self.content is not None and not self._is_decoded:
            self.im, self._is_decoded = self._decoded(1).im, True
        return super().load()

    def cut(self, box: tuple[int, int, int, int], size: tuple[int, int], resample: Any) -> torch.Tensor:
        """The part of the image in `box`, resized.

        The image is decoded at the smallest scale at which the box still has `size` pixels per side. If that is a
        half or less, pixels differ a little from those of the whole image, which was sharper before it was resized.
        Whole images are resized by torch, which is four times as fast as Pillow and differs by 2 of 255 levels at
        most, and somewhat more in the outermost pixels, for which Pillow looks beyond the box.

        Args:
            box: left, top, right, bottom, in pixels of the whole image.
            size: width and height of the result.
            resample: a filter of Pillow.

        Returns:
            uint8 (H, W, 3).
        """
        left, top, right, bottom = box
        most = min((right - left) / size[0], (bottom - top) / size[1])
        scale = next((scale for scale in _SCALES if scale <= most), 1)
        if scale > 1 and self.content is not None:
            decoded = self._decoded(scale)
            # The last row and column that are stored may stand for fewer than `scale` pixels.
            x = decoded.width - self.width / scale if self.orientation in _X_REVERSED else 0.0
            y = decoded.height - self.height / scale if self.orientation in _Y_REVERSED else 0.0
            place = (left / scale + x, top / scale + y, right / scale + x, bottom / scale + y)
            return torch.from_numpy(np.array(decoded.resize(size, resample, box=place)))
        if resample not in _MODES:
            return torch.from_numpy(np.array(self.resize(size, resample, box=box)))
        part = torch.from_numpy(np.array(self.crop(box)))[None].permute(0, 3, 1, 2)
        resized = functional.interpolate(part, (size[1], size[0]), mode=_MODES[resample], antialias=True)
        return resized[0].permute(1, 2, 0)

    def _opened(self) -> Image.Image:
        assert self.content is not None
        return Image.open(io.BytesIO(self.content), formats=("JPEG",))

    def _decoded(self, scale: int) -> Image.Image:
        image, self._header = self._header or self._opened(), None  # an opened image can be decoded only once
        if scale > 1:
            image.draft(None, (image.width // scale, image.height // scale))
        try:
            image.load()
        except Exception as error:
            raise Unreadable(f"{type(error).__name__}: {error}", self.path) from error
        if self.orientation != 1:
            image = ImageOps.exif_transpose(image)
        return image if image.mode == "RGB" else image.convert("RGB")
