"""Classification and regression of images."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from datasets import Dataset
from torch import Tensor
from transformers import AutoModelForImageClassification, PreTrainedModel

from ....data.kinds_of_data import KINDS
from ....masking.sample_rng import CROP, DrawsByEpoch, RowGenerators
from ....modalities.video.clips import ClipPipeline
from ....modalities.vision.arrays.array_image import as_picture
from ....modalities.vision.images import prepare_images
from ....modalities.vision.pixels import PixelPipeline, RandomResizedCrop
from ...labels.base_target import Target
from ...optimization.mixup_cutmix import Mix
from ..base import Collate
from .base import Classification, LabelledCollator


class AugmentedCollator(DrawsByEpoch):
    """Makes training batches of images or clips: `pixel_values`, (B, C, H, W) or (B, F, C, H, W), and `labels`.

    Images are cropped and mirrored at random and, if `mix` is given, mixed. Every random choice depends on
    (seed, epoch, sample_index) alone; for mixing, that is the index of the batch's first sample.

    Args:
        column: name of the column that holds them, `image` (PIL images) or `video` (lists of PIL images).
        pixels: makes `pixel_values` of images or clips.
        crop: draws the crops.
        target: makes `labels`.
        mix: mixup and cutmix; None for neither.
        seed: of all random choices.
    """

    def __init__(
        self,
        column: str,
        pixels: PixelPipeline | ClipPipeline,
        crop: RandomResizedCrop,
        target: Target,
        mix: Mix | None,
        seed: int,
    ):
        self.column, self.pixels, self.crop, self.target = column, pixels, crop, target
        self.mix, self.seed = mix, seed
        super().__init__()

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Tensor]:
        indices = [int(example["sample_index"]) for example in examples]
        streams = RowGenerators.for_samples(self.seed, self.epoch, indices, CROP)
        pixel_values = self.pixels.cropped([example[self.column] for example in examples], self.crop, streams)
        labels = self.target.collate([example["label"] for example in examples])
        if self.mix is not None:
            rng = np.random.default_rng([self.seed, self.epoch, indices[0]])
            pixel_values, labels = self.mix(pixel_values, labels, rng)
        return {"pixel_values": pixel_values, "labels": labels}


class ImageClassification(Classification):
    """One image per row."""

    name = "image-classification"
    modality_name = "vision"
    pipeline_tag = "image-classification"
    pipeline_input = "image"
    auto_class: Any = AutoModelForImageClassification
    # Both papers fine-tune base models on ImageNet as BEiT and MAE do: 100 epochs at batch 512, learning rate 1e-3,
    # layer decay .65, drop path .1, mixup .7, cutmix 1, label smoothing .1. Weight decay and a warm-up of 5 epochs are
    # those of MAE.
    defaults = {
        "learning_rate": 1e-3,
        "per_device_train_batch_size": 64,
        "num_train_epochs": 100,
        "warmup_steps": 0.05,
        "lr_scheduler_type": "cosine",
        "weight_decay": 0.05,
        "layer_decay": 0.65,
        "mixup": 0.7,
        "cutmix": 1.0,
        "label_smoothing_factor": 0.1,
    }
    own_flags = (*Classification.own_flags, "mixup", "cutmix")
    drop_path = 0.1
    reference_batch_size = 512
    pipeline: ClassVar[type[PixelPipeline | ClipPipeline]] = PixelPipeline

    @property
    def column(self) -> str:
        """Name of the column that holds the images or clips."""
        return KINDS[self.modality_name].column

    def fit(self, encoder: PreTrainedModel) -> None:
        super().fit(encoder)
        self.pixels = self.pipeline(self.processor)

    def samples(self, rows: Dataset, split: str) -> Dataset:
        return prepare_images(rows, self.data_args, split, self.processor)

    def inputs(self, examples: list[dict[str, Any]]) -> dict[str, Tensor]:
        return {"pixel_values": self.pixels.plain([example[self.column] for example in examples])}

    def collator(self, training: bool) -> Collate:
        if not training:
            return LabelledCollator(self.inputs, self.target)
        mix = None
        if self.task_args.mixup or self.task_args.cutmix:
            mix = Mix(self.task_args.mixup, self.task_args.cutmix, len(self.target.names))
        crop = RandomResizedCrop(self.data_args.crop_scale_min, flip=self.data_args.horizontal_flip)
        return AugmentedCollator(self.column, self.pixels, crop, self.target, mix, self.training_args.seed)

    def picture(self, example: Mapping[str, Any]) -> np.ndarray:
        return as_picture(example["image"])
