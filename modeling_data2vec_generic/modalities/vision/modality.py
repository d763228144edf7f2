"""Images, which encoders read as patches."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import PreTrainedModel, ViTImageProcessorPil

from ...evaluation.probe import ContentMask, after_prefix
from ...geometry_data2vec_generic import grid_of, patch_sides
from ...layout_data2vec_generic import find_layout
from ...masking.sampler import MaskSampler
from ...measurements_data2vec_generic import measure
from ...versions import AutoImageProcessor
from ..base_pictures import PictureModality
from .collator import DataCollatorForData2VecVision
from .images import prepare_images
from .pixels import RandomResizedCrop, target_size


class Vision(PictureModality):
    """Images of one size, cut into patches."""

    reads = "pixel_values"
    suggestions = "vit or beit"
    processor_class = AutoImageProcessor
    pipeline_tag = "image-feature-extraction"
    probe_task = "image-classification"
    encoder_call = '**processor(images, return_tensors="pt")'
    column = "image"

    def pictures(self, values: Sequence[Any]) -> Sequence[dict[str, Any] | None]:
        return values

    def fit(self, encoder: PreTrainedModel) -> None:
        self.fit_processor(encoder)
        config = encoder.config
        height, width = self.size
        check_patch_size(config, self.size)
        pixels = torch.zeros(1, getattr(config, "num_channels", 3), height, width, device=encoder.device)
        measurements = measure(encoder, find_layout(encoder), {self.reads: pixels})
        self.patch = patch_sides(config)
        self.grid = grid_of(pixels.shape, measurements.length, self.patch)
        self.num_prefix_tokens = measurements.prefix

    def fit_processor(self, encoder: PreTrainedModel) -> None:
        self.check_encoder(encoder)
        config = encoder.config
        if getattr(config, "num_frames", None) is not None:
            raise ValueError(
                f"A {config.model_type} encoder reads clips of {config.num_frames} frames, and these data are images. "
                f"Choose e.g. {self.suggestions}, or give clips with --modality video."
            )
        saved = self.saved_processor(backend="pil")
        if getattr(config, "image_size", None) is not None:
            self.size = image_size(config)
        elif saved is not None:
            self.size = target_size(saved)[::-1]
        else:
            raise ValueError(
                f"A {config.model_type} encoder has no image_size, and no image processor is saved with it, so which "
                "images it reads is unknown. Name a folder or Hub id that has one with --processor_name, choose e.g. "
                "vit or beit, or say what the data are with --modality."
            )
        height, width = self.size
        half = [0.5] * getattr(config, "num_channels", 3)
        from PIL.Image import Resampling  # Pillow is an optional dependency

        # Bicubic, as in the recipes of both papers. The default of transformers is bilinear.
        self.processor = saved or ViTImageProcessorPil(
            size={"height": height, "width": width},
            image_mean=half,
            image_std=half,
            resample=Resampling.BICUBIC,
        )
        self.fit_to_pictures(saved is not None, encoder)

    def check(self, mask: MaskSampler) -> None:
        mask.check(self.grid)

    def prepare(self, raw: Dataset, split: str, mask: MaskSampler) -> Dataset:
        return prepare_images(raw, self.data_args, split, self.processor)

    def prepare_whole(self, raw: Dataset, split: str) -> Dataset:
        return prepare_images(raw, self.data_args, split, self.processor)

    def collator(self, mask: MaskSampler, num_masks: int, seed: int, student_input: str) -> Any:
        crop = RandomResizedCrop(self.data_args.crop_scale_min, flip=self.data_args.horizontal_flip)
        return DataCollatorForData2VecVision(self.processor, self.grid, mask, num_masks, seed, augment=crop)

    def content_mask(self) -> ContentMask:
        return after_prefix(self.num_prefix_tokens)

    def plot_masks(self, batch: dict[str, torch.Tensor], path: Path) -> None:
        from .pictures import plot_image_masks  # matplotlib is an optional dependency

        plot_image_masks(self.samples_of(batch), batch["mask"][:, 0].reshape(-1, *self.grid).numpy(), path)

    def plot_features(
        self, batch: dict[str, torch.Tensor], colours: Mapping[str, Sequence[np.ndarray]], path: Path
    ) -> None:
        from .pictures import plot_image_features  # matplotlib is an optional dependency

        shape = batch["pixel_values"].shape
        tiled = {
            name: [patches.reshape(*grid_of(shape, len(patches), self.patch), 3) for patches in row]
            for name, row in colours.items()
        }
        plot_image_features(self.samples_of(batch), tiled, path)

    def samples_of(self, batch: dict[str, torch.Tensor]) -> list[Any]:
        return [self.visible(pixels) for pixels in batch["pixel_values"]]


def image_size(config: Any) -> tuple[int, int]:
    """The height and width of the images that an encoder reads."""
    return (config.image_size,) * 2 if isinstance(config.image_size, int) else tuple(config.image_size)


def check_patch_size(config: Any, size: tuple[int, int]) -> None:
    """Raises ValueError if the height or width of the image is not a multiple of the patch size.

    For patches that overlap (Hiera), their stride counts.
    """
    sides = patch_sides(config)
    if any(side % step for side, step in zip(size, sides, strict=True)):
        raise ValueError(
            f"patch_size={sides[0] if sides[0] == sides[1] else sides} does not divide image_size="
            f"{getattr(config, 'image_size', size)}: a border of the image would be cut off. Choose a patch size that "
            "divides both sides, or resize the images."
        )
