"""What is measured: encoders on batches of random data, with the library's settings for both objectives."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import PIL.Image
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    CONFIG_MAPPING,
    AutoModel,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    ViTImageProcessorPil,
    Wav2Vec2FeatureExtractor,
)

from modeling_data2vec_generic import (
    Data2VecGenericForPreTraining,
    DataCollatorForData2VecSpeech,
    DataCollatorForData2VecText,
    DataCollatorForData2VecVision,
    MaskSampler,
)
from modeling_data2vec_generic.geometry_data2vec_generic import FrameCounter
from modeling_data2vec_generic.masking.sampler import MaskArguments
from modeling_data2vec_generic.modalities.presets import mask_settings, objective_config
from modeling_data2vec_generic.modalities.vision.pixels import RandomResizedCrop
from modeling_data2vec_generic.training.arguments import ObjectiveArguments

OBJECTIVES = ("data2vec", "data2vec2")
SIZES = {
    "base": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072},
    "small": {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 6, "intermediate_size": 1536},
    "quick": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64},
}
NO_DROPOUT = {
    "vit": ("hidden_dropout_prob", "attention_probs_dropout_prob"),
    "roberta": ("hidden_dropout_prob", "attention_probs_dropout_prob"),
    "data2vec-audio": ("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout"),
    "wav2vec2": ("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout", "layerdrop"),
}
SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
SAMPLING_RATE = 16000
GPU_MASKS = 16  # per sample for data2vec 2.0, as its recipe for images has it


@dataclass(frozen=True)
class Case:
    """One encoder on one kind of batch.

    Args:
        modality: "text", "vision" or "speech".
        model_type: the type of the encoder in transformers.
        size: the size of the blocks, a key of `SIZES`.
        length: the number of tokens, pixels along a side, or samples of a waveform.
        batch_size: samples per step on a CPU.
        gpu_batch_size: samples per step of data2vec on a GPU; data2vec 2.0 takes a quarter of them.
        settings: further fields of the encoder's config.
        num_masks: masks per sample for data2vec 2.0; data2vec has one.
        decoder_dim: the width of data2vec 2.0's decoder; None: that of `--objective`.
        mask_ratio: the share of the positions that are masked; None: that of `--objective`.
    """

    modality: str
    model_type: str
    size: str
    length: int
    batch_size: int
    gpu_batch_size: int
    settings: tuple[tuple[str, Any], ...] = ()
    num_masks: int = 8
    decoder_dim: int | None = None
    mask_ratio: float | None = None

    def on_gpu(self, objective: str) -> "Case":
        """The same with as many samples and masks as fill a large GPU."""
        samples = self.gpu_batch_size if objective == "data2vec" else max(self.gpu_batch_size // 4, 1)
        return replace(self, batch_size=samples, num_masks=GPU_MASKS)

    def encoder_config(self) -> PreTrainedConfig:
        """The encoder's config without dropout, with which attention would not use its fast kernel on a CPU."""
        settings = SIZES[self.size] | dict(self.settings) | dict.fromkeys(NO_DROPOUT[self.model_type], 0.0)
        return CONFIG_MAPPING[self.model_type](**settings)

    def model(self, objective: str) -> Data2VecGenericForPreTraining:
        """A new model, in training mode, with the settings that `--objective` stands for."""
        torch.manual_seed(0)
        config = self.encoder_config()
        chosen = ObjectiveArguments(
            objective=objective, num_masks=self._masks(objective), decoder_dim=self.decoder_dim
        )
        model = Data2VecGenericForPreTraining(
            objective_config(chosen, config, self.modality), AutoModel.from_config(config)
        )
        return model.train()

    def collator(self, objective: str) -> Any:
        """The library's collator with the masks that `--objective` stands for."""
        chosen = mask_settings(MaskArguments(mask_ratio=self.mask_ratio), objective, self.modality)
        mask = MaskSampler(**{name.removeprefix("mask_"): value for name, value in chosen.items()})
        config, num_masks = self.encoder_config(), self._masks(objective)
        if self.modality == "vision":
            side = {"height": self.length, "width": self.length}
            processor = ViTImageProcessorPil(size=side, image_mean=[0.5] * 3, image_std=[0.5] * 3)
            grid = (self.length // config.patch_size,) * 2
            return DataCollatorForData2VecVision(processor, grid, mask, num_masks, augment=RandomResizedCrop())
        if self.modality == "text":
            return DataCollatorForData2VecText(
                tokenizer(config.vocab_size), mask, num_masks, student_tokens=objective == "data2vec"
            )
        frames = FrameCounter(tuple(config.conv_kernel), tuple(config.conv_stride))
        extractor = Wav2Vec2FeatureExtractor(return_attention_mask=True)
        return DataCollatorForData2VecSpeech(extractor, frames, mask, num_masks)

    def examples(self) -> list[dict[str, Any]]:
        """Samples of noise as a dataset gives them to its collator: decoded, but not cropped or padded."""
        rng = np.random.default_rng(0)
        return [{"sample_index": i, **self._sample(rng)} for i in range(self.batch_size)]

    def batch(self, objective: str) -> dict[str, Any]:
        """One collated batch."""
        return self.collator(objective)(self.examples())

    def loaded_batch(self, objective: str) -> dict[str, Any]:
        """The same as it comes from the Trainer's data loader, which leaves a last step to the device."""
        return self.collator(objective).finished_on_device()(self.examples())

    def masks_per_step(self, objective: str) -> int:
        return self.batch_size * self._masks(objective)

    def _masks(self, objective: str) -> int:
        return 1 if objective == "data2vec" else self.num_masks

    def _sample(self, rng: np.random.Generator) -> dict[str, Any]:
        if self.modality == "vision":
            side = self.length * 5 // 4
            return {"image": PIL.Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8))}
        if self.modality == "text":
            vocabulary = self.encoder_config().vocab_size
            words = rng.integers(len(SPECIAL_TOKENS), vocabulary, self.length - 2).tolist()
            special = [1] + [0] * len(words) + [1]
            return {"input_ids": [0, *words, 2], "special_tokens_mask": special}
        return {"audio": rng.normal(0, 0.1, self.length).astype(np.float32)}


