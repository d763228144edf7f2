"""The settings for time series; examples/series/README.md names the source of each. The papers have no time series.

Targets and decoder are those of speech, except that targets are outputs of blocks, since PatchTST folds the channels
into the batch around its feed-forward layers. Masks are those of PatchTST's own pre-training (arXiv 2211.14730). The
blocks of PatchTST cannot leave positions out. The student of data2vec 2.0 therefore reads mask tokens.
"""

from ..presets import Preset

PRESETS = {
    "data2vec": Preset(
        config={"teacher_embeddings": "copy", "target_source": "block", "target_layer_norms": ["instance"]},
        mask={"mask_strategy": "random", "mask_ratio": 0.4},
        top_k_share=8 / 12,
    ),
    "data2vec2": Preset(
        config={
            "teacher_embeddings": "copy",
            "student_input": "mask_token",
            "num_masks": 8,
            "target_source": "block",
            "target_layer_norms": ["instance"],
            "predictor": "conv",
            "decoder_layers": 4,
            "decoder_kernel_size": 7,
            "decoder_groups": 16,
        },
        mask={"mask_strategy": "random", "mask_ratio": 0.4},
        top_k_share=8 / 12,
        decoder_share=0.5,
    ),
}
