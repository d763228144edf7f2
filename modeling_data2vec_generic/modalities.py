"""What differs between images, text and speech in a run: processor, samples, collator, and the features of the
probe."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import nn
from transformers import (
    AutoFeatureExtractor,
    AutoImageProcessor,
    AutoTokenizer,
    PreTrainedModel,
    ViTImageProcessorPil,
    Wav2Vec2FeatureExtractor,
)
from transformers.utils import cached_file, logging

from .backbone_data2vec_generic import FrameCounter, patch_grid
from .data.arguments import DataArguments
from .data.collators import (
    DataCollatorForData2VecSpeech,
    DataCollatorForData2VecText,
    DataCollatorForData2VecVision,
)
from .data.images import prepare_images
from .data.masking import MaskSampler
from .data.pixels import RandomResizedCrop
from .data.speech import prepare_speech
from .data.text import check_tokenizer, prepare_text, sequence_length, train_tokenizer
from .training.arguments import ModelArguments
from .training.probe import ContentMask, after_prefix, evaluation_mode, real_frames, real_tokens

logger = logging.get_logger(__name__)


class Modality(ABC):
    """One kind of data, from raw rows to batches.

    The order of a run: make one, ask for `encoder_defaults`, build the encoder, `fit` to it, `prepare` the data, make
    a collator.

    Args:
        model_args, data_args: the flags.
        raw: the training rows, as `load_raw_datasets` gives them.

    Attributes:
        processor: the tokenizer, image processor or feature extractor, to be saved beside the encoder.
    """

    processor: Any

    def __init__(self, model_args: ModelArguments, data_args: DataArguments, raw: Dataset):
        self.model_args, self.data_args = model_args, data_args
        self.source = model_args.processor_name or model_args.model_name_or_path or model_args.config_name

    def saved_processor(self, auto_class: Any, **options: Any) -> Any:
        """What is saved beside the encoder or named by --processor_name; `None` if the encoder came without one."""
        if self.source is None:
            return None
        names = ("preprocessor_config.json", "processor_config.json")
        optional = {f"_raise_exceptions_for_{kind}": False for kind in ("missing_entries", "gated_repo")}
        if self.model_args.processor_name is None and not any(
            cached_file(self.source, name, **optional) for name in names
        ):
            logger.warning(f"{self.source} holds no processor; one is made from the encoder's configuration.")
            return None
        return auto_class.from_pretrained(self.source, trust_remote_code=self.model_args.trust_remote_code, **options)

    def encoder_defaults(self) -> dict[str, Any]:
        """Fields of a new encoder's configuration that the data settle."""
        return {}

    @abstractmethod
    def fit(self, encoder: PreTrainedModel) -> None:
        """Take from the encoder what processor and collator need.

        Raises:
            ValueError: encoder and data do not go together.
        """

    @abstractmethod
    def check(self, mask: MaskSampler) -> None:
        """Raise ValueError if the mask would cover nothing or everything of a full sample."""

    @abstractmethod
    def prepare(self, raw: Dataset, split: str, mask: MaskSampler) -> Dataset:
        """Samples that can be trained on; bad ones are left out, counted and named."""

    def prepare_labelled(self, raw: Dataset, split: str, prepared: Dataset) -> Dataset | None:
        """Samples with labels for the probe, where there are labels."""
        return prepared if "label" in prepared.column_names else None

    @abstractmethod
    def collator(self, mask: MaskSampler, num_masks: int, seed: int, student_input: str) -> Any:
        """The training collator; its `for_evaluation()` and `plain` serve the rest."""

    @abstractmethod
    def content_mask(self) -> ContentMask:
        """Which positions of the encoder's output are content."""

    @abstractmethod
    def plot_mask(self, batch: dict[str, torch.Tensor], path: Path) -> None:
        """A picture of the first sample of a batch and its first mask."""


class Vision(Modality):
    """Images of one size, cut into patches."""

    def fit(self, encoder: PreTrainedModel) -> None:
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
        from .reporting.figures import plot_image_mask

        plot_image_mask(batch["pixel_values"][0].numpy(), batch["mask"][0, 0].numpy(), self.grid, path)


