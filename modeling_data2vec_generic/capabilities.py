"""What data2vec can do with each encoder type of transformers, found out by building a small one and examining it.

python -m modeling_data2vec_generic.capabilities vit                          # one type
python -m modeling_data2vec_generic.capabilities                              # the whole table
python -m modeling_data2vec_generic.capabilities --write docs/backbones.md    # the table, put into a file
"""

import argparse
import difflib
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import CONFIG_MAPPING, MODEL_MAPPING, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.utils import logging

from .backbone_data2vec_generic import masked_content
from .geometry_data2vec_generic import grid_of, patch_sides
from .layout_data2vec_generic import BackboneLayout, UnsupportedBackboneError, describe, find_layout
from .measurements_data2vec_generic import (
    BackboneMeasurements,
    encode,
    evaluation_mode,
    made_up_sample,
    main_input,
    measure,
    visible_only_fault,
)
from .modeling_data2vec_generic import encoder_of

TYPES = {
    "text, proteins": """
        albert bart bert bert-generation big_bird bigbird_pegasus blenderbot blenderbot-small bros camembert canine
        clip_text_model convbert data2vec-text deberta deberta-v2 distilbert dpr electra ernie esm esmc eurobert
        flaubert fnet funnel gte ibert jina_embeddings_v3 layoutlm layoutlmv3 led lilt longformer longt5 luke m2m_100
        marian markuplm mbart megatron-bert mobilebert modernbert mpnet mra mt5 mvp nllb-moe nomic_bert nystromformer
        pegasus pegasus_x plbart prophetnet reformer rembert roberta roberta-prelayernorm roc_bert roformer
        seamless_m4t splinter squeezebert switch_transformers t5 tapas tipsv2_text_model udop umt5 visual_bert xlm
        xlm-roberta xlm-roberta-xl xlnet xmod yoso
    """,
    "images": """
        aimv2_vision_model beit chinese_clip_vision_model clip_vision_model convnext convnextv2 cvt data2vec-vision
        deit dinov2 dinov2_with_registers dinov3_convnext dinov3_vit donut-swin dpt focalnet hiera idefics3_vision
        ijepa imagegpt internvl_vision levit maskformer-swin mlcd_vision_model mobilevit pixio pixtral poolformer pvt
        pvt_v2 qianfan_ocr_vision regnet resnet sam3_vit_model sam_vision_model sapiens2 segformer siglip2_vision_model
        siglip_vision_model swiftformer swin swinv2 tipsv2_vision_model vit vit_mae vit_msn vitdet yolos
    """,
    "video": "timesformer videomae vivit vjepa2",
    "sound": """
        audio-spectrogram-transformer data2vec-audio glmasr_encoder hubert lasr_encoder moonshine parakeet_encoder
        qwen2_audio_encoder sew sew-d speech_to_text speecht5 unispeech unispeech-sat voxtral_encoder wav2vec2
        wav2vec2-bert wav2vec2-conformer wavlm whisper
    """,
    "time series": "autoformer informer patchtsmixer patchtst time_series_transformer timesfm",
}
NAMES = [name for names in TYPES.values() for name in names.split()]

# Between these, a file holds the table.
BEGIN = "<!-- capabilities: begin -->"
END = "<!-- capabilities: end -->"

