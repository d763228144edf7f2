"""What differs from the generic rules, one line per model type of transformers, with its reason."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class BackboneQuirks:
    """Knowledge about one model type that can't be found by looking at the encoder.

    Args:
        content: name of the module whose output is the content of each position, where the generic rule finds none or
            another one.
        feed_forward: the linear layer of a block that makes the feed-forward output, if not the last that runs.
        channels_first: blocks return (B, C, rows, columns) instead of (B, ..., C).
        channels_apart: blocks return (B, channels, T, C), and each channel of the input is a series of its own.
        inputs: what every forward pass is to be given besides the data.
        settings: fields of the configuration without which it would hide a part of its input by itself.
        ordered_input: an input that must hold 0, 1, ..., T - 1 for each sample.
        gathered_modules: names of modules inside a block whose output, (1 or B, heads, L, L), spans the whole sequence
            and must be gathered along with it when the student reads visible positions only.
        position_bias: the module inside the first block whose `compute_bias(L, L)`, (1, heads, L, L) or (heads, L, L),
            is handed from block to block as `position_bias`.
        position_argument: the block's argument for the (R, V) indices of the positions that it reads.
        pairs_per_head: the block's argument of pairwise positions (1, L, L) that, when they differ from row to row,
            must be given as (1, R * heads, V, V).
        per_sample: the block's argument of one entry per sample, (B).
        prefix: tokens in front of the content, where every position sees all others before the first block, so that
            a change of one does not show where it stands.
    """

    content: str | None = None
    feed_forward: str | None = None
    channels_first: bool = False
    channels_apart: bool = False
    inputs: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    ordered_input: str | None = None
    gathered_modules: tuple[str, ...] = ()
    position_bias: str | None = None
    position_argument: str | None = None
    pairs_per_head: str | None = None
    per_sample: str | None = None
    prefix: int | None = None


QUIRKS: dict[str, BackboneQuirks] = {
    # Each block makes its bias from the window, not from its input.
    "beit": BackboneQuirks(gathered_modules=("relative_position_bias",)),
    "data2vec-vision": BackboneQuirks(gathered_modules=("relative_position_bias",)),
    # The first block makes the bias of all from the length of its input.
    "wavlm": BackboneQuirks(position_bias="attention"),
    "t5": BackboneQuirks(position_bias="layer.0.SelfAttention"),
    "mt5": BackboneQuirks(position_bias="layer.0.SelfAttention"),
    "switch_transformers": BackboneQuirks(position_bias="layer.0.SelfAttention"),
    # Rotary angles come from the place in the sequence unless positions are given; the predictor is not needed.
    "vjepa2": BackboneQuirks(position_argument="position_mask", inputs={"skip_predictor": True}),
    # Attention flattens heads into the batch.
    "deberta-v2": BackboneQuirks(pairs_per_head="relative_pos"),
    "sew-d": BackboneQuirks(pairs_per_head="relative_pos"),
    # It keeps a random quarter of the patches, and shuffles them by noise even with mask_ratio 0.
    "vit_mae": BackboneQuirks(ordered_input="noise", settings={"mask_ratio": 0.0}),
    # The last of three convolutions that make the frames.
    "moonshine": BackboneQuirks(content="conv3"),
    # The convolutions that make the frames have no name that others share.
    "speech_to_text": BackboneQuirks(content="conv"),
    "lasr_encoder": BackboneQuirks(content="subsampler"),
    # What a codec makes of the waveform, as wide as the blocks; a norm over all positions follows, CLS among them.
    "pe_audio_encoder": BackboneQuirks(content="embedder.data_proj", prefix=1),
    # An adapter, or a layer of another stream, comes after the feed-forward layer.
    "lilt": BackboneQuirks(feed_forward="output.dense"),
    "xmod": BackboneQuirks(feed_forward="output.dense", per_sample="lang_ids"),
    # Convolutions over a grid.
    "convnext": BackboneQuirks(channels_first=True),
    "convnextv2": BackboneQuirks(channels_first=True),
    "dinov3_convnext": BackboneQuirks(channels_first=True, content="stages.0.downsample_layers.0"),
    "vitdet": BackboneQuirks(channels_first=True),
    "poolformer": BackboneQuirks(channels_first=True, content="patch_embeddings.0.projection"),
    # Every channel of a series passes through the blocks by itself.
    "patchtst": BackboneQuirks(content="encoder.embedder", channels_apart=True),
    "patchtsmixer": BackboneQuirks(content="patcher", channels_apart=True, feed_forward="feature_mixer.mlp.fc2"),
}

# Parameters that an encoder keeps for masked positions; the first that is found is the student's mask embedding.
MASK_PARAMETERS = ("mask_token", "masked_spec_embed")


def quirks_of(model_type: str) -> BackboneQuirks:
    """The entry of a model type, or the generic one."""
    return QUIRKS.get(model_type, BackboneQuirks())


__all__ = ["MASK_PARAMETERS", "QUIRKS", "BackboneQuirks", "quirks_of"]