class Text(Modality):
    """Tokens, packed into full sequences or line by line."""

    def __init__(self, model_args: ModelArguments, data_args: DataArguments, raw: Dataset):
        super().__init__(model_args, data_args, raw)
        if data_args.train_tokenizer:
            self.processor = train_tokenizer((row["text"] for row in raw), data_args.tokenizer_vocab_size)
            if data_args.max_seq_length is not None:
                self.processor.model_max_length = data_args.max_seq_length
        elif self.source is not None:
            self.processor = AutoTokenizer.from_pretrained(self.source, trust_remote_code=model_args.trust_remote_code)
        else:
            raise ValueError(
                "An encoder for text needs a tokenizer: name one with --processor_name, or let one be trained on "
                "the data with --train_tokenizer."
            )
        check_tokenizer(self.processor)

    def encoder_defaults(self) -> dict[str, Any]:
        return {"vocab_size": len(self.processor), "pad_token_id": self.processor.pad_token_id}

    def fit(self, encoder: PreTrainedModel) -> None:
        if len(self.processor) > encoder.config.vocab_size:
            raise ValueError(
                f"The tokenizer has {len(self.processor)} tokens and the encoder embeds {encoder.config.vocab_size}: "
                "they do not belong together. Name the encoder's own with --processor_name."
            )
        length, limit = sequence_length(self.processor, self.data_args), position_limit(encoder)
        if limit is not None and length > limit:
            raise ValueError(
                f"Sequences of {length} tokens are longer than the {limit} positions of the encoder. Set "
                f"--max_seq_length to at most {limit}, or raise max_position_embeddings with --config_overrides."
            )
        self.length = length

    def check(self, mask: MaskSampler) -> None:
        mask.check((self.length - self.processor.num_special_tokens_to_add(),))

    def prepare(self, raw: Dataset, split: str, mask: MaskSampler) -> Dataset:
        return prepare_text(raw, self.processor, self.data_args, split)

    def prepare_labelled(self, raw: Dataset, split: str, prepared: Dataset) -> Dataset | None:
        if "label" not in raw.column_names:
            return None
        return prepare_text(raw, self.processor, self.data_args, split, line_by_line=True)

    def collator(self, mask: MaskSampler, num_masks: int, seed: int, student_input: str) -> Any:
        return DataCollatorForData2VecText(
            self.processor, mask, num_masks, seed, student_tokens=student_input == "mask_token"
        )

    def content_mask(self) -> ContentMask:
        return real_tokens

    def plot_mask(self, batch: dict[str, torch.Tensor], path: Path) -> None:
        from .reporting.figures import plot_text_mask

        real = batch["attention_mask"][0].bool()
        tokens = [self.processor.decode([token]) for token in batch["input_ids"][0][real].tolist()]
        plot_text_mask(tokens, batch["mask"][0, 0][real].numpy(), path)


class Speech(Modality):
    """Waveforms, turned into frames by the encoder's convolutions."""

    def fit(self, encoder: PreTrainedModel) -> None:
        config = encoder.config
        if not hasattr(config, "conv_kernel") or not hasattr(config, "conv_stride"):
            raise ValueError(
                f"A {config.model_type} encoder has no conv_kernel and conv_stride, so how many frames it makes of a "
                "waveform is unknown. Choose e.g. wav2vec2 or data2vec-audio, or say what the data are with "
                "--modality."
            )
        self.num_frames = FrameCounter(tuple(config.conv_kernel), tuple(config.conv_stride))
        saved = self.saved_processor(AutoFeatureExtractor)
        self.processor = saved or Wav2Vec2FeatureExtractor(return_attention_mask=True)

    def check(self, mask: MaskSampler) -> None:
        mask.check((self.num_frames(int(self.data_args.max_duration_in_seconds * self.processor.sampling_rate)),))

    def prepare(self, raw: Dataset, split: str, mask: MaskSampler) -> Dataset:
        shortest = self.num_frames.samples_for(mask.min_positions)
        return prepare_speech(raw, self.processor, self.data_args, split, shortest)

    def collator(self, mask: MaskSampler, num_masks: int, seed: int, student_input: str) -> Any:
        return DataCollatorForData2VecSpeech(self.processor, self.num_frames, mask, num_masks, seed)

    def content_mask(self) -> ContentMask:
        return real_frames(self.num_frames)

    def plot_mask(self, batch: dict[str, torch.Tensor], path: Path) -> None:
        from .reporting.figures import plot_speech_mask

        waveform = batch["input_values"][0][batch["attention_mask"][0].bool()].numpy()
        mask = batch["mask"][0, 0, : self.num_frames(len(waveform))].numpy()
        plot_speech_mask(waveform, mask, self.processor.sampling_rate, path)


MODALITIES: dict[str, type[Modality]] = {"vision": Vision, "text": Text, "speech": Speech}


def position_limit(encoder: PreTrainedModel) -> int | None:
    """Longest sequence that an encoder has learned positions for; `None` where positions are not learned."""
    for name, module in encoder.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            # RoBERTa and its kin count positions from behind the padding index.
            return module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1)
    return None
