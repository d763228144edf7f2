"""data2vec for images: fairseq's (examples/data2vec/models/data2vec_vision.py), and the BEiT code that the published
models were trained with (github.com/facebookresearch/data2vec_vision), which differs in names and in an epsilon."""

import math
from collections.abc import Callable
from typing import Any

from transformers import Data2VecVisionForImageClassification, Data2VecVisionModel

from .base_format import Format, Head, Rules, Settings, Weights, depth_of

_TABLES = ("rel_pos_bias", "blocks.0.attn")  # where the position bias is: one for all blocks, or one in each


def _config(encoder: str, patches: str, first_layer: str, eps: float) -> Callable[[Weights, Settings], dict[str, Any]]:
    """Reads the configuration off weights under these names."""

    def config(weights: Weights, settings: Settings) -> dict[str, Any]:
        kernel = weights[f"{patches}.weight"]
        shared, of_block = (f"{encoder}{module}.relative_position_bias_table" for module in _TABLES)
        table = weights[of_block if of_block in weights else shared]
        side = (
            math.isqrt(len(table) - 3) + 1
        ) // 2  # (2 rows - 1) (2 columns - 1) distances, and three of the CLS token
        return {
            "hidden_size": len(kernel),
            "num_hidden_layers": depth_of(weights, f"{encoder}blocks"),
            "num_attention_heads": table.shape[1],
            "intermediate_size": len(weights[f"{encoder}blocks.0.mlp.{first_layer}.weight"]),
            "image_size": side * kernel.shape[-1],
            "patch_size": kernel.shape[-1],
            "num_channels": kernel.shape[1],
            "layer_norm_eps": eps,
            "use_mask_token": "mask_emb" in weights or "mask_token" in weights,
            "use_mean_pooling": f"{encoder}norm.weight" not in weights,
            "use_shared_relative_position_bias": shared in weights,
            "use_relative_position_bias": of_block in weights,
            "drop_path_rate": settings.of_model("drop_path", default=0.0),
            "attention_probs_dropout_prob": settings.of_model("attention_dropout", default=0.0),
            "hidden_dropout_prob": 0.0,
        }

    return config


def _rules(encoder: str, first_layer: str, second_layer: str) -> Rules:
    """Names of the blocks and of the norm behind them; `encoder` is what precedes them."""
    block, layer = encoder + "blocks.{i}.", "encoder.layer.{i}."
    table = "relative_position_bias_table"
    return (
        (f"{encoder}rel_pos_bias.{table}", f"encoder.relative_position_bias.{table}"),
        (f"{block}attn.{table}", f"{layer}attention.attention.relative_position_bias.{table}"),
        (block + "norm1.{w}", layer + "layernorm_before.{w}"),
        (block + "norm2.{w}", layer + "layernorm_after.{w}"),
        (block + "gamma_1", layer + "lambda_1"),
        (block + "gamma_2", layer + "lambda_2"),
        (block + "attn.qkv.weight", layer + "attention.attention.{qkv}.weight"),
        (block + "attn.q_bias", layer + "attention.attention.query.bias"),
        (block + "attn.v_bias", layer + "attention.attention.value.bias"),
        (block + "attn.proj.{w}", layer + "attention.output.dense.{w}"),
        (f"{block}mlp.{first_layer}.{{w}}", layer + "intermediate.dense.{w}"),
        (f"{block}mlp.{second_layer}.{{w}}", layer + "output.dense.{w}"),
        (encoder + "norm.{w}", "layernorm.{w}"),
    )


_INDEX = r".*\.relative_position_index"  # computed anew
_HEAD = Head(
    rules=(("fc_norm.{w}", "encoder.pooler.layernorm.{w}"), ("head.{w}", "classifier.{w}")),
    model_class=Data2VecVisionForImageClassification,
    config=lambda head: {"num_labels": len(head["classifier.bias"])},
)

FAIRSEQ = Format(
    title="fairseq data2vec (images)",
    modality="vision",
    anchor="patch_embed.conv.weight",
    rules=(
        ("cls_emb", "embeddings.cls_token"),
        ("mask_emb", "embeddings.mask_token"),
        ("patch_embed.conv.{w}", "embeddings.patch_embeddings.projection.{w}"),
        *_rules("encoder.", "0", "2"),
    ),
    left_out=(r"final_proj\..*", _INDEX),
    model_class=Data2VecVisionModel,
    config=_config("encoder.", "patch_embed.conv", "0", 1e-5),
    head=_HEAD,
)

BEIT = Format(
    title="data2vec (images) of data2vec_vision/beit",
    modality="vision",
    anchor="patch_embed.proj.weight",
    rules=(
        ("cls_token", "embeddings.cls_token"),
        ("mask_token", "embeddings.mask_token"),
        ("patch_embed.proj.{w}", "embeddings.patch_embeddings.projection.{w}"),
        *_rules("", "fc1", "fc2"),
    ),
    left_out=(r"lm_head\..*", _INDEX),
    model_class=Data2VecVisionModel,
    config=_config("", "patch_embed.proj", "fc1", 1e-6),
    head=_HEAD,
)
