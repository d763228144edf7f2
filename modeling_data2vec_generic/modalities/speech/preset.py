"""The settings of the papers' base models for speech; examples/speech/README.md names the source of each."""

from ..presets import Preset

PRESETS = {
    "data2vec": Preset(
        config={"teacher_embeddings": "copy", "target_layer_norms": ["instance"]},
        mask={"mask_strategy": "span", "mask_ratio": 0.65, "mask_length": 10},
        top_k_share=8 / 12,
    ),
    "data2vec2": Preset(
        config={
            "teacher_embeddings": "copy",
            "student_input": "visible",
            "num_masks": 8,
            "target_layer_norms": ["instance"],
            "predictor": "conv",
            "decoder_layers": 4,
            "decoder_kernel_size": 7,
            "decoder_groups": 16,
        },
        mask={"mask_strategy": "block", "mask_ratio": 0.5, "mask_length": 5, "mask_adjust": 0.05},
        top_k_share=8 / 12,
        decoder_share=0.5,
    ),
}
