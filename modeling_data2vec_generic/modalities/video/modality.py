"""Video, which encoders read as patches that span a few frames."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import PreTrainedModel, VideoMAEImageProcessorPil

from ...evaluation.probe import ContentMask, after_prefix
from ...geometry_data2vec_generic import grid_of
from ...layout_data2vec_generic import find_layout
from ...masking.sampler import MaskSampler
from ...measurements_data2vec_generic import measure
from ...versions import AutoImageProcessor
from ..base_pictures import PictureModality
from ..vision.modality import image_size
from ..vision.pixels import RandomResizedCrop
from .clips import prepare_video
from .collator import DataCollatorForData2VecVideo


class Video(PictureModality):
    """Clips of one length and size, cut into patches that span `tubelet_size` frames.

    The same patches are masked in all frames ("tubes").
    """

    reads = "pixel_values"
    suggestions = "videomae or vivit"
    processor_class = AutoImageProcessor
    probe_task = "video-classification"
    encoder_call = '**processor(frames, return_tensors="pt")'
    column = "video"

    def pictures(self, values: Sequence[Any]) -> Sequence[dict[str, Any] | None]:
        return [clip[0] if clip else None for clip in values]

    def fit(self, encoder: PreTrainedModel) -> None:
        self.fit_processor(encoder)
        config = encoder.config
        height, width = image_size(config)
        self.tubelet = tubelet(config)
        frames, *sides = self.tubelet
        for name, size, step in (
            ("num_frames", config.num_frames, frames),
            ("image_size", height, sides[0]),
            ("image_size", width, sides[1]),
        ):
            if size % step:
                raise ValueError(
                    f"Patches of {frames} frames and {sides[0]} x {sides[1]} pixels do not divide {name}="
                    f"{getattr(config, name)}: the remainder would be cut off. Choose a patch size that divides it."
                )
        pixels = torch.zeros(1, self.num_frames, config.num_channels, height, width, device=encoder.device)
        measurements = measure(encoder, find_layout(encoder), {self.reads: pixels})
        steps = self.num_frames // frames
        self.grid = (steps, *grid_of(pixels.shape, measurements.length // steps, (sides[0], sides[1])))
        self.num_prefix_tokens = measurements.prefix

    def fit_processor(self, encoder: PreTrainedModel) -> None:
        self.check_encoder(encoder)
        config = encoder.config
        for name in ("num_frames", "image_size"):
            if getattr(config, name, None) is None:
                raise ValueError(
                    f"A {config.model_type} encoder has no {name}, so which clips it reads is unknown. Choose e.g. "
                    f"{self.suggestions}, or say what the data are with --modality."
                )
        height, width = image_size(config)
        self.num_frames = config.num_frames
        saved = self.saved_processor(backend="pil")
        half = [0.5] * config.num_channels
        self.processor = saved or VideoMAEImageProcessorPil(
            size={"height": height, "width": width}, do_center_crop=False, image_mean=half, image_std=half
        )
        self.fit_to_pictures(saved is not None, encoder)

    def check(self, mask: MaskSampler) -> None:
        mask.check(self.grid[1:])

    def prepare(self, raw: Dataset, split: str, mask: MaskSampler) -> Dataset:
        return prepare_video(raw, self.data_args, split, self.num_frames, self.processor)

    def prepare_whole(self, raw: Dataset, split: str) -> Dataset:
        return prepare_video(raw, self.data_args, split, self.num_frames, self.processor)

    def collator(self, mask: MaskSampler, num_masks: int, seed: int, student_input: str) -> Any:
        crop = RandomResizedCrop(self.data_args.crop_scale_min, flip=self.data_args.horizontal_flip)
        return DataCollatorForData2VecVideo(self.processor, self.grid, mask, num_masks, seed, augment=crop)

    def content_mask(self) -> ContentMask:
        return after_prefix(self.num_prefix_tokens)

    def plot_masks(self, batch: dict[str, torch.Tensor], path: Path) -> None:
        from .pictures import plot_video_masks  # matplotlib is an optional dependency

        clips = [self.visible(clip) for clip in batch["pixel_values"]]
        plot_video_masks(clips, batch["mask"][:, 0].reshape(-1, *self.grid).numpy(), path)

    def plot_features(
        self, batch: dict[str, torch.Tensor], colours: Mapping[str, Sequence[np.ndarray]], path: Path
    ) -> None:
        from .pictures import plot_video_features  # matplotlib is an optional dependency

        shape, (_, *sides) = batch["pixel_values"].shape, self.tubelet
        steps = self.grid[0]
        tiled = {
            name: [
                patches.reshape(steps, *grid_of(shape, len(patches) // steps, (sides[0], sides[1])), 3)
                for patches in row
            ]
            for name, row in colours.items()
        }
        plot_video_features([self.visible(clip) for clip in batch["pixel_values"]], tiled, path)

    def samples_of(self, batch: dict[str, torch.Tensor]) -> list[Any]:
        from .pictures import strip  # matplotlib is an optional dependency

        return [strip(self.visible(clip)) for clip in batch["pixel_values"]]


def tubelet(config: Any) -> tuple[int, int, int]:
    """Frames, height and width of a patch, from `tubelet_size` (ViViT), or from it and `patch_size` (VideoMAE)."""
    frames = getattr(config, "tubelet_size", 1)
    if not isinstance(frames, int):
        frames, height, width = frames
        return frames, height, width
    height, width = (config.patch_size,) * 2 if isinstance(config.patch_size, int) else config.patch_size
    return frames, height, width
