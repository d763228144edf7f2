"""A small encoder of any type, with random weights: sizes that all types share, and the type's row of the table."""

from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModel, PreTrainedConfig, PreTrainedModel

from ..modeling_data2vec_generic import encoder_of
from .encoder_types import SETTINGS

# Fields by which an encoder is made small, where its configuration has them and holds a number there.
SIZES = {
    "hidden_size": 32,
    "d_model": 32,
    "dim": 32,
    "num_hidden_layers": 3,
    "num_layers": 3,
    "n_layers": 3,
    "encoder_layers": 3,
    "num_encoder_layers": 3,
    "decoder_layers": 1,
    "num_decoder_layers": 1,
    "num_attention_heads": 4,
    "num_heads": 4,
    "n_heads": 4,
    "num_key_value_heads": 4,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "num_encoder_attention_heads": 4,
    "num_decoder_attention_heads": 4,
    "head_dim": 8,
    "d_kv": 8,
    "intermediate_size": 48,
    "hidden_dim": 48,
    "ffn_dim": 48,
    "d_ff": 48,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "embedding_size": 16,
    "input_embedding_size": 16,
    "vocab_size": 300,
    "image_size": 12,
    "patch_size": 4,
    "conv_dim": 16,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 4,
    "num_mel_bins": 16,
}


def small_encoder(model_type: str, **changes: Any) -> PreTrainedModel:
    """A small encoder of a type, in evaluation mode; `changes` as in `small_config`."""
    return random_encoder(small_config(model_type, **changes)).eval()


def small_config(model_type: str, **changes: Any) -> PreTrainedConfig:
    """The default configuration of a type with small sizes, and with what the type's row says, if it has one.

    Args:
        changes: fields to set instead of those of the row, or on top of them.
    """
    config_class = CONFIG_MAPPING[model_type]
    settings = {**SETTINGS.get(model_type, {}), **changes}
    default = config_class(**settings)
    known = (default.to_dict().keys() | default.attribute_map.keys()) - settings.keys()
    if {"depth", "depths"} & settings.keys():  # the sizes of stages depend on each other
        known = set()
    sizes = {name: _size(getattr(default, name, None), size) for name, size in SIZES.items() if name in known}
    sizes = {name: size for name, size in sizes.items() if size is not None}
    same = {name: other for name, other in default.attribute_map.items() if other in sizes or other in settings}
    config = config_class(**{name: size for name, size in sizes.items() if name not in same} | settings)
    largest = getattr(config, "vocab_size", None) or 0
    for name, value in vars(config).items():
        if name.endswith("_token_id") and isinstance(value, int) and value >= largest > 0:
            largest -= 1
            setattr(config, name, largest)
    return config


def random_encoder(config: PreTrainedConfig, **options: Any) -> PreTrainedModel:
    """An encoder whose weights are all random: a new one has zeros, which hide what a weight does.

    Tables that are not trained, such as those of sines, stay as they are unless they hold only zeros.

    Args:
        config: of the whole model; of an encoder-decoder, the encoder is returned.
        options: for `AutoModel.from_config`.
    """
    encoder = encoder_of(AutoModel.from_config(config, **options))
    for parameter in encoder.parameters():
        if parameter.requires_grad or not parameter.any():
            parameter.data.add_(torch.randn_like(parameter), alpha=0.1 if parameter.ndim > 1 else 0.2)
    return encoder


def _size(default: Any, size: int) -> Any:
    """A size of the same shape as the default; `None` where the default is no number of pixels, channels, ..."""
    if isinstance(default, list | tuple):
        return type(default)([size] * len(default))
    return size if isinstance(default, int) and not isinstance(default, bool) else None
