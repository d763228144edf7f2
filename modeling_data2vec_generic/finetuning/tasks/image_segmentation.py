"""Semantic segmentation: a class for each pixel of an image."""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset, Features, Image, Value
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForSemanticSegmentation, BeitImageProcessorPil, PreTrainedModel
from transformers.utils import logging

from ...classification_data2vec_generic import Data2VecGenericForSemanticSegmentation
from ...data.sources.columns import undecoded
from ...data.summary import note
from ...masking.sample_rng import CROP, DrawsByEpoch, RowGenerators
from ...modalities.vision.arrays.array_image import as_picture
from ...modalities.vision.pixels import PixelPipeline, RandomResizedCrop
from ...modalities.vision.segmentation_labels import (
    IGNORED,
    ignored_value,
    inspect_masks,
    prepare_masked_images,
    resized,
    screen_masks,
)
from ..labels.single_label import SingleLabel
from ..metrics import load_metric
from ..metrics.confusion import confusion_counts, intersection_over_union
from .base import Collate, Splits, Task

logger = logging.get_logger(__name__)

# Types whose head in transformers reads the outputs of four blocks: the field of the configuration that lists these
# blocks, and the number of the first block in it. The default values of the fields are for base models.
_READS_FOUR_BLOCKS = {
    "beit": ("out_indices", 1),
    "data2vec-vision": ("out_indices", 1),
    "dpt": ("backbone_out_indices", 0),
}
_SHOWN = 4  # most images in the figure of errors
_PADDING = -100  # value with which Trainer pads


class TrainingMasks(DrawsByEpoch):
    """Makes training batches of images and masks: `pixel_values`, (B, C, H, W), and `labels`, (B, H, W) uint8.

    An image and its mask (PIL images, `image` and `label`) are cropped and mirrored at random in the same way. If no
    pixel of the crop has a class, the whole image is used. Every random choice depends on (seed, epoch, sample_index)
    alone.

    Args:
        pixels: makes `pixel_values` of images.
        crop: draws the crops.
        seed: of all random choices.
    """

    def __init__(self, pixels: PixelPipeline, crop: RandomResizedCrop, seed: int):
        self.pixels, self.crop, self.seed = pixels, crop, seed
        super().__init__()

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Tensor]:
        images, masks = ([example[name] for example in examples] for name in ("image", "label"))
        indices = [int(example["sample_index"]) for example in examples]
        streams = RowGenerators.for_samples(self.seed, self.epoch, indices, CROP)
        boxes, mirrored = self.crop.draw(np.array([image.size for image in images]), streams)
        labels = np.empty((len(masks), self.pixels.height, self.pixels.width), dtype=np.uint8)
        for row, mask in enumerate(masks):
            left, top, right, bottom = boxes[row].tolist()
            labels[row] = resized(mask, self.pixels.size, (left, top, right, bottom))
            if (labels[row] == IGNORED).all():
                boxes[row] = (0, 0, *mask.size)
                labels[row] = resized(mask, self.pixels.size)
        labels[mirrored] = labels[mirrored, :, ::-1]
        return {"pixel_values": self.pixels.cut(images, boxes, mirrored), "labels": torch.from_numpy(labels)}


