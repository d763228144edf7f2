"""Processors that belong to a converted encoder: made from the checkpoint's settings, or taken from elsewhere."""

from typing import Any

from transformers import AutoProcessor, AutoTokenizer, PreTrainedModel, Wav2Vec2FeatureExtractor
from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from ..errors import as_value_error
from ..versions import AutoImageProcessor
from .formats.base_format import Settings


def loaded_processor(name: str, model: PreTrainedModel) -> Any:
    """The processor of a folder or Hub id: a tokenizer, an image processor or what prepares sound.

    Raises:
        ValueError: there is none, or it has more words than the encoder has embeddings.
    """
    with as_value_error(
        f"processor_name={name!r} cannot be loaded as a processor of {model.main_input_name}",
        "Check that it is a folder or a Hub id with a tokenizer, an image processor or a feature extractor.",
    ):
        if model.main_input_name == "pixel_values":
            return AutoImageProcessor.from_pretrained(name, backend="pil")
        if model.main_input_name == "input_values":
            return AutoProcessor.from_pretrained(name)
        tokenizer = AutoTokenizer.from_pretrained(name)
    if len(tokenizer) > model.config.vocab_size:
        raise ValueError(
            f"processor_name={name!r} has {len(tokenizer)} words, and the encoder has embeddings for "
            f"{model.config.vocab_size}. Name the tokenizer that the encoder was trained with."
        )
    return tokenizer


def made_processor(modality: str, config: Any, settings: Settings) -> Any:
    """A processor that treats data as the encoder's training did; None for text, whose vocabulary is not known."""
    if modality == "text":
        return None
    if modality == "speech":
        return Wav2Vec2FeatureExtractor(
            sampling_rate=settings.task.get("sample_rate") or 16_000,
            do_normalize=settings.task.get("normalize") is not False,  # on in the recipes of both papers
            return_attention_mask=True,
        )
    from PIL.Image import Resampling  # Pillow is an optional dependency
    from transformers import ViTImageProcessorPil

    half = settings.model.get("imagenet_default_mean_and_std") is False
    return ViTImageProcessorPil(
        size={"height": config.image_size, "width": config.image_size},
        image_mean=settings.task.get("normalization_mean") or ([0.5] * 3 if half else IMAGENET_DEFAULT_MEAN),
        image_std=settings.task.get("normalization_std") or ([0.5] * 3 if half else IMAGENET_DEFAULT_STD),
        resample=Resampling.BICUBIC,
    )
