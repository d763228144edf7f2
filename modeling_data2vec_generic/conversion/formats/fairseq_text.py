"""fairseq's data2vec for text (examples/data2vec/models/data2vec_text.py)."""

from typing import Any

from transformers import Data2VecTextForSequenceClassification, Data2VecTextModel

from .base_format import Format, Head, Settings, Weights, depth_of

_LAYER = r"encoder\.sentence_encoder\.layers\.(\d+)\."


def _config(weights: Weights, settings: Settings) -> dict[str, Any]:
    vocabulary, width = weights["encoder.sentence_encoder.embed_tokens.weight"].shape
    return {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "num_hidden_layers": depth_of(weights, "encoder.sentence_encoder.layers"),
        "num_attention_heads": settings.of_model(
            "transformer", "encoder", "attention_heads", default=settings.of_model("encoder_attention_heads")
        ),
        "intermediate_size": len(weights["encoder.sentence_encoder.layers.0.fc1.weight"]),
        "max_position_embeddings": len(weights["encoder.sentence_encoder.embed_positions.weight"]),
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
    anchor="encoder.sentence_encoder.embed_tokens.weight",
    rules=(
        (r"encoder\.sentence_encoder\.embed_tokens\.weight", "embeddings.word_embeddings.weight"),
        (r"encoder\.sentence_encoder\.embed_positions\.weight", "embeddings.position_embeddings.weight"),
        (r"encoder\.sentence_encoder\.layernorm_embedding\.(\w+)", r"embeddings.LayerNorm.\1"),
        (_LAYER + r"self_attn\.q_proj\.(\w+)", r"encoder.layer.\1.attention.self.query.\2"),
        (_LAYER + r"self_attn\.k_proj\.(\w+)", r"encoder.layer.\1.attention.self.key.\2"),
        (_LAYER + r"self_attn\.v_proj\.(\w+)", r"encoder.layer.\1.attention.self.value.\2"),
        (_LAYER + r"self_attn\.out_proj\.(\w+)", r"encoder.layer.\1.attention.output.dense.\2"),
        (_LAYER + r"self_attn_layer_norm\.(\w+)", r"encoder.layer.\1.attention.output.LayerNorm.\2"),
        (_LAYER + r"fc1\.(\w+)", r"encoder.layer.\1.intermediate.dense.\2"),
        (_LAYER + r"fc2\.(\w+)", r"encoder.layer.\1.output.dense.\2"),
        (_LAYER + r"final_layer_norm\.(\w+)", r"encoder.layer.\1.output.LayerNorm.\2"),
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
        rules=((r"classification_heads\.\w+\.(dense|out_proj)\.(\w+)", r"classifier.\1.\2"),),
        model_class=Data2VecTextForSequenceClassification,
        config=lambda head: {"num_labels": len(head["classifier.out_proj.bias"])},
    ),
)
