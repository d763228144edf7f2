"""fairseq's data2vec for text (examples/data2vec/models/data2vec_text.py)."""

from typing import Any

from transformers import Data2VecTextForSequenceClassification, Data2VecTextModel

from .base_format import Format, Head, Settings, Weights, depth_of

_ENCODER = "encoder.sentence_encoder"
_LAYER = f"{_ENCODER}.layers.{{i}}"


def _config(weights: Weights, settings: Settings) -> dict[str, Any]:
    vocabulary, width = weights[f"{_ENCODER}.embed_tokens.weight"].shape
    return {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "num_hidden_layers": depth_of(weights, f"{_ENCODER}.layers"),
        "num_attention_heads": settings.of_model(
            "transformer", "encoder", "attention_heads", default=settings.of_model("encoder_attention_heads")
        ),
        "intermediate_size": len(weights[f"{_ENCODER}.layers.0.fc1.weight"]),
        "max_position_embeddings": len(weights[f"{_ENCODER}.embed_positions.weight"]),
        "hidden_dropout_prob": settings.of_model("transformer", "dropout", default=0.1),
        "attention_probs_dropout_prob": settings.of_model("transformer", "attention_dropout", default=0.1),
        "type_vocab_size": 1,
        "layer_norm_eps": 1e-5,
        "bos_token_id": 0,  # the order of special words in every dictionary of fairseq
        "pad_token_id": 1,
        "eos_token_id": 2,
    }


FORMAT = Format(
    title="fairseq data2vec (text)",
    modality="text",
    anchor=f"{_ENCODER}.embed_tokens.weight",
    rules=(
        (f"{_ENCODER}.embed_tokens.weight", "embeddings.word_embeddings.weight"),
        (f"{_ENCODER}.embed_positions.weight", "embeddings.position_embeddings.weight"),
        (f"{_ENCODER}.layernorm_embedding.{{w}}", "embeddings.LayerNorm.{w}"),
        (f"{_LAYER}.self_attn.q_proj.{{w}}", "encoder.layer.{i}.attention.self.query.{w}"),
        (f"{_LAYER}.self_attn.k_proj.{{w}}", "encoder.layer.{i}.attention.self.key.{w}"),
        (f"{_LAYER}.self_attn.v_proj.{{w}}", "encoder.layer.{i}.attention.self.value.{w}"),
        (f"{_LAYER}.self_attn.out_proj.{{w}}", "encoder.layer.{i}.attention.output.dense.{w}"),
        (f"{_LAYER}.self_attn_layer_norm.{{w}}", "encoder.layer.{i}.attention.output.LayerNorm.{w}"),
        (f"{_LAYER}.fc1.{{w}}", "encoder.layer.{i}.intermediate.dense.{w}"),
        (f"{_LAYER}.fc2.{{w}}", "encoder.layer.{i}.output.dense.{w}"),
        (f"{_LAYER}.final_layer_norm.{{w}}", "encoder.layer.{i}.output.LayerNorm.{w}"),
    ),
    left_out=(
        r"encoder\.(regression_head|lm_head)\..*",
        r"encoder\.sentence_encoder\.(version|embed_positions\._float_tensor)",
    ),
    zeros={"embeddings.token_type_embeddings.weight": "embeddings.word_embeddings.weight"},
    model_class=Data2VecTextModel,
    arguments={"add_pooling_layer": False},
    config=_config,
    expected={
        ("transformer", "encoder", "normalize_before"): False,
        ("transformer", "encoder", "learned_pos"): True,
        ("transformer", "no_scale_embedding"): True,
        ("transformer", "activation_fn"): "gelu",
    },
    head=Head(
        rules=(
            ("classification_heads.{name}.dense.{w}", "classifier.dense.{w}"),
            ("classification_heads.{name}.out_proj.{w}", "classifier.out_proj.{w}"),
        ),
        model_class=Data2VecTextForSequenceClassification,
        config=lambda head: {"num_labels": len(head["classifier.out_proj.bias"])},
    ),
)
