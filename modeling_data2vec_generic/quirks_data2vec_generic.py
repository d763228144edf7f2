"""Exceptions to the generic rules: one line per model type of transformers, with the reason in a comment."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class BackboneQuirks:
    """What must be known about a model type because neither its modules nor a forward pass show it.

    Each field has a default, with which the generic rules apply.

    Args:
        content: name of the module whose output is the content of each position, where the generic rule finds none or
            a wrong one.
        feed_forward: name, within a block, of the linear layer that makes the feed-forward output, where it is not the
            last linear layer that runs.
        channels_first: whether blocks return (B, C, rows, columns) instead of (B, ..., C).
        channels_apart: whether blocks return (B, channels, T, C), because the encoder treats each channel of the input
            as a series of its own.
        inputs: arguments that every forward pass is given in addition to the data.
        settings: fields of the configuration that must be set so that the encoder does not mask its input by itself.
        ordered_input: name of an input that must hold 0, 1, ..., T - 1 for each sample.
        gathered_modules: names of modules inside a block whose output, (1 or B, heads, L, L), spans the whole sequence
            and must be gathered when the student reads visible positions only.
        position_bias: name of the module in the first block whose `compute_bias(L, L)`, (1, heads, L, L) or
            (heads, L, L), is passed on from block to block as `position_bias`.
        position_argument: name of the block's argument that takes the (R, V) indices of the positions that it reads.
        pairs_per_head: name of the block's argument that holds relative positions (1, L, L). Where they differ from
            row to row, it takes (1, R * heads, V, V).
        per_sample: name of the block's argument that has one entry per sample, (B).
        prefix: number of tokens in front of the content, for encoders in which every position sees all others before
            the first block, so that a change of a position does not show where it is.
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
    # Each block computes its position bias from the size of the window instead of from its input.
    "beit": BackboneQuirks(gathered_modules=("relative_position_bias",)),
    "data2vec-vision": BackboneQuirks(gathered_modules=("relative_position_bias",)),
    # The first block computes the position bias of all blocks from the length of its input.
    "wavlm": BackboneQuirks(position_bias="attention"),
    "t5": BackboneQuirks(position_bias="layer.0.SelfAttention"),
    "mt5": BackboneQuirks(position_bias="layer.0.SelfAttention"),
    "switch_transformers": BackboneQuirks(position_bias="layer.0.SelfAttention"),
    # A block numbers its input 0, 1, 2, ... for the rotary embedding unless it is given positions. The predictor is
    # not needed.
    "vjepa2": BackboneQuirks(position_argument="position_mask", inputs={"skip_predictor": True}),
    # Attention flattens the heads into the batch.
    "deberta-v2": BackboneQuirks(pairs_per_head="relative_pos"),
    "sew-d": BackboneQuirks(pairs_per_head="relative_pos"),
    # By default it keeps a random quarter of the patches. Even with mask_ratio 0 it shuffles them by `noise`.
    "vit_mae": BackboneQuirks(ordered_input="noise", settings={"mask_ratio": 0.0}),
    # The content is the output of the last of three convolutions.
    "moonshine": BackboneQuirks(content="conv3"),
    # The modules that make the frames have names that no other encoder uses.
    "speech_to_text": BackboneQuirks(content="conv"),
    "lasr_encoder": BackboneQuirks(content="subsampler"),
    # The content is the projection of the codec's output to the width of the blocks. A norm over all positions, CLS
    # included, follows it, so that a change of one position reaches all others.
    "pe_audio_encoder": BackboneQuirks(content="embedder.data_proj", prefix=1),
    # In a block, linear layers of a second stream (LiLT) or an adapter (X-MOD) run after the feed-forward layer.
    "lilt": BackboneQuirks(feed_forward="output.dense"),
    "xmod": BackboneQuirks(feed_forward="output.dense", per_sample="lang_ids"),
    # Their blocks work on a grid, with the channels first.
    "convnext": BackboneQuirks(channels_first=True),
    "convnextv2": BackboneQuirks(channels_first=True),
    "dinov3_convnext": BackboneQuirks(channels_first=True, content="stages.0.downsample_layers.0"),
    "vitdet": BackboneQuirks(channels_first=True),
    "poolformer": BackboneQuirks(channels_first=True, content="patch_embeddings.0.projection"),
    # They pass each channel of a series through the blocks separately.
    "patchtst": BackboneQuirks(content="encoder.embedder", channels_apart=True),
    "patchtsmixer": BackboneQuirks(content="patcher", channels_apart=True, feed_forward="feature_mixer.mlp.fc2"),
}

# Names of parameters that encoders have for masked positions. The first that is found is the student's mask embedding.
MASK_PARAMETERS = ("mask_token", "masked_spec_embed")


def quirks_of(model_type: str) -> BackboneQuirks:
    """The quirks of a model type; for a type without an entry, all fields have their defaults."""
    return QUIRKS.get(model_type, BackboneQuirks())


__all__ = ["MASK_PARAMETERS", "QUIRKS", "BackboneQuirks", "quirks_of"]
