"""fairseq's data2vec 2.0 (examples/data2vec/models/data2vec2.py and modalities/), one modality in each checkpoint."""

import math
from typing import Any

from ...data2vec2_encoders_data2vec_generic import (
    Data2Vec2AudioForCTC,
    Data2Vec2AudioModel,
    Data2Vec2TextModel,
    Data2Vec2VisionModel,
)
from .base_format import Format, Rules, Settings, Weights, depth_of
from .fairseq_audio import ctc_head, sound_config


def _block(source: str, target: str) -> Rules:
    """Names of a stack of blocks."""
    return (
        (source + ".{i}.attn.qkv.{w}", target + ".{i}.attention.self.{qkv}.{w}"),
        (source + ".{i}.attn.proj.{w}", target + ".{i}.attention.output.dense.{w}"),
        (source + ".{i}.norm1.{w}", target + ".{i}.attention.output.LayerNorm.{w}"),
        (source + ".{i}.mlp.fc1.{w}", target + ".{i}.intermediate.dense.{w}"),
        (source + ".{i}.mlp.fc2.{w}", target + ".{i}.output.dense.{w}"),
        (source + ".{i}.norm2.{w}", target + ".{i}.output.LayerNorm.{w}"),
    )


def _rules(name: str, *others: tuple[str, str]) -> Rules:
    """Names of the main blocks, and of what belongs to the modality: a norm and blocks in front of them, `others`."""
    modality = f"modality_encoders.{name}."
    return (
        *_block("blocks", "blocks"),
        *_block(f"{modality}context_encoder.blocks", "prenet"),
        (modality + "context_encoder.norm.{w}", "norm.{w}"),
        *((modality + source, target) for source, target in others),
    )


def _block_config(weights: Weights, settings: Settings, name: str) -> dict[str, Any]:
    return {
        "hidden_size": len(weights["blocks.0.norm1.weight"]),
        "num_hidden_layers": depth_of(weights, "blocks"),
        "prenet_depth": depth_of(weights, f"modality_encoders.{name}.context_encoder.blocks"),
        "num_attention_heads": settings.of_model("num_heads"),
        "intermediate_size": len(weights["blocks.0.mlp.fc1.weight"]),
        "layer_norm_eps": settings.of_model("norm_eps"),
    }


def _dropouts(settings: Settings) -> dict[str, Any]:
    return {
        "hidden_dropout_prob": settings.of_model("encoder_dropout", default=0.1),
        "attention_probs_dropout_prob": settings.of_model("attention_dropout", default=0.1),
    }


def _left_out(name: str) -> tuple[str, ...]:
    """Decoders, and the heads of fine-tuned checkpoints."""
    return (
        rf"modality_encoders\.{name}\.decoder\..*",
        r"(shared_decoder|recon_proj|fc_norm|head|classification_heads)\..*",
    )


def _text_config(weights: Weights, settings: Settings) -> dict[str, Any]:
    local = "modality_encoders.TEXT.local_encoder"
    return {
        **_block_config(weights, settings, "TEXT"),
        **_dropouts(settings),
        "vocab_size": len(weights[f"{local}.embed_tokens.weight"]),
        "max_position_embeddings": len(weights[f"{local}.embed_positions.weight"]),
        "bos_token_id": 0,  # the order of special words in every dictionary of fairseq
        "pad_token_id": 1,
        "eos_token_id": 2,
    }


def _image_config(weights: Weights, settings: Settings) -> dict[str, Any]:
    kernel = weights["modality_encoders.IMAGE.local_encoder.proj.weight"]
    positions = weights["modality_encoders.IMAGE.fixed_positional_encoder.positions"].shape[1]
    tokens = weights.get("modality_encoders.IMAGE.extra_tokens")
    return {
        **_block_config(weights, settings, "IMAGE"),
        **_dropouts(settings),
        "image_size": math.isqrt(positions) * kernel.shape[-1],
        "patch_size": kernel.shape[-1],
        "num_channels": kernel.shape[1],
        "num_extra_tokens": 0 if tokens is None else tokens.shape[1],
    }


def _sound_config(weights: Weights, settings: Settings) -> dict[str, Any]:
    name = "modality_encoders.AUDIO"
    spec = settings.of_model("modalities", "audio", "feature_encoder_spec")
    scale = weights.get(f"{name}.alibi_scale")  # one for each head, or a single one
    heads = scale.shape[-3] if scale is not None and scale.numel() > 1 else None
    return {
        **_block_config(weights, settings, "AUDIO"),
        **sound_config(weights, f"{name}.local_encoder", f"{name}.relative_positional_encoder", spec),
        "hidden_dropout": settings.of_model("encoder_dropout", default=0.1),
        "attention_dropout": settings.of_model("attention_dropout", default=0.1),
        "num_attention_heads": settings.of_model("num_heads", default=heads),
    }


TEXT = Format(
    title="fairseq data2vec 2.0 (text)",
    modality="text",
    anchor="modality_encoders.TEXT.local_encoder.embed_tokens.weight",
    rules=_rules(
        "TEXT",
        ("local_encoder.embed_tokens.weight", "embeddings.word_embeddings.weight"),
        ("local_encoder.embed_positions.weight", "embeddings.position_embeddings.weight"),
        ("local_encoder.layernorm_embedding.{w}", "embeddings.LayerNorm.{w}"),
    ),
    left_out=(*_left_out("TEXT"), r"modality_encoders\.TEXT\.local_encoder\.embed_positions\._float_tensor"),
    zeros={"embeddings.token_type_embeddings.weight": "embeddings.word_embeddings.weight"},
    model_class=Data2Vec2TextModel,
    config=_text_config,
    expected={("layer_norm_first",): False, ("modalities", "text", "no_scale_embedding"): True},
)

IMAGE = Format(
    title="fairseq data2vec 2.0 (images)",
    modality="vision",
    anchor="modality_encoders.IMAGE.local_encoder.proj.weight",
    rules=_rules(
        "IMAGE",
        ("local_encoder.proj.{w}", "embeddings.patch_embeddings.projection.{w}"),
        ("fixed_positional_encoder.positions", "embeddings.positions"),
        ("extra_tokens", "embeddings.extra_tokens"),
    ),
    left_out=_left_out("IMAGE"),
    model_class=Data2Vec2VisionModel,
    config=_image_config,
    expected={("layer_norm_first",): False},
)

AUDIO = Format(
    title="fairseq data2vec 2.0 (sound)",
    modality="speech",
    anchor="modality_encoders.AUDIO.project_features.2.weight",
    rules=_rules(
        "AUDIO",
        ("local_encoder.conv_layers.{i}.0.{w}", "feature_extractor.conv_layers.{i}.conv.{w}"),
        ("local_encoder.conv_layers.{i}.2.1.{w}", "feature_extractor.conv_layers.{i}.layer_norm.{w}"),
        ("project_features.1.{w}", "feature_projection.layer_norm.{w}"),
        ("project_features.2.{w}", "feature_projection.projection.{w}"),
        # Number 0 of these is a transposition.
        ("relative_positional_encoder.{next}.0.{w}", "positional_convolution.layers.{i}.conv.{w}"),
        ("alibi_scale", "alibi_scale"),
    ),
    left_out=_left_out("AUDIO"),
    model_class=Data2Vec2AudioModel,
    config=_sound_config,
    expected={("layer_norm_first",): False, ("modalities", "audio", "extractor_mode"): "layer_norm"},
    head=ctc_head(Data2Vec2AudioForCTC),
)