def tokenizer(vocab_size: int) -> PreTrainedTokenizerFast:
    """A tokenizer with as many made-up words as the encoder embeds."""
    words = [*SPECIAL_TOKENS, *(f"word{i}" for i in range(vocab_size - len(SPECIAL_TOKENS)))]
    vocabulary = models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>")
    split = Tokenizer(vocabulary)
    split.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=split,
        bos_token="<s>",
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        mask_token="<mask>",
    )


def _text(size: str, **changes: Any) -> Case:
    settings = {"vocab_size": 50265, "max_position_embeddings": 514, "type_vocab_size": 1} | changes
    return Case("text", "roberta", size, 512, 4, 64, tuple(settings.items()))


def _images(size: str, side: int, patch: int, batch_size: int, gpu_batch_size: int) -> Case:
    settings = (("image_size", side), ("patch_size", patch))
    return Case("vision", "vit", size, side, batch_size, gpu_batch_size, settings)


def _speech(size: str, **changes: Any) -> Case:
    # Without SpecAugment, which the objectives do not use.
    settings = {"mask_time_prob": 0.0, "vocab_size": 32} | changes
    return Case("speech", "data2vec-audio", size, 10 * SAMPLING_RATE, 2, 16, tuple(settings.items()))


CASES = {
    f"{name}-{size}": case
    for size in ("base", "small")
    for name, case in {
        "text": _text(size),
        "images-224": _images(size, 224, 16, 8, 128),
        "images-64": _images(size, 64, 8, 32, 512),
        "speech": _speech(size),
    }.items()
}
# What is run on a GPU if no case is chosen.
GPU_RUNS = (
    ("images-224-base", "data2vec"),
    ("images-224-base", "data2vec2"),
    ("text-base", "data2vec"),
    ("speech-base", "data2vec"),
)
# Tiny versions, to see within seconds that everything runs.
QUICK_CASES = {
    "text-quick": replace(_text("quick", vocab_size=100), length=64),
    "images-224-quick": _images("quick", 32, 4, 4, 4),
    "images-64-quick": _images("quick", 16, 4, 4, 4),
    "speech-quick": replace(
        _speech(
            "quick",
            conv_dim=(16, 16, 16),
            conv_kernel=(20, 8, 3),
            conv_stride=(20, 8, 2),
            num_conv_pos_embeddings=2,
            conv_pos_kernel_size=5,
        ),
        length=SAMPLING_RATE,
    ),
}
