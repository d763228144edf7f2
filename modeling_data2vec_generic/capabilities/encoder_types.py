"""The table of encoder types: one row for each, with the settings that a small encoder of it needs.

The command builds its small encoders from these rows, and so do the tests. The sizes that all types share are in
`small_encoders.py`; a row names what comes on top: other sizes, and what published checkpoints of the type have. Where
a type reads images of any shape, a row asks for images whose sides differ, so that rows and columns can't be swapped
without notice.
"""

from collections.abc import Mapping
from typing import Any

from transformers import CONFIG_MAPPING

Settings = Mapping[str, Any]

OBLONG = {"image_size": (12, 20)}
NO_JITTER = {"pos_embed_rescale": None, "pos_embed_jitter": None, "pos_embed_shift": None}
SWIN = {
    "image_size": 64,
    "patch_size": 2,
    "embed_dim": 16,
    "depths": [1, 1, 3],
    "num_heads": [2, 2, 4],
    "window_size": 4,
}
PYRAMID = {"image_size": 64, "depths": [1, 1, 1, 3], "hidden_sizes": [8, 16, 24, 32]}
PYRAMID_HEADS = PYRAMID | {"num_attention_heads": [1, 2, 4, 4]}
# 40 samples for the first frame, 20 for each further one. Group norm would show each frame the whole waveform.
WAVEFORM = {
    "conv_dim": (16, 16, 16),
    "conv_kernel": (10, 3, 3),
    "conv_stride": (5, 2, 2),
    "feat_extract_norm": "layer",
}
SPECTROGRAM = {"num_mel_bins": 20, "max_source_positions": 13}
# Scaling would make each value depend on all others.
PATCHED_SERIES = {
    "num_input_channels": 3,
    "context_length": 24,
    "patch_length": 4,
    "patch_stride": 4,
    "scaling": None,
}
SERIES = {
    "prediction_length": 4,
    "context_length": 13,
    "input_size": 1,
    "lags_sequence": [1, 2],
    "num_time_features": 2,
}

