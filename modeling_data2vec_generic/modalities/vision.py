"""Images: patches of one size of image."""

from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoImageProcessor, PreTrainedModel, ViTImageProcessorPil

from ..backbone_data2vec_generic import patch_grid
from ..data.collators import DataCollatorForData2VecVision
from ..data.images import prepare_images
from ..data.masking import MaskSampler
from ..data.pixels import RandomResizedCrop
from ..training.probe import ContentMask, after_prefix, evaluation_mode
from .base import Modality


class Vision(Modality):
    """Images of one size, cut into patches."""

    reads = "pixel_values"
    suggestions = "vit or beit"

    def fit(self, encoder: PreTrainedModel) -> None:
        self.check_encoder(encoder)
        config = encoder.config
        grid = patch_grid(config)
        if grid is None:
            raise ValueError(
                f"A {config.model_type} encoder has no image_size and patch_size, so it does not read images. Choose "
                "e.g. vit or beit, or say what the data are with --modality."
            )
        self.grid = grid
        height, width = (config.image_size,) * 2 if isinstance(config.image_size, int) else config.image_size
        saved = self.saved_processor(AutoImageProcessor, backend="pil")
        half = [0.5] * config.num_channels
        self.processor = saved or ViTImageProcessorPil(
            size={"height": height, "width": width}, image_mean=half, image_std=half
        )
        pixels = torch.zeros(1, config.num_channels, height, width, device=encoder.device)
        with evaluation_mode(encoder), torch.no_grad():
            self.num_prefix_tokens = encoder(pixels).last_hidden_state.shape[1] - grid[0] * grid[1]

    def check(self, mask: MaskSampler) -> None:
        mask.check(self.grid)

    def prepare(self, raw: Dataset, split: str, mask: MaskSampler) -> Dataset:
        return prepare_images(raw, self.data_args, split)

    def collator(self, mask: MaskSampler, num_masks: int, seed: int, student_input: str) -> Any:
        crop = RandomResizedCrop(self.data_args.crop_scale_min, flip=self.data_args.horizontal_flip)
        return DataCollatorForData2VecVision(self.processor, self.grid, mask, num_masks, seed, augment=crop)

    def content_mask(self) -> ContentMask:
        return after_prefix(self.num_prefix_tokens)

    def plot_mask(self, batch: dict[str, torch.Tensor], path: Path) -> None:
        from ..reporting.figures import plot_image_mask  # matplotlib is an extra

        plot_image_mask(batch["pixel_values"][0].numpy(), batch["mask"][0, 0].numpy(), self.grid, path)
