"""Turns decoded images into `pixel_values`, as the image processor does but faster, and with random crops if wanted.

An image processor handles one image at a time, in float64. Here Pillow crops and resizes, and one operation per batch
rescales and normalises (`Normalisation`), which a loader's workers may leave to the device. When a `PixelPipeline` is
made, it checks that the processor gives the same numbers. The processors of transformers cannot resize images with
more than 8 bits or other than 1, 3 or 4 channels (`ArrayImage`); these are resized here in the way that the
processor's settings say.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from ...errors import as_value_error
from ...masking.sample_rng import UniformSource
from .arrays.array_image import ArrayImage
from .jpeg import UndecodedJpeg

_ASPECT_RATIOS = (3 / 4, 4 / 3)
_TRIES = 10
_LARGEST_SIDE = 4096
Picture = Image.Image | ArrayImage


@dataclass(frozen=True)
class RandomResizedCrop:
    """A random part of an image, which is resized to the size of the model and mirrored with probability 1/2.

    Args:
        scale_min, scale_max: the part's share of the area is uniform between these. Its aspect ratio is log-uniform in
            [3/4, 4/3].
        flip: whether to mirror. Turn it off for digits, letters and anything else that changes its meaning.

    Raises:
        ValueError: the scales are not shares.
    """

    scale_min: float = 0.2
    scale_max: float = 1.0
    flip: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.scale_min <= self.scale_max <= 1:
            raise ValueError(
                f"crop scale [{self.scale_min}, {self.scale_max}] is not a range of shares of the image's area. "
                "Choose 0 < minimum <= maximum <= 1."
            )

    def draw(self, sizes: NDArray[np.int64], rng: UniformSource) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Draws the parts of B images.

        10 shapes are drawn per image, of which the first that fits is used. If none fits (for very long images), the
        part is the largest one in the centre that has an allowed aspect ratio.

        Args:
            sizes: (B, 2), width and height of each image.
            rng: row b is for image b.

        Returns:
            Boxes, int64 (B, 4), as left, top, right, bottom; and whether to mirror, bool (B,).
        """
        numbers = rng.random((len(sizes), 2 * _TRIES + 3))
        width, height = sizes[:, :1], sizes[:, 1:]
        low, high = (math.log(ratio) for ratio in _ASPECT_RATIOS)
        area = width * height * (self.scale_min + (self.scale_max - self.scale_min) * numbers[:, :_TRIES])
        aspect = np.exp(low + (high - low) * numbers[:, _TRIES : 2 * _TRIES])
        w, h = np.rint(np.sqrt(area * aspect)), np.rint(np.sqrt(area / aspect))
        fits = (w > 0) & (h > 0) & (w <= width) & (h <= height)
        first = fits.argmax(axis=1)
        row = np.arange(len(sizes))
        width, height = sizes[:, 0], sizes[:, 1]
        left_at, top_at = numbers[:, 2 * _TRIES], numbers[:, 2 * _TRIES + 1]
        crop_w, crop_h = w[row, first], h[row, first]
        left, top = np.floor(left_at * (width - crop_w + 1)), np.floor(top_at * (height - crop_h + 1))

        none = ~fits[row, first]
        crop_w = np.where(none, np.minimum(width, np.rint(height * _ASPECT_RATIOS[1])), crop_w)
        crop_h = np.where(none, np.minimum(height, np.rint(width / _ASPECT_RATIOS[0])), crop_h)
        left = np.where(none, (width - crop_w) // 2, left)
        top = np.where(none, (height - crop_h) // 2, top)
        boxes = np.stack([left, top, left + crop_w, top + crop_h], axis=1).astype(np.int64)
        return boxes, (numbers[:, -1] < 0.5) & self.flip


@dataclass(frozen=True)
class Normalisation:
    """The last step of a `PixelPipeline`: (pixels * factor - mean) / std of each channel.

    Called with (..., C, H, W) of any type, it returns float32 of the same shape on the same device, without waiting
    for the device. For uint8 it is one multiplication and one addition; values of more bits, which may be far from 0
    compared with their spread, would lose digits by that.

    Args:
        factor: of all channels.
        mean, std: of each channel.
    """

    factor: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        values = pixels.to(torch.float32, memory_format=torch.contiguous_format, copy=True)
        scale, shift, mean, std = _on_device(self, pixels.device)
        if pixels.dtype == torch.uint8:
            return values.mul_(scale).add_(shift)
        return values.mul_(self.factor).sub_(mean).div_(std)

    def finish(self, batch: dict[str, Any]) -> dict[str, Any]:
        """A batch with its `pixel_values` normalised. Those of floating point have been normalised already."""
        pixels = batch["pixel_values"]
        return batch if pixels.is_floating_point() else {**batch, "pixel_values": self(pixels)}


@lru_cache(maxsize=32)
def _on_device(values: Normalisation, device: torch.device) -> tuple[torch.Tensor, ...]:
    """factor / std, -mean / std, mean and std, (C, 1, 1) float32.

    They are kept, since copying them for each batch would wait for a GPU.
    """
    mean, std = np.array(values.mean), np.array(values.std)
    return tuple(
        torch.tensor(part, dtype=torch.float32, device=device).view(-1, 1, 1)
        for part in (values.factor / std, -mean / std, mean, std)
    )


class PixelPipeline:
    """Does the work of an image processor on batches: `plain` for whole images, `cropped` for random parts of them.

    With `normalised=False` these leave out the last step, `normalisation`, of images of 8 or 16 bits, and return uint8
    or uint16 (B, C, H, W), a quarter or half of the bytes. Images of floating point are normalised all the same, and
    so are those for which the processor itself has to be asked.

    Attributes:
        channels: the number of channels of the result, C.
        normalisation: the last step.

    Raises:
        ValueError: the processor does more than to resize, crop to the centre, rescale and normalise, or gives no
            finite values, or images of different sizes.
    """

    def __init__(self, image_processor: Any):
        self.processor = image_processor
        with as_value_error(
            f"The settings of {type(image_processor).__name__} do not give pixels for an encoder",
            "Change them in its preprocessor_config.json, or name another processor with --processor_name.",
        ):
            self._set_up(image_processor)

    def _set_up(self, image_processor: Any) -> None:
        self.width, self.height = target_size(image_processor)
        if not (0 < self.width <= _LARGEST_SIDE and 0 < self.height <= _LARGEST_SIDE):
            raise ValueError(
                f"images of {self.height} x {self.width} pixels are asked for; a side has 1 to {_LARGEST_SIDE}"
            )
        mean, std = np.zeros(3), np.ones(3)
        if image_processor.do_normalize:
            mean, std = np.atleast_1d(image_processor.image_mean), np.atleast_1d(image_processor.image_std)
        factor = image_processor.rescale_factor if image_processor.do_rescale else 1.0
        self.channels = len(mean)
        self.mode = {1: "L", 3: "RGB"}.get(self.channels)
        if not (np.isfinite([*mean, *std, factor]).all() and np.all(std)):
            raise ValueError(f"image_mean={mean}, image_std={std} and rescale_factor={factor} give no finite values")
        self.normalisation = Normalisation(float(factor), tuple(mean.tolist()), tuple(std.tolist()))

        noise = np.random.default_rng(0).integers(0, 256, (self.height, self.width, len(mean)), dtype=np.uint8)
        image = noise if self.mode is None else Image.fromarray(noise.squeeze(-1) if self.mode == "L" else noise)
        layout = {"input_data_format": "channels_last"} if self.mode is None else {}
        ours = self.normalisation(_stacked([noise]))
        if not _same(ours, self._ask_processor([image], do_resize=False, **layout)):
            raise ValueError(
                f"{type(image_processor).__name__} does more to an image of {self.height} x {self.width} pixels than "
                "to rescale and normalise it. Use an image processor that only resizes, crops to the centre, "
                "rescales and normalises."
            )
        # Images of the right size can skip the processor if it does not resize them. Some enlarge them before a crop.
        self._keeps_target_size = self.mode is not None and _same(ours, self._ask_processor([image]))

    @property
    def size(self) -> tuple[int, int]:
        """The width and height of the result."""
        return self.width, self.height

    def plain(self, images: Sequence[Picture], normalised: bool = True) -> torch.Tensor:
        """The same as `image_processor(images)`, (B, C, H, W) float32; faster if all images have the final size."""
        if isinstance(images[0], ArrayImage):
            return self._last_step(_stacked([*map(self._whole, images)]), normalised)
        converted = [*map(self._in_mode, images)]
        if self._keeps_target_size and all(image.size == self.size for image in converted):
            return self._last_step(_stacked([*map(np.asarray, converted)]), normalised)
        return self._ask_processor(converted)

    def cropped(
        self, images: Sequence[Picture], crop: RandomResizedCrop, rng: UniformSource, normalised: bool = True
    ) -> torch.Tensor:
        """A random crop of each image, (B, C, H, W) float32. Image b is cropped with row b of `rng`."""
        return self.cut(images, *crop.draw(np.array([image.size for image in images]), rng), normalised)

    def cut(
        self,
        images: Sequence[Picture],
        boxes: NDArray[np.int64],
        mirrored: NDArray[np.bool_],
        normalised: bool = True,
    ) -> torch.Tensor:
        """Parts of images, (B, C, H, W) float32. `boxes` and `mirrored` are those of `RandomResizedCrop.draw`."""
        parts = [self._part(image, tuple(box)) for image, box in zip(images, boxes.tolist(), strict=True)]
        return self._last_step(_stacked(parts, mirrored), normalised)

    def _part(self, image: Picture, box: tuple[int, int, int, int]) -> NDArray[Any]:
        """The part of an image in `box`, resized, (H, W, C), or (H, W) if it is grey and of 8 bits."""
        if isinstance(image, ArrayImage):
            return image.resize(self.size, self.processor.resample, box=box).values
        if not isinstance(image, UndecodedJpeg):
            return np.asarray(self._in_mode(image).resize(self.size, self.processor.resample, box=box))
        part = image.cut(box, self.size, self.processor.resample).numpy()
        return part if self.mode == "RGB" else np.asarray(self._in_mode(Image.fromarray(part)))

    def _whole(self, image: Any) -> NDArray[Any]:
        """What the processor's settings say of an image of any size: resized, and its centre."""
        processor, (width, height) = self.processor, image.size
        size, crops = processor.size, bool(getattr(processor, "do_center_crop", None))
        if processor.do_resize and size.get("height") and size.get("width"):
            resized = image.resize((size["width"], size["height"]), processor.resample)
        elif processor.do_resize and size.get("shortest_edge") and crops:
            shorter, sides = min(width, height), (width, height)
            scaled = [int(size["shortest_edge"] * side / shorter) for side in sides]
            resized = image.resize((scaled[0], scaled[1]), processor.resample)
        else:
            resized = image
        left, top = (resized.size[0] - self.width) // 2, (resized.size[1] - self.height) // 2
        if left < 0 or top < 0 or (not crops and resized.size != self.size):
            raise ValueError(
                f"{type(processor).__name__} with size={dict(size)} cannot be used for images of more than 8 bits or "
                f"of {self.channels} channels: give it a size of a height and a width in preprocessor_config.json."
            )
        return resized.values[top : top + self.height, left : left + self.width]

    def _in_mode(self, image: Any) -> Image.Image:
        return image if image.mode == self.mode else image.convert(self.mode)

    def _last_step(self, pixels: torch.Tensor, normalised: bool) -> torch.Tensor:
        return self.normalisation(pixels) if normalised or pixels.is_floating_point() else pixels

    def _ask_processor(self, images: Sequence[Any], **settings: Any) -> torch.Tensor:
        return self.processor(list(images), return_tensors="pt", **settings)["pixel_values"].to(torch.float32)


def _stacked(images: Sequence[NDArray[Any]], mirrored: NDArray[np.bool_] | None = None) -> torch.Tensor:
    """Images, (H, W, C) or (H, W), as (B, C, H, W), with the channels of a pixel side by side in memory.

    They keep their type; float32 if they have several.
    """
    kinds = {image.dtype for image in images}
    pixels = np.empty((len(images), *images[0].shape), kinds.pop() if len(kinds) == 1 else np.float32)
    for row, image in enumerate(images):
        pixels[row] = image if mirrored is None or not mirrored[row] else image[:, ::-1]
    return torch.from_numpy(pixels.reshape(*pixels.shape[:3], -1)).permute(0, 3, 1, 2)


def target_size(image_processor: Any) -> tuple[int, int]:
    """The width and height of the images that a processor returns.

    Raises:
        ValueError: they differ from image to image.
    """
    if getattr(image_processor, "do_center_crop", None):
        size = image_processor.crop_size
        return size["width"], size["height"]
    size = image_processor.size
    if image_processor.do_resize and size.get("height") and size.get("width"):
        return size["width"], size["height"]
    if image_processor.do_resize and max(filter(None, dict(size).values()), default=0) <= _LARGEST_SIDE:
        # Some processors always crop to a square of the shorter side (ConvNeXT).
        ask = partial(image_processor, do_normalize=False, return_tensors="pt")
        tall, wide = (ask([Image.new("RGB", sides)])["pixel_values"].shape[-2:] for sides in ((32, 48), (48, 32)))
        if tall == wide:
            return tall[1], tall[0]
    raise ValueError(
        f"The image processor's size={dict(size)}, do_resize={image_processor.do_resize} gives images of many "
        "shapes, but a batch needs one. Set size to a height and a width, with do_resize, or do_center_crop with "
        "a crop_size."
    )


def _same(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    return ours.shape == theirs.shape and torch.allclose(ours, theirs, rtol=1e-5, atol=1e-5)
