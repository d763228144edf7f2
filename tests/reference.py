"""Reading the reference numbers in tests/fixtures, and the fairseq -> Hugging Face weight names they need."""

import json
import re
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

FIXTURES = Path(__file__).parent / "fixtures"
RTOL = 1e-5


def load(name: str) -> tuple[dict, dict[str, Tensor]]:
    """Settings and tensors of one fixture."""
    return json.loads((FIXTURES / f"{name}.json").read_text()), load_file(FIXTURES / f"{name}.safetensors")


def assert_matches(actual: Tensor, expected: Tensor, what: str = "") -> None:
    """Equal to 1e-5 of max(1, the largest expected number)."""
    size = max(1.0, expected.abs().max().item())
    error = (actual.detach().float() - expected.float()).abs().max().item()
    assert actual.shape == expected.shape, f"{what}: {tuple(actual.shape)} != {tuple(expected.shape)}"
    assert error <= RTOL * size, f"{what}: off by {error}"


def part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Tensors under a prefix, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def rename(tensors: dict[str, Tensor], rules: list[tuple[str, str]]) -> dict[str, Tensor]:
    """Names rewritten by the first rule (pattern, replacement) that matches from the start; others are left out.

    A replacement with `*` splits a stacked query, key, value tensor into three.
    """
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        for pattern, replacement in rules:
            if re.match(pattern, name):
                new = re.sub(pattern, replacement, name, count=1)
                if "*" in new:
                    for kind, piece in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                        renamed[new.replace("*", kind)] = piece
                else:
                    renamed[new] = tensor
                break
    return renamed


V1_TEXT = [
    (r"embed_tokens", "embeddings.word_embeddings"),
    (r"embed_positions", "embeddings.position_embeddings"),
    (r"layernorm_embedding", "embeddings.LayerNorm"),
    (r"layers\.(\d+)\.self_attn\.([qkv])_proj", r"encoder.layer.\1.attention.self.\2"),
    (r"layers\.(\d+)\.self_attn\.out_proj", r"encoder.layer.\1.attention.output.dense"),
    (r"layers\.(\d+)\.self_attn_layer_norm", r"encoder.layer.\1.attention.output.LayerNorm"),
    (r"layers\.(\d+)\.fc1", r"encoder.layer.\1.intermediate.dense"),
    (r"layers\.(\d+)\.fc2", r"encoder.layer.\1.output.dense"),
    (r"layers\.(\d+)\.final_layer_norm", r"encoder.layer.\1.output.LayerNorm"),
]

V1_AUDIO_ENCODER = [
    (r"pos_conv\.(\d+)\.0", r"encoder.pos_conv_embed.layers.\1.conv"),
    (r"layer_norm", "encoder.layer_norm"),
    (r"layers\.(\d+)\.self_attn\.", r"encoder.layers.\1.attention."),
    (r"layers\.(\d+)\.self_attn_layer_norm", r"encoder.layers.\1.layer_norm"),
    (r"layers\.(\d+)\.final_layer_norm", r"encoder.layers.\1.final_layer_norm"),
    (r"layers\.(\d+)\.fc1", r"encoder.layers.\1.feed_forward.intermediate_dense"),
    (r"layers\.(\d+)\.fc2", r"encoder.layers.\1.feed_forward.output_dense"),
]

V1_AUDIO = [
    (r"feature_extractor\.conv_layers\.(\d+)\.0\.", r"feature_extractor.conv_layers.\1.conv."),
    (r"feature_extractor\.conv_layers\.(\d+)\.2\.1\.", r"feature_extractor.conv_layers.\1.layer_norm."),
    (r"layer_norm", "feature_projection.layer_norm"),
    (r"post_extract_proj", "feature_projection.projection"),
    (r"mask_emb", "masked_spec_embed"),
    *((rf"encoder\.{pattern}", replacement) for pattern, replacement in V1_AUDIO_ENCODER),
]

V1_VISION_ENCODER = [
    (r"rel_pos_bias\.relative_position_bias_table", "encoder.relative_position_bias.relative_position_bias_table"),
    (r"blocks\.(\d+)\.norm1", r"encoder.layer.\1.layernorm_before"),
    (r"blocks\.(\d+)\.norm2", r"encoder.layer.\1.layernorm_after"),
    (r"blocks\.(\d+)\.gamma_", r"encoder.layer.\1.lambda_"),
    (r"blocks\.(\d+)\.attn\.qkv\.weight", r"encoder.layer.\1.attention.attention.*.weight"),
    (r"blocks\.(\d+)\.attn\.q_bias", r"encoder.layer.\1.attention.attention.query.bias"),
    (r"blocks\.(\d+)\.attn\.v_bias", r"encoder.layer.\1.attention.attention.value.bias"),
    (r"blocks\.(\d+)\.attn\.proj", r"encoder.layer.\1.attention.output.dense"),
    (r"blocks\.(\d+)\.mlp\.0", r"encoder.layer.\1.intermediate.dense"),
    (r"blocks\.(\d+)\.mlp\.2", r"encoder.layer.\1.output.dense"),
    (r"norm\.", "layernorm."),
]

V1_VISION = [
    (r"cls_emb", "embeddings.cls_token"),
    (r"mask_emb", "embeddings.mask_token"),
    (r"patch_embed\.conv", "embeddings.patch_embeddings.projection"),
    *((rf"encoder\.{pattern}", replacement) for pattern, replacement in V1_VISION_ENCODER),
]


def v2_block(source: str, target: str) -> list[tuple[str, str]]:
    """Names of one stack of blocks, e.g. `blocks.0.` -> `blocks.0.` of `BertLayer`s."""
    return [
        (rf"{source}(\d+)\.attn\.qkv\.", rf"{target}\1.attention.self.*."),
        (rf"{source}(\d+)\.attn\.proj\.", rf"{target}\1.attention.output.dense."),
        (rf"{source}(\d+)\.norm1\.", rf"{target}\1.attention.output.LayerNorm."),
        (rf"{source}(\d+)\.mlp\.fc1\.", rf"{target}\1.intermediate.dense."),
        (rf"{source}(\d+)\.mlp\.fc2\.", rf"{target}\1.output.dense."),
        (rf"{source}(\d+)\.norm2\.", rf"{target}\1.output.LayerNorm."),
    ]


V2_BLOCKS = v2_block(r"blocks\.", "blocks.")


def load_in_order(module: torch.nn.Module, weights: list[Tensor]) -> None:
    """Fill a module's parameters, in order of use, with these."""
    for parameter, weight in zip(module.parameters(), weights, strict=True):
        parameter.data.copy_(weight)