class ImageSegmentation(Task):
    """One image and its mask per row. The pixels of the mask are whole numbers, the classes.

    Pixels of --semantic_loss_ignore_index have no class. Masks (by the nearest pixel) and logits (bilinear) are
    resized to the size of image that the encoder reads, at which the metrics are computed.
    """

    name = "image-segmentation"
    modality_name = "vision"
    pipeline_tag = "image-segmentation"
    pipeline_input = "image"
    auto_class = AutoModelForSemanticSegmentation
    own_head = Data2VecGenericForSemanticSegmentation
    own_flags = ("semantic_loss_ignore_index",)
    main_metric = "mean_iou"
    # Neither paper has such a task. The values are those of MMSegmentation for MAE's base model with UperNet on
    # ADE20K: 160,000 steps of 16 images (127 epochs), a warm-up of 1,500 steps, AdamW at 1e-4 with linear decay,
    # weight decay .05, layer decay .65, drop path .1.
    defaults = {
        "learning_rate": 1e-4,
        "per_device_train_batch_size": 16,
        "num_train_epochs": 127,
        "warmup_steps": 0.01,
        "weight_decay": 0.05,
        "layer_decay": 0.65,
    }
    drop_path = 0.1
    reference_batch_size = 16
    target: SingleLabel

    @classmethod
    def takes(cls, label: Any) -> bool:
        return isinstance(label, Image)

    def encode(self, splits: Splits) -> Splits:
        flag = f"label_column_name={self.data_args.label_column_name!r}"
        masks = {
            split: undecoded(dataset, "label", self.modality_name, self.data_args, split, flag)
            for split, dataset in splits.items()
        }
        found = {split: inspect_masks(dataset, self.data_args, split) for split, dataset in masks.items()}
        ignored = ignored_value(found, self.task_args.semantic_loss_ignore_index)
        encoded = {
            split: screen_masks(dataset, self.data_args, split, ignored, found[split])
            for split, dataset in masks.items()
        }
        self.target = SingleLabel()
        self.target.encode({split: _by_value(dataset) for split, dataset in encoded.items()}, self.data_args)
        self.classes = [int(name) for name in self.target.names]
        note("train", f"{len(self.classes)} classes, by the values in the masks: {', '.join(self.target.names[:20])}.")
        if len(self.classes) > IGNORED:
            raise ValueError(
                f"The training masks hold {len(self.classes)} different values, and at most {IGNORED} classes can be "
                "told apart. Masks that number instances, or that were compressed with loss (JPEG), can't be used."
            )
        return encoded

    def check(self, train: Dataset) -> None:
        """Warn of classes without a pixel in the training masks."""
        found = {value for values in train["values"][:] for value in values}
        if lacking := [str(value) for value in self.classes if value not in found]:
            logger.warning(
                f"{len(lacking)} of {len(self.classes)} classes have no pixel in the training masks "
                f"({', '.join(lacking[:5])}), so they can't be learned."
            )

    def fit(self, encoder: PreTrainedModel) -> None:
        """Fit the processor as the base class does, and replace it by BEiT's.

        BEiT's processor resizes the whole image without cropping it, and can make masks of logits.
        """
        super().fit(encoder)
        self.config = encoder.config
        given = PixelPipeline(self.processor)
        kept = ["resample", "do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std"]
        kept += [name for name in ("black_level", "white_level", "array_format") if hasattr(given.processor, name)]
        self.modality.processor = BeitImageProcessorPil(
            size={"height": given.height, "width": given.width},
            **{name: getattr(given.processor, name) for name in kept},
        )
        self.pixels = PixelPipeline(self.processor)

    def settings(self) -> dict[str, Any]:
        settings = self.target.settings() | {"semantic_loss_ignore_index": IGNORED}
        del settings["problem_type"]
        if self.config.model_type in _READS_FOUR_BLOCKS:
            name, first = _READS_FOUR_BLOCKS[self.config.model_type]
            blocks, given = self.config.num_hidden_layers, getattr(self.config, name)
            if blocks < 4:
                raise ValueError(
                    f"The head of transformers for {self.config.model_type} reads four blocks, and this encoder has "
                    f"{blocks}. Choose one with four or more."
                )
            if len(given) != 4 or max(given) >= blocks + first:
                settings[name] = [blocks * part // 4 - 1 + first for part in (1, 2, 3, 4)]
        return settings

    def prepare(self, rows: Dataset, split: str) -> Dataset:
        return prepare_masked_images(rows, self.data_args, split, self.classes, self.pixels.size, self.processor)

    def inputs(self, examples: list[dict[str, Any]]) -> dict[str, Tensor]:
        return {"pixel_values": self.pixels.plain([example["image"] for example in examples])}

    def collator(self, training: bool) -> Collate:
        if not training:
            return self._collate
        crop = RandomResizedCrop(self.data_args.crop_scale_min, flip=self.data_args.horizontal_flip)
        return TrainingMasks(self.pixels, crop, self.training_args.seed)

    def _collate(self, examples: list[dict[str, Any]]) -> dict[str, Tensor]:
        masks = np.stack([resized(example["label"], self.pixels.size) for example in examples])
        return {**self.inputs(examples), "labels": torch.from_numpy(masks)}

    def loss(self, model: nn.Module, inputs: Mapping[str, Any]) -> tuple[Tensor, Any]:
        # The batch holds labels of 8 bits, and the loss needs 64.
        outputs = model(**{**inputs, "labels": inputs["labels"].long()})
        return outputs["loss"], outputs

    def answers(self, logits: Tensor) -> Tensor:
        """(B, H, W) uint8, the best class of each pixel."""
        size = (self.pixels.height, self.pixels.width)
        return functional.interpolate(logits.float(), size, mode="bilinear").argmax(1).to(torch.uint8)

    def kept(self, answers: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Count the pixels of each image by pairs of class and predicted class.

        Returns:
            For each image the pairs that occur, at most P, padded with -100: (B, P, 2) int32 with the predicted class
            and the number of pixels, and (B, P) int32 with the class.
        """
        pairs = labels.long() * len(self.classes) + answers
        predicted, true = [], []
        for image, known in zip(pairs, labels != IGNORED, strict=True):
            values, pixels = image[known].unique(return_counts=True)
            predicted.append(torch.stack([values % len(self.classes), pixels], dim=-1).int())
            true.append(values.int() // len(self.classes))
        padded = partial(pad_sequence, batch_first=True, padding_value=_PADDING)
        return padded(predicted), padded(true)

    def metrics(self, logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        counts = self._counts(logits, labels)
        true, predicted = np.indices(counts.shape)
        found = load_metric("mean_iou").compute(
            predictions=predicted.ravel(),
            references=true.ravel(),
            sample_weight=counts.ravel(),
            num_labels=len(self.classes),
        )
        by_class = zip(self.target.names, found["per_category_iou"], strict=True)
        means = {name: found[name] for name in ("mean_iou", "mean_accuracy", "overall_accuracy")}
        return means | {f"iou_{name}": float(value) for name, value in by_class if not np.isnan(value)}

    def _counts(self, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """(K, K) pixels by class and predicted class, of one image or of all images; arguments as kept."""
        predicted, pixels = logits[..., 0], logits[..., 1]
        return confusion_counts(labels, predicted, len(self.classes), _PADDING, pixels)

    def predictions(self, logits: np.ndarray, labels: np.ndarray, dataset: Dataset) -> Iterator[dict[str, Any]]:
        """Rows as described in the base class, with the share of correct pixels and the IoU of each class.

        Classes that are neither in the mask nor in the prediction are left out.
        """
        ids = dataset.with_format(None)["sample_index"][:]
        for number, counts in zip(ids, map(self._counts, logits, labels), strict=True):
            by_class = zip(self.target.names, intersection_over_union(counts), strict=True)
            yield {
                "id": number,
                "accuracy": float(counts.trace() / counts.sum()),
                "iou": {name: float(value) for name, value in by_class if not np.isnan(value)},
            }

    def draw(self, logits: np.ndarray, labels: np.ndarray, dataset: Dataset, directory: Path) -> list[Path]:
        from ...figures.predictions import plot_confusion_counts  # matplotlib is an extra

        return [plot_confusion_counts(self._counts(logits, labels), self.target.names, directory / "confusion.png")]

    def shown(self, logits: np.ndarray, labels: np.ndarray) -> list[int]:
        """The images with the largest shares of wrong pixels."""
        accuracies = [counts.trace() / counts.sum() for counts in map(self._counts, logits, labels)]
        return np.argsort(accuracies, kind="stable")[:_SHOWN].tolist()

    def draw_shown(self, answers: Mapping[int, np.ndarray], dataset: Dataset, directory: Path) -> list[Path]:
        from ...figures.predictions import plot_masks

        samples = [dataset[row] for row in answers]
        images = [as_picture(sample["image"].resize(self.pixels.size)) for sample in samples]
        masks = [np.ma.masked_equal(resized(sample["label"], self.pixels.size), IGNORED) for sample in samples]
        predicted = list(answers.values())
        shares = [(mask == answer).mean() for mask, answer in zip(masks, predicted, strict=True)]
        titles = [f"{share:.0%} of the pixels are right" for share in shares]
        return [plot_masks(titles, images, masks, predicted, self.target.names, directory / "errors.png")]


def _by_value(dataset: Dataset) -> Dataset:
    """A dataset with a row for each value of each mask, as `label`, and the `sample_index` of the mask's row."""
    rows = dataset["values"][:]
    columns = {
        "label": [value for values in rows for value in values],
        "sample_index": np.repeat(dataset["sample_index"][:], [len(values) for values in rows]),
    }
    return Dataset.from_dict(columns, Features({"label": Value("int64"), "sample_index": Value("int64")}))
