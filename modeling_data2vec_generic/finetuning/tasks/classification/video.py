"""Classification and regression of video clips."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import AutoModelForVideoClassification

from ....modalities.video.clips import ClipPipeline, prepare_video
from .images import ImageClassification


class VideoClassification(ImageClassification):
    """One clip per row. All its frames are cropped and mixed in the same way, as images are.

    Clips with more frames than the encoder's `num_frames` are split into pieces, each of which is a sample with the
    clip's label.
    """

    name = "video-classification"
    modality_name = "video"
    pipeline_tag = "video-classification"
    pipeline_input = '"clip.mp4"'
    auto_class = AutoModelForVideoClassification
    # Neither data2vec paper has video. The values are those of VideoMAE's own script (arXiv 2203.12602) for base
    # models on Kinetics-400: 100 epochs, learning rate 1e-3 at batch 256, a warm-up of 5 epochs, weight decay .05,
    # layer decay .75, drop path .1, mixup .8, cutmix 1, label smoothing .1.
    defaults = {
        "learning_rate": 1e-3,
        "per_device_train_batch_size": 8,
        "num_train_epochs": 100,
        "warmup_steps": 0.05,
        "lr_scheduler_type": "cosine",
        "weight_decay": 0.05,
        "layer_decay": 0.75,
        "mixup": 0.8,
        "cutmix": 1.0,
        "label_smoothing_factor": 0.1,
    }
    reference_batch_size = 256
    pipeline = ClipPipeline

    def samples(self, rows: Dataset, split: str) -> Dataset:
        frames = self.modality.num_frames  # type: ignore[attr-defined]  # the modality is video
        return prepare_video(rows, self.data_args, split, frames, self.processor)

    def source_rows(self, dataset: Dataset) -> list[int]:
        return dataset.with_format(None)["clip"][:]

    def picture(self, example: Mapping[str, Any]) -> np.ndarray:
        return np.concatenate([np.asarray(frame) for frame in example["video"]], axis=1)
