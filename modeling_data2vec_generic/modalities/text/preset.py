"""The settings of the papers' base models for text; examples/text/README.md names the source of each."""

from ..presets import Preset

PRESETS = {
    "data2vec": Preset(
        config={
            "teacher_embeddings": "copy",
            "target_layer_norms": ["layer"],
            "predictor": "mlp",
            "loss_beta": 4.0,
            "loss_scale": 1.0,
        },
        mask={"mask_strategy": "random", "mask_ratio": 0.15},
        top_k_share=10 / 12,
    ),
    "data2vec2": Preset(
        config={
            "teacher_embeddings": "copy",
            "student_input": "visible",
            "num_masks": 8,
            "target_layer_norms": ["instance"],
            "predictor": "conv",
            "decoder_layers": 5,
            "decoder_kernel_size": 9,
            "decoder_groups": 1,
            "decoder_residual": False,
            "decoder_projection_layers": 2,
            "loss_scale": 1.0,
        },
        mask={"mask_strategy": "random", "mask_ratio": 0.48},
        top_k_share=1.0,
    ),
}
