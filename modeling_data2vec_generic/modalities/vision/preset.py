"""The settings of the papers' base models for images; examples/vision/README.md names the source of each."""

from ..presets import Preset

PRESETS = {
    "data2vec": Preset(
        config={
            "teacher_embeddings": "copy",
            "target_source": "block",
            "target_layer_norms": [],
            "target_final_norms": ["layer"],
            "loss_beta": 2.0,
        },
        mask={"mask_strategy": "block", "mask_ratio": 120 / 196},
        top_k_share=6 / 12,
    ),
    "data2vec2": Preset(
        config={
            "student_input": "visible",
            "num_masks": 16,
            "target_layer_norms": ["instance"],
            "target_final_norms": ["layer"],
            "predictor": "conv",
            "decoder_layers": 6,
            "decoder_kernel_size": 3,
            "decoder_groups": 16,
            "cls_loss_weight": 2.56,
        },
        mask={"mask_strategy": "inverse_block", "mask_ratio": 0.8, "mask_length": 3, "mask_adjust": 0.07},
        top_k_share=1.0,
    ),
}