_ROWS: dict[str, dict[str, Settings]] = {
    "text, proteins": {
        "albert": {},
        "bart": {},
        "bert": {},
        "bert-generation": {},
        "big_bird": {"attention_type": "original_full"},
        "bigbird_pegasus": {"attention_type": "original_full"},
        "blenderbot": {},
        "blenderbot-small": {},
        "bros": {},
        "camembert": {},
        "canine": {},
        "clip_text_model": {},
        "convbert": {"conv_kernel_size": 3},
        "data2vec-text": {},
        "deberta": {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
        "deberta-v2": {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_biased_input": False},
        "distilbert": {},
        "dpr": {},
        "electra": {},
        "ernie": {},
        "esm": {"vocab_size": 300, "position_embedding_type": "rotary", "mask_token_id": 4, "pad_token_id": 1},
        "esmc": {},
        "eurobert": {},
        "flaubert": {"emb_dim": 32, "n_words": 300},
        "fnet": {},
        "funnel": {"architectures": ["FunnelModel"], "block_sizes": [1, 1], "n_head": 4, "d_inner": 48},
        "gte": {},
        "ibert": {},
        "jina_embeddings_v3": {},
        "layoutlm": {},
        "layoutlmv3": {"coordinate_size": 4, "shape_size": 8, "input_size": 32},
        "led": {"attention_window": 4},
        "lilt": {"hidden_size": 48},
        "longformer": {"attention_window": 4},
        "longt5": {"local_radius": 4},
        "luke": {"entity_vocab_size": 10, "entity_emb_size": 8},
        "m2m_100": {},
        "marian": {},
        "markuplm": {},
        "mbart": {},
        "megatron-bert": {},
        "mobilebert": {"intra_bottleneck_size": 16, "true_hidden_size": 16, "num_feedforward_networks": 2},
        "modernbert": {"global_attn_every_n_layers": 2, "local_attention": 4},
        "mpnet": {},
        "mra": {},
        "mt5": {},
        "mvp": {},
        "nllb-moe": {},
        "nomic_bert": {},
        "nystromformer": {"num_landmarks": 13, "segment_means_seq_len": 13},
        "pegasus": {},
        "pegasus_x": {},
        "plbart": {},
        "prophetnet": {"num_encoder_layers": 3, "num_decoder_layers": 1},
        "reformer": {"hidden_size": 32, "axial_pos_embds": False},
        "rembert": {},
        "roberta": {},
        "roberta-prelayernorm": {},
        "roc_bert": {
            "pronunciation_vocab_size": 300,
            "pronunciation_embed_dim": 8,
            "shape_vocab_size": 300,
            "shape_embed_dim": 8,
        },
        "roformer": {},
        "seamless_m4t": {},
        "splinter": {},
        "squeezebert": {"embedding_size": 32},
        "switch_transformers": {},
        "t5": {},
        "tapas": {},
        "tipsv2_text_model": {},
        "udop": {},
        "umt5": {},
        "visual_bert": {},
        "xlm": {"emb_dim": 32, "n_words": 300},
        "xlm-roberta": {},
        "xlm-roberta-xl": {},
        "xlnet": {"d_model": 32, "n_head": 4, "d_inner": 48, "d_head": 8},
        "xmod": {"languages": ("en_XX",), "default_language": "en_XX"},
        "yoso": {},
    },
    "images": {
        "aimv2_vision_model": {},
        "beit": OBLONG | {"use_relative_position_bias": True, "use_mask_token": True},
        "chinese_clip_vision_model": {},
        "clip_vision_model": {},
        "convnext": PYRAMID,
        "convnextv2": PYRAMID,
        "cvt": {"embed_dim": [8, 16, 32], "num_heads": [1, 2, 4], "depth": [1, 2, 3]},
        "data2vec-vision": OBLONG | {"use_relative_position_bias": True, "use_mask_token": True},
        "deit": OBLONG,
        "dinov2": {},
        "dinov2_with_registers": {},
        "dinov3_convnext": PYRAMID,
        "dinov3_vit": OBLONG | NO_JITTER,
        "donut-swin": SWIN,
        "dpt": {},
        "focalnet": {"image_size": 64, "embed_dim": 16, "depths": [1, 1, 3]},
        "hiera": {"image_size": [64, 64], "embed_dim": 8, "depths": [1, 1, 1, 3], "num_heads": [1, 1, 2, 2]},
        "idefics3_vision": {},
        "ijepa": OBLONG,
        "imagegpt": {},
        "internvl_vision": {},
        "levit": {
            "image_size": 128,
            "hidden_sizes": [16, 24, 32],
            "num_attention_heads": [2, 3, 4],
            "depths": [1, 1, 2],
        },
        "maskformer-swin": SWIN,
        "mlcd_vision_model": {},
        "mobilevit": {"image_size": 64},
        "pixio": {},
        "pixtral": {},
        "poolformer": PYRAMID,
        "pvt": PYRAMID_HEADS,
        "pvt_v2": PYRAMID_HEADS,
        "qianfan_ocr_vision": {},
        "regnet": PYRAMID | {"embedding_size": 8, "groups_width": 8},
        "resnet": PYRAMID | {"embedding_size": 8},
        "sam3_vit_model": {},
        "sam_vision_model": {},
        "sapiens2": OBLONG | NO_JITTER,
        "segformer": PYRAMID_HEADS,
        "siglip2_vision_model": {},
        "siglip_vision_model": {},
        "swiftformer": {"image_size": 64},
        "swin": SWIN,
        "swinv2": SWIN,
        "tipsv2_vision_model": {},
        "vit": OBLONG,
        "vit_mae": OBLONG | {"mask_ratio": 0.0},
        "vit_msn": OBLONG,
        "vitdet": {},
        "yolos": {},
    },
    "video": {
        "timesformer": {},
        "videomae": {"num_frames": 4},
        "vivit": {"num_frames": 4, "tubelet_size": (2, 4, 4)},
        "vjepa2": {
            "crop_size": 12,
            "frames_per_clip": 4,
            "pred_hidden_size": 24,
            "pred_num_attention_heads": 4,
            "pred_num_hidden_layers": 1,
        },
    },
    "sound": {
        "audio-spectrogram-transformer": {"max_length": 24, "frequency_stride": 4, "time_stride": 4},
        "data2vec-audio": WAVEFORM | {"conv_pos_kernel_size": 5},
        "glmasr_encoder": {},
        "hubert": WAVEFORM,
        "lasr_encoder": {},
        "moonshine": {"encoder_num_hidden_layers": 3},
        "parakeet_encoder": {"subsampling_conv_channels": 8},
        "qwen2_audio_encoder": SPECTROGRAM,
        "sew": WAVEFORM,
        "sew-d": WAVEFORM,
        "speech_to_text": {"input_feat_per_channel": 20, "conv_channels": 16},
        "speecht5": {},
        "unispeech": WAVEFORM,
        "unispeech-sat": WAVEFORM,
        "voxtral_encoder": SPECTROGRAM,
        "wav2vec2": WAVEFORM,
        "wav2vec2-bert": {"feature_projection_input_dim": 20},
        "wav2vec2-conformer": WAVEFORM,
        "wavlm": WAVEFORM,
        "whisper": SPECTROGRAM,
    },
    "time series": {
        "autoformer": SERIES,
        "informer": SERIES | {"distil": False},
        "patchtsmixer": PATCHED_SERIES,
        "patchtst": PATCHED_SERIES,
        "time_series_transformer": SERIES,
        "timesfm": {},
    },
}
ENCODER_TYPES: dict[str, dict[str, Settings]] = {
    kind: {name: row for name, row in rows.items() if name in CONFIG_MAPPING} for kind, rows in _ROWS.items()
}
"""By kind of data, the rows of the types that the installed transformers has."""
# All rows, whatever the kind of data.
SETTINGS: dict[str, Settings] = {name: row for rows in ENCODER_TYPES.values() for name, row in rows.items()}