# Fields by which an encoder is made small, where its configuration has them and holds a number there.
SIZES = {
    "hidden_size": 32,
    "d_model": 32,
    "dim": 32,
    "num_hidden_layers": 3,
    "num_layers": 3,
    "n_layers": 3,
    "encoder_layers": 3,
    "num_encoder_layers": 3,
    "decoder_layers": 1,
    "num_decoder_layers": 1,
    "num_attention_heads": 4,
    "num_heads": 4,
    "n_heads": 4,
    "num_key_value_heads": 4,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "num_encoder_attention_heads": 4,
    "num_decoder_attention_heads": 4,
    "head_dim": 8,
    "d_kv": 8,
    "intermediate_size": 48,
    "hidden_dim": 48,
    "ffn_dim": 48,
    "d_ff": 48,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "embedding_size": 16,
    "input_embedding_size": 16,
    "vocab_size": 300,
    "image_size": 12,
    "patch_size": 4,
    "conv_dim": 16,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 4,
    "num_mel_bins": 16,
}
_SWIN = {
    "image_size": 64,
    "patch_size": 2,
    "embed_dim": 16,
    "depths": [1, 1, 2],
    "num_heads": [2, 2, 4],
    "window_size": 4,
}
_PYRAMID = {"image_size": 64, "depths": [1, 1, 1, 2], "hidden_sizes": [8, 16, 24, 32]}
_PYRAMID_HEADS = _PYRAMID | {"num_attention_heads": [1, 2, 4, 4]}
_SERIES = {"num_input_channels": 3, "context_length": 24, "patch_length": 4, "patch_stride": 4}
_VALUES = {
    "prediction_length": 4,
    "context_length": 13,
    "input_size": 1,
    "lags_sequence": [1, 2],
    "num_time_features": 2,
}
_LANDMARKS = {"num_landmarks": 12, "segment_means_seq_len": 12}
# What more some types need to be built small, or to be what published checkpoints of them are.
SETTINGS: dict[str, dict[str, Any]] = {
    "autoformer": _VALUES,
    "beit": {"use_relative_position_bias": True},
    "big_bird": {"attention_type": "original_full"},
    "bigbird_pegasus": {"attention_type": "original_full"},
    "convbert": {"conv_kernel_size": 3},
    "convnext": _PYRAMID,
    "convnextv2": _PYRAMID,
    "cvt": {"embed_dim": [8, 16, 32], "num_heads": [1, 2, 4], "depth": [1, 2, 3]},
    "data2vec-vision": {"use_relative_position_bias": True},
    "deberta": {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
    "deberta-v2": {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_biased_input": False},
    "dinov3_convnext": _PYRAMID,
    "donut-swin": _SWIN,
    "esm": {"position_embedding_type": "rotary", "vocab_size": 33, "mask_token_id": 32, "pad_token_id": 1},
    "flaubert": {"emb_dim": 32, "n_words": 300},
    "focalnet": {"image_size": 64, "embed_dim": 16, "depths": [1, 1, 2]},
    "funnel": {"architectures": ["FunnelModel"], "block_sizes": [1, 1], "n_head": 4, "d_inner": 48},
    "hiera": {"image_size": [64, 64], "embed_dim": 8, "depths": [1, 1, 1, 2], "num_heads": [1, 1, 2, 2]},
    "informer": _VALUES | {"distil": False},
    "layoutlmv3": {"coordinate_size": 4, "shape_size": 8, "input_size": 32},
    "led": {"attention_window": 4},
    "levit": {"image_size": 128, "hidden_sizes": [16, 24, 32], "num_attention_heads": [2, 3, 4], "depths": [1, 1, 2]},
    "lilt": {"hidden_size": 48},
    "longformer": {"attention_window": 4},
    "longt5": {"local_radius": 4},
    "maskformer-swin": _SWIN,
    "mobilevit": {"image_size": 64},
    "nystromformer": _LANDMARKS,
    "patchtsmixer": _SERIES,
    "patchtst": _SERIES,
    "poolformer": _PYRAMID,
    "prophetnet": {"num_encoder_layers": 3, "num_decoder_layers": 1},
    "pvt": _PYRAMID_HEADS,
    "pvt_v2": _PYRAMID_HEADS,
    "reformer": {"hidden_size": 32, "axial_pos_embds": False},
    "regnet": _PYRAMID | {"embedding_size": 8, "groups_width": 8},
    "resnet": _PYRAMID | {"embedding_size": 8},
    "segformer": _PYRAMID_HEADS,
    "squeezebert": {"embedding_size": 32},
    "swiftformer": {"image_size": 64},
    "swin": _SWIN,
    "swinv2": _SWIN,
    "time_series_transformer": _VALUES,
    "videomae": {"num_frames": 4},
    "vit_mae": {"mask_ratio": 0.0},
    "vivit": {"num_frames": 4, "tubelet_size": [2, 4, 4]},
    "vjepa2": {
        "crop_size": 12,
        "frames_per_clip": 4,
        "pred_hidden_size": 24,
        "pred_num_attention_heads": 4,
        "pred_num_hidden_layers": 1,
    },
    "xlm": {"emb_dim": 32, "n_words": 300},
    "xlnet": {"d_model": 32, "n_head": 4, "d_inner": 48, "d_head": 8},
    "xmod": {"languages": ("en_XX",), "default_language": "en_XX"},
}


@dataclass(frozen=True)
class Capability:
    """What was found out about one encoder type.

    Args:
        model_type: the name in transformers' CONFIG_MAPPING.
        reads: the encoder's main input.
        layout: where data2vec reaches into it; `None` if nothing was found.
        measurements: how it behaved; `None` if it could not be examined.
        mask_token, visible: whether `student_input` may be set to this; `None` where only real data can tell.
        reason: why one of the two may not; empty if both may.
    """

    model_type: str
    reads: str = ""
    layout: BackboneLayout | None = None
    measurements: BackboneMeasurements | None = None
    mask_token: bool | None = False
    visible: bool | None = False
    reason: str = ""


def capability_of(model_type: str) -> Capability:
    """Build a small encoder of a type, with random weights, and measure it.

    Raises:
        ValueError: transformers has no such type with a model for AutoModel.
    """
    if model_type not in CONFIG_MAPPING or CONFIG_MAPPING[model_type] not in MODEL_MAPPING:
        close = difflib.get_close_matches(model_type, NAMES + list(CONFIG_MAPPING), n=3)
        raise ValueError(
            f"{model_type!r} is not a model type that AutoModel knows. "
            + (f"Did you mean {' or '.join(dict.fromkeys(close))}? " if close else "")
            + "Without a type, the whole table is printed."
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            encoder = small_encoder(model_type)
        except Exception as error:  # whatever a configuration or an encoder of unknown kind raises
            return Capability(model_type, reason=f"no small encoder of it could be built ({_first_line(error)})")
        return _measured(model_type, encoder)


def small_config(model_type: str) -> PreTrainedConfig:
    """The default configuration of a type with small sizes, and what `SETTINGS` says."""
    config_class = CONFIG_MAPPING[model_type]
    settings = SETTINGS.get(model_type, {})
    default = config_class(**settings)
    known = (default.to_dict().keys() | default.attribute_map.keys()) - settings.keys()
    if {"depth", "depths"} & settings.keys():  # sizes of stages hang together
        known = set()
    sizes = {name: _size(getattr(default, name, None), size) for name, size in SIZES.items() if name in known}
    sizes = {name: size for name, size in sizes.items() if size is not None}
    same = {name: other for name, other in default.attribute_map.items() if other in sizes or other in settings}
    config = config_class(**{name: size for name, size in sizes.items() if name not in same} | settings)
    largest = getattr(config, "vocab_size", None) or 0
    for name, value in vars(config).items():
        if name.endswith("_token_id") and isinstance(value, int) and value >= largest > 0:
            largest -= 1
            setattr(config, name, largest)
    return config


def small_encoder(model_type: str) -> PreTrainedModel:
    """An encoder with random weights throughout: new encoders have zeros that hide what a weight does."""
    encoder = encoder_of(AutoModel.from_config(small_config(model_type))).eval()
    for parameter in encoder.parameters():
        parameter.data.add_(torch.randn_like(parameter), alpha=0.1)
    return encoder


def _size(default: Any, size: int) -> Any:
    """A size of the same shape as the default; `None` where the default is no number of pixels, channels, ..."""
    if isinstance(default, list | tuple):
        return type(default)([size] * len(default))
    return size if isinstance(default, int) and not isinstance(default, bool) else None


def _measured(model_type: str, encoder: PreTrainedModel) -> Capability:
    reads = main_input(encoder)
    try:
        layout = find_layout(encoder)
    except UnsupportedBackboneError as error:
        return Capability(model_type, reads, reason=_without_name(error, encoder))
    inputs = made_up_sample(encoder, layout)
    if inputs is None:
        reason = f"no sample of {reads} alone could be made up that it reads"
        return Capability(model_type, reads, layout, mask_token=None, visible=None, reason=reason)
    try:
        measurements = measure(encoder, layout, inputs)
    except UnsupportedBackboneError as error:
        return Capability(model_type, reads, layout, reason=_without_name(error, encoder))
    if _shows_masked_content(encoder, layout, measurements, inputs):
        reason = "what it makes of a sample that is masked throughout still depends on the sample"
        return Capability(model_type, reads, layout, measurements, reason=reason)
    fault = visible_only_fault(encoder, layout, measurements, inputs)
    return Capability(
        model_type, reads, layout, measurements, mask_token=True, visible=fault is None, reason=fault or ""
    )


@torch.no_grad()
def _shows_masked_content(
    encoder: PreTrainedModel, layout: BackboneLayout, measurements: BackboneMeasurements, inputs: dict[str, Tensor]
) -> bool:
    """Whether two samples that are masked at every position are told apart."""
    (name, values), *_ = inputs.items()
    mask = torch.ones(1, measurements.length, dtype=torch.bool)
    grid = grid_of(values.shape, measurements.length, patch_sides(encoder.config)) if layout.hierarchical else None
    outputs = []
    with evaluation_mode(encoder):
        for sample in (values, values.flip(-1)):
            with masked_content(encoder, layout, mask, None, stride=measurements.stride, grid=grid):
                given = inputs | {name: sample}
                outputs.append(encode(encoder, layout, given, measurements.length, measurements.takes_last_block))
    return not torch.equal(*outputs)


def _without_name(error: Exception, encoder: PreTrainedModel) -> str:
    return "it " + str(error).removeprefix(describe(encoder)).strip()


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0]}"


def as_text(found: Capability) -> str:
    """All that is known of one type, a line for each point."""
    lines = [f"{found.model_type}"]
    lines.append(f"student_input='mask_token': {_yes(found.mask_token)}")
    lines.append(f"student_input='visible': {_yes(found.visible)}")
    if found.reason:
        lines.append(f"why not: {found.reason}")
    if found.reads:
        lines.append(f"reads: {found.reads}")
    if found.layout is not None:
        lines.append(f"content module: {found.layout.content}, {found.layout.content_width} channels")
        lines.append(f"blocks: {found.layout.blocks[0]} and the like, {found.layout.width} channels")
        lines.append(f"works in stages: {_yes(found.layout.hierarchical)}")
    if found.measurements is not None:
        lines.append(f"prefix tokens: {found.measurements.prefix}")
        lines.append(f"premix: {_yes(found.measurements.mixes_neighbours)}")
        lines.append(f"stride: {found.measurements.stride}")
    return "\n".join(lines) + "\n"


def as_table(found: Iterable[Capability]) -> str:
    """A Markdown table, a row for each type."""
    rows = [
        "| type | mask token | visible only | prefix | premix | stages | why not |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in found:
        seen, layout = one.measurements, one.layout
        cells = [
            f"`{one.model_type}`",
            _yes(one.mask_token),
            _yes(one.visible),
            "" if seen is None else str(seen.prefix),
            "" if seen is None else _yes(seen.mixes_neighbours),
            "" if layout is None else _yes(layout.hierarchical),
            _short(one.reason),
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def _yes(value: bool | None) -> str:
    return "not known" if value is None else "yes" if value else "no"


def _short(reason: str) -> str:
    """What it says before it goes into numbers and names, which differ between versions of torch and transformers."""
    return re.split(r": |, as \(| \(|\. ", reason)[0].rstrip(".")


def written(text: str, table: str, path: Path) -> str:
    """A file's text with a new table between its two markers.

    Raises:
        ValueError: it does not have the markers, in this order.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"{path} has no place for the table: a line {BEGIN} and, below it, a line {END}.")
    return f"{before}{begin}\n{table}{end}{after}"


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m modeling_data2vec_generic.capabilities", description=(__doc__ or "").split("\n", 1)[0]
    )
    parser.add_argument("model_type", nargs="?", help="Type to measure, e.g. vit. Default: all, as a table.")
    parser.add_argument(
        "--write", type=Path, metavar="FILE", help="Put the table into this file, between its markers."
    )
    arguments = parser.parse_args(argv)
    if arguments.model_type is not None and arguments.write is not None:
        parser.error("--write writes the whole table, so it does not go with a model type.")
    logging.set_verbosity_error()
    try:
        if arguments.model_type is not None:
            sys.stdout.write(as_text(capability_of(arguments.model_type)))
        elif arguments.write is not None:
            text = written(arguments.write.read_text(encoding="utf-8"), whole_table(), arguments.write)
            arguments.write.write_text(text, encoding="utf-8")
        else:
            sys.stdout.write(whole_table())
    except (ValueError, OSError) as error:
        parser.error(str(error))


def whole_table() -> str:
    """A table of all types for each kind of data."""
    tables = []
    for kind, names in TYPES.items():
        tables.append(f"\n### {kind[0].upper()}{kind[1:]}\n\n{as_table(map(capability_of, names.split()))}")
    return "".join(tables) + "\n"


if __name__ == "__main__":
    main()
