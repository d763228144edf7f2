"""Tiny encoders of many model types: ONE table of configurations, with inputs for each and a way to change content."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel

SAMPLES = 2
WIDTHS = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48}


@dataclass(frozen=True)
class Tiny:
    """One model type.

    Args:
        config: makes its configuration.
        inputs: makes what the encoder takes, for `SAMPLES` samples.
        length: T, content positions of each sample.
        scramble: (inputs, masked (B, T) bool) -> inputs with other content at masked positions and nowhere else.
        crop: (inputs, positions) -> inputs of that many leading positions; `None` if the length is fixed.
        premixes: a position sees its neighbours before the first block.
    """

    config: Callable[[], PreTrainedConfig]
    inputs: Callable[[], dict[str, Tensor]]
    length: int
    scramble: Callable[[dict[str, Tensor], Tensor], dict[str, Tensor]]
    crop: Callable[[dict[str, Tensor], int], dict[str, Tensor]] | None = None
    premixes: bool = False

    def encoder(self) -> PreTrainedModel:
        """With every weight random: new encoders have zeros (relative positions, mask tokens) that hide mistakes."""
        encoder = AutoModel.from_config(self.config())
        for parameter in encoder.parameters():
            parameter.data.add_(torch.randn_like(parameter), alpha=0.2)
        return encoder

    def ragged(self, positions: int) -> dict[str, Tensor]:
        """Inputs whose last sample has only this many positions and padding behind them, with the attention mask."""
        assert self.crop is not None
        inputs = self.inputs()
        name, values = next(iter(inputs.items()))
        real = torch.ones_like(values, dtype=torch.long)
        real[-1, self.crop(inputs, positions)[name].shape[1] :] = 0
        return inputs | {"attention_mask": real}


def config_of(model_type: str, settings: dict[str, Any]) -> Callable[[], PreTrainedConfig]:
    def make() -> PreTrainedConfig:
        config = AutoConfig.for_model(model_type, **WIDTHS | settings)
        for name, value in vars(config).items():
            if ("drop" in name or "mask_time_prob" in name) and isinstance(value, float):
                setattr(config, name, 0.0)
        return config

    return make


ROWS, COLUMNS, PATCH = 3, 5, 4


def images(model_type: str, **settings: Any) -> Tiny:
    size = (ROWS * PATCH, COLUMNS * PATCH)

    def scramble(inputs: dict[str, Tensor], masked: Tensor) -> dict[str, Tensor]:
        pixels = masked.view(-1, 1, ROWS, COLUMNS).repeat_interleave(PATCH, 2).repeat_interleave(PATCH, 3)
        images = inputs["pixel_values"]
        return inputs | {"pixel_values": torch.where(pixels, torch.randn_like(images), images)}

    return Tiny(
        config_of(model_type, {"image_size": size, "patch_size": PATCH} | settings),
        lambda: {"pixel_values": torch.randn(SAMPLES, 3, *size)},
        ROWS * COLUMNS,
        scramble,
    )


TOKENS, VOCABULARY, FIRST_WORD = 13, 50, 5


def tokens(model_type: str, **settings: Any) -> Tiny:
    def scramble(inputs: dict[str, Tensor], masked: Tensor) -> dict[str, Tensor]:
        tokens = inputs["input_ids"]
        others = FIRST_WORD + (tokens + 1) % (VOCABULARY - FIRST_WORD)
        return inputs | {"input_ids": torch.where(masked, others, tokens)}

    return Tiny(
        config_of(model_type, {"vocab_size": VOCABULARY, "max_position_embeddings": 2 * TOKENS} | settings),
        lambda: {"input_ids": torch.randint(FIRST_WORD, VOCABULARY, (SAMPLES, TOKENS))},
        TOKENS,
        scramble,
        lambda inputs, positions: {"input_ids": inputs["input_ids"][:, :positions]},
    )


FRAMES, FRAME_SAMPLES, FRAME_STEP = 22, 40, 20  # what the convolutions below read per frame


def sound(model_type: str, **settings: Any) -> Tiny:
    # Group norm in the feature encoder sees every sample of a clip, so no content can be hidden from it: layer norm.
    convolutions = {"conv_dim": (16, 16, 16), "conv_kernel": (10, 3, 3), "conv_stride": (5, 2, 2)}
    positions = {"num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 4, "conv_pos_kernel_size": 5}

    def samples(frames: int) -> int:
        return (frames - 1) * FRAME_STEP + FRAME_SAMPLES

    def scramble(inputs: dict[str, Tensor], masked: Tensor) -> dict[str, Tensor]:
        """Changes only what no visible frame reads, as neighbouring frames overlap."""
        sound = inputs["input_values"]
        hidden = torch.zeros_like(sound, dtype=torch.bool)
        for row, frame in masked.nonzero().tolist():
            hidden[row, frame * FRAME_STEP : frame * FRAME_STEP + FRAME_SAMPLES] = True
        for row, frame in (~masked).nonzero().tolist():
            hidden[row, frame * FRAME_STEP : frame * FRAME_STEP + FRAME_SAMPLES] = False
        return inputs | {"input_values": torch.where(hidden, torch.randn_like(sound), sound)}

    return Tiny(
        config_of(model_type, {"feat_extract_norm": "layer", **convolutions, **positions, **settings}),
        lambda: {"input_values": torch.randn(SAMPLES, samples(FRAMES))},
        FRAMES,
        scramble,
        lambda inputs, frames: {"input_values": inputs["input_values"][:, : samples(frames)]},
        premixes=True,
    )


TINY: dict[str, Tiny] = {
    "vit": images("vit"),
    "beit": images("beit", use_relative_position_bias=True, use_mask_token=True),
    "data2vec-vision": images("data2vec-vision", use_shared_relative_position_bias=True, use_mask_token=True),
    "data2vec-vision, biased blocks": images("data2vec-vision", use_relative_position_bias=True, use_mask_token=True),
    "bert": tokens("bert"),
    "roberta": tokens("roberta"),
    "wav2vec2": sound("wav2vec2"),
    "wav2vec2, norm first": sound("wav2vec2", do_stable_layer_norm=True),
    "data2vec-audio": sound("data2vec-audio"),
}
