"""fairseq's data2vec for sound (examples/data2vec/models/data2vec_audio.py), and its fine-tuning with CTC."""

from typing import Any

from transformers import Data2VecAudioForCTC, Data2VecAudioModel, PreTrainedModel

from .base_format import Format, Head, Settings, Weights, convolutions, depth_of

_PUBLISHED_KERNELS, _PUBLISHED_STRIDES = [10, 3, 3, 3, 3, 2, 2], [5, 2, 2, 2, 2, 2, 2]


def sound_config(weights: Weights, local: str, positions: str, spec: str | None) -> dict[str, Any]:
    """Fields for the convolutions over samples, and for the positional ones over frames.

    Args:
        weights: of the checkpoint.
        local: name of the module with the convolutions over samples.
        positions: name of the module with the positional convolutions.
        spec: fairseq's description of the convolutions. Without it, the strides are known for the published kernels.
    """
    names = [f"{local}.conv_layers.{i}.0.weight" for i in range(depth_of(weights, f"{local}.conv_layers"))]
    kernels = [weights[name].shape[-1] for name in names]
    described = convolutions(spec) if spec else []
    if described and [kernel for _, kernel, _ in described] != kernels:
        raise ValueError(
            f"The checkpoint's settings describe the convolutions {spec}, and its weights have {kernels}."
        )
    strides = [stride for _, _, stride in described]
    if not strides and kernels == _PUBLISHED_KERNELS:
        strides = _PUBLISHED_STRIDES
    places = sorted(name for name in weights if name.startswith(f"{positions}.") and name.endswith(".0.weight"))
    kernel = weights[places[0] if places else f"{positions}.*.0.weight"]
    return {
        "conv_dim": tuple(len(weights[name]) for name in names),
        "conv_kernel": tuple(kernels),
        "conv_stride": tuple(strides) if strides else None,
        "conv_bias": f"{local}.conv_layers.0.0.bias" in weights,
        "num_conv_pos_embeddings": len(places),
        "conv_pos_kernel_size": kernel.shape[-1],
        "num_conv_pos_embedding_groups": kernel.shape[0] // kernel.shape[1],
    }


def ctc_head(model_class: type[PreTrainedModel]) -> Head:
    """The head of fairseq's wav2vec_ctc. The blank is the first word of its dictionary."""
    return Head(
        rules=(("w2v_encoder.proj.{w}", "lm_head.{w}"),),
        model_class=model_class,
        config=lambda head: {"vocab_size": len(head["lm_head.weight"]), "pad_token_id": 0},
    )


def _config(weights: Weights, settings: Settings) -> dict[str, Any]:
    spec = settings.of_model("conv_feature_layers")
    return sound_config(weights, "feature_extractor", "encoder.pos_conv", spec) | {
        "hidden_size": len(weights["post_extract_proj.weight"]),
        "num_hidden_layers": depth_of(weights, "encoder.layers"),
        "num_attention_heads": settings.of_model("encoder_attention_heads"),
        "intermediate_size": len(weights["encoder.layers.0.fc1.weight"]),
        "hidden_dropout": settings.of_model("dropout", default=0.1),
        "attention_dropout": settings.of_model("attention_dropout", default=0.1),
        "activation_dropout": settings.of_model("activation_dropout", default=0.0),
        "feat_proj_dropout": settings.of_model("dropout_input", default=0.0),
        "layerdrop": settings.of_model("encoder_layerdrop", default=0.0),
        "layer_norm_eps": 1e-5,
    }


FORMAT = Format(
    title="fairseq data2vec (sound)",
    modality="speech",
    anchor="post_extract_proj.weight",
    rules=(
        ("feature_extractor.conv_layers.{i}.0.{w}", "feature_extractor.conv_layers.{i}.conv.{w}"),
        ("feature_extractor.conv_layers.{i}.2.1.{w}", "feature_extractor.conv_layers.{i}.layer_norm.{w}"),
        ("layer_norm.{w}", "feature_projection.layer_norm.{w}"),
        ("post_extract_proj.{w}", "feature_projection.projection.{w}"),
        ("mask_emb", "masked_spec_embed"),
        ("encoder.pos_conv.{i}.0.{w}", "encoder.pos_conv_embed.layers.{i}.conv.{w}"),
        ("encoder.layer_norm.{w}", "encoder.layer_norm.{w}"),
        ("encoder.layers.{i}.self_attn.q_proj.{w}", "encoder.layers.{i}.attention.q_proj.{w}"),
        ("encoder.layers.{i}.self_attn.k_proj.{w}", "encoder.layers.{i}.attention.k_proj.{w}"),
        ("encoder.layers.{i}.self_attn.v_proj.{w}", "encoder.layers.{i}.attention.v_proj.{w}"),
        ("encoder.layers.{i}.self_attn.out_proj.{w}", "encoder.layers.{i}.attention.out_proj.{w}"),
        ("encoder.layers.{i}.self_attn_layer_norm.{w}", "encoder.layers.{i}.layer_norm.{w}"),
        ("encoder.layers.{i}.final_layer_norm.{w}", "encoder.layers.{i}.final_layer_norm.{w}"),
        ("encoder.layers.{i}.fc1.{w}", "encoder.layers.{i}.feed_forward.intermediate_dense.{w}"),
        ("encoder.layers.{i}.fc2.{w}", "encoder.layers.{i}.feed_forward.output_dense.{w}"),
    ),
    left_out=(r"final_proj\..*",),
    model_class=Data2VecAudioModel,
    config=_config,
    expected={("layer_norm_first",): False, ("extractor_mode",): "layer_norm", ("activation_fn",): "gelu"},
    head=ctc_head(Data2VecAudioForCTC),
)
