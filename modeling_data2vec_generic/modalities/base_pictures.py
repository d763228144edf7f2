"""The base class of images and video: how many channels their pictures have, and how their values are scaled."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from datasets import Dataset
from transformers import PreTrainedModel
from transformers.utils import logging

from ..data.arguments import DataArguments
from ..data.quality.screening import some_rows
from ..training.arguments import ModelArguments
from ..training.encoders import parse_overrides
from .base_modality import Modality
from .vision.arrays.array_format import look_at
from .vision.arrays.scaling import array_format_of, fit_to_images

logger = logging.get_logger(__name__)


class PictureModality(Modality):
    """Data made of pictures. Some of the training data are looked at, to find the number of their channels.

    Attributes:
        column: the column with the pictures.
    """

    column: ClassVar[str]

    def __init__(self, model_args: ModelArguments, data_args: DataArguments, raw: Dataset):
        super().__init__(model_args, data_args, raw)
        self.raw = raw

    def encoder_defaults(self) -> dict[str, Any]:
        """The number of channels, for pictures other than 8-bit grey or RGB. The base class sets nothing."""
        given = parse_overrides(self.model_args.config_overrides).get("num_channels")
        found = array_format_of(look_at(self._some_pictures(), given), self.data_args)
        if found is None:
            return {}
        logger.info(
            f"A new encoder reads num_channels={found.channels}, as the training data say, unless "
            "--config_overrides sets it."
        )
        return {"num_channels": found.channels}

    def fit_to_pictures(self, is_saved: bool, encoder: PreTrainedModel) -> None:
        """Sets how pictures are decoded and scaled, in `processor`. `is_saved`: whether it was loaded."""
        channels = getattr(encoder.config, "num_channels", 3)
        fit_to_images(self.processor, is_saved, look_at(self._some_pictures(), channels), self.data_args, channels)

    def _some_pictures(self) -> Sequence[dict[str, Any] | None]:
        given = self.column in self.raw.column_names
        return self.pictures(some_rows(self.raw)[self.column]) if given else []

    def visible(self, pixel_values: torch.Tensor) -> np.ndarray:
        """What a picture or a clip looks like: (..., height, width, 3), from 0 at its darkest to 1.

        Args:
            pixel_values: (..., channels, height, width), as the processor gives them.
        """
        from ..figures.drawing import as_pictures  # matplotlib is an optional dependency

        values = pixel_values.numpy()
        if self.processor.do_normalize:
            mean, std = np.array(self.processor.image_mean), np.array(self.processor.image_std)
            values = values * std[..., None, None] + mean[..., None, None]
        return as_pictures(values)

    @abstractmethod
    def pictures(self, values: Sequence[Any]) -> Sequence[dict[str, Any] | None]:
        """A file ({"bytes": content or None, "path": its path}) of each value in `column`."""
