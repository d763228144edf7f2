"""Tiny encoders of many model types: ONE table of configurations, with inputs for each and a way to change content."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import CONFIG_MAPPING, AutoModel, PreTrainedConfig, PreTrainedModel

from modeling_data2vec_generic.measurements_data2vec_generic import evaluation_mode

SAMPLES = 2
# The sizes of a tiny encoder, under all the names that configurations have for them.
SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "encoder_layers": 3,
    "decoder_layers": 1,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
}
TOKENS, VOCABULARY, FIRST_WORD = 13, 50, 5
ROWS, COLUMNS, PATCH = 3, 5, 4
FRAMES, FRAME_SAMPLES, FRAME_STEP = 22, 40, 20  # what CONVOLUTIONS read per frame
# Group norm in the feature encoder sees every sample of a clip, so no content can be hidden from it: layer norm.
CONVOLUTIONS = {
    "conv_dim": (16, 16, 16),
    "conv_kernel": (10, 3, 3),
    "conv_stride": (5, 2, 2),
    "feat_extract_norm": "layer",
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 4,
}


@dataclass(frozen=True)
class Tiny:
    """One model type.

    Args:
        model_type: of transformers.
        reads: name of the encoder's main input.
        shape: of that input, for `SAMPLES` samples.
        length: T, content positions of each sample.
        feed_forward: name within a block of the layer whose output is the feed-forward output; `None`: it has none
            that is a linear layer of the blocks' width.
        settings: fields of the configuration on top of `SIZES`.
        prefix: tokens in front of the content.
        visible: "" if the blocks can run on visible positions alone, else what the refusal says.
        premixes: a position sees its neighbours before the first block.
        stride: frames that are merged into one position.
        padded: it takes an attention mask and rows of different lengths.
    """

    model_type: str
    reads: str
    shape: tuple[int, ...]
    length: int
    feed_forward: str | None
    settings: Mapping[str, Any] = field(default_factory=dict)
    prefix: int = 0
    visible: str = ""
    premixes: bool = False
    stride: int = 1
    padded: bool = False

    def config(self) -> PreTrainedConfig:
        """Without dropout of any kind, as far as fields tell."""
        config_class = CONFIG_MAPPING[self.model_type]
        given = {"prediction_length": 4} if "prediction_length" in self.settings else {}
        known = config_class(**given)
        fields = set(known.to_dict())
        other_names = getattr(known, "attribute_map", {})
        sizes = {name: size for name, size in SIZES.items() if (name in fields or name in other_names)}
        sizes = {name: size for name, size in sizes.items() if other_names.get(name) not in self.settings}
        if "depths" in self.settings:
            sizes = {}
        config = config_class(**sizes | dict(self.settings))
        for name, value in vars(config).items():
            if ("drop" in name or "mask_time_prob" in name) and isinstance(value, float):
                setattr(config, name, 0.0)
        return config

    def encoder(self, **settings: Any) -> PreTrainedModel:
        """With every weight random: new encoders have zeros (relative positions, mask tokens) that hide mistakes."""
        model = AutoModel.from_config(self.config(), **settings)
        encoder = model.get_encoder() if type(model.config).is_encoder_decoder else model
        for parameter in encoder.parameters():
            parameter.data.add_(torch.randn_like(parameter), alpha=0.1 if parameter.ndim > 1 else 0.2)
        return encoder

    def inputs(self) -> dict[str, Tensor]:
        if self.reads == "input_ids":
            return {self.reads: torch.randint(FIRST_WORD, VOCABULARY, self.shape)}
        return {self.reads: torch.randn(self.shape)}

    def scramble(self, encoder: PreTrainedModel, content: str, inputs: dict[str, Tensor], masked: Tensor) -> dict:
        """Inputs with other content at masked (B, T) positions, and nowhere else.

        Frames and patches may overlap: what changes is that which the content of no other position depends on.
        """
        values = inputs[self.reads]
        if self.reads == "input_ids":
            others = FIRST_WORD + (values + 1) % (VOCABULARY - FIRST_WORD)
            return inputs | {self.reads: torch.where(masked, others, values)}
        # In training mode some encoders change what flows through them.
        with evaluation_mode(encoder):
            kept = torch.autograd.functional.jacobian(
                lambda given: self._shown(encoder, content, given, masked), values
            )
        free = kept.abs().sum(0) == 0
        return inputs | {self.reads: torch.where(free, torch.randn_like(values), values)}

    def _shown(self, encoder: PreTrainedModel, content: str, values: Tensor, masked: Tensor) -> Tensor:
        """(1) that depends on the content of all positions that are not masked."""
        seen: list[Tensor] = []

        def stop(module: nn.Module, args: Any, output: Any) -> None:
            seen.append(output if isinstance(output, Tensor) else output[0])
            raise StopIteration

        handle = encoder.get_submodule(content).register_forward_hook(stop)
        try:
            encoder(**{self.reads: values})
        except StopIteration:
            pass
        finally:
            handle.remove()
        module = encoder.get_submodule(content)
        flat = seen[0].flatten(2).transpose(1, 2) if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d) else seen[0]
        flat = flat.flatten(1, -2)
        below = self.below(masked, flat.shape[1])
        weights = torch.randn(flat.shape, generator=torch.Generator().manual_seed(0))
        return (flat * weights * ~below.unsqueeze(-1)).sum().unsqueeze(0)

    def below(self, masked: Tensor, positions: int) -> Tensor:
        """(B, T) -> (B, positions): what lies below masked cells at the content module."""
        if positions == masked.shape[1]:
            return masked
        if self.reads == "pixel_values":
            side = round(masked.shape[1] ** 0.5)
            times = round((positions / masked.shape[1]) ** 0.5)
            return masked.unflatten(1, (side, side)).repeat_interleave(times, 1).repeat_interleave(times, 2).flatten(1)
        return masked.repeat_interleave(self.stride, 1)[:, :positions]

    def crop(self, inputs: dict[str, Tensor], positions: int) -> dict[str, Tensor]:
        """Inputs of that many leading positions."""
        count = positions
        if self.reads == "input_values":
            count = (positions * self.stride - 1) * FRAME_STEP + FRAME_SAMPLES
        return {name: value[:, :count] for name, value in inputs.items()}

    def ragged(self, positions: int) -> dict[str, Tensor]:
        """Inputs whose last sample has only this many positions and padding behind them, with the attention mask."""
        inputs = self.inputs()
        real = torch.ones(inputs[self.reads].shape[:2], dtype=torch.long)
        real[-1, self.crop(inputs, positions)[self.reads].shape[1] :] = 0
        return inputs | {"attention_mask": real}


ORDER = "take a position's place from where it stands"
PARTS = "do not run on a part of the positions"
COUNT = "depends on how many positions there are"
STAGES = "works in stages"
IN_ORDER = "given all positions in order"
REASONS = (ORDER, PARTS, COUNT, STAGES, IN_ORDER)


def tokens(model_type: str, feed_forward: str | None = "output.dense", /, visible: str = "", **settings: Any) -> Tiny:
    sizes = {"vocab_size": VOCABULARY, "max_position_embeddings": 2 * TOKENS + 6}
    flags = {name: settings.pop(name) for name in ("premixes", "padded") if name in settings}
    return Tiny(
        model_type,
        "input_ids",
        (SAMPLES, TOKENS),
        TOKENS,
        feed_forward,
        {name: size for name, size in sizes.items() if hasattr(CONFIG_MAPPING[model_type], name)} | settings,
        visible=visible,
        **{"padded": True} | flags,
    )


def images(
    model_type: str, feed_forward: str = "mlp.fc2", /, visible: str = "", prefix: int = 1, **settings: Any
) -> Tiny:
    """Of 3 x 5 patches."""
    size = (ROWS * PATCH, COLUMNS * PATCH)
    return Tiny(
        model_type,
        "pixel_values",
        (SAMPLES, 3, *size),
        ROWS * COLUMNS,
        feed_forward,
        {"image_size": size, "patch_size": PATCH} | settings,
        prefix=prefix,
        visible=visible,
    )


def squares(model_type: str, feed_forward: str = "mlp.fc2", /, visible: str = "", prefix: int = 1, **settings) -> Tiny:
    """Of 4 x 4 patches, for types whose configuration knows one side only."""
    tiny = images(model_type, feed_forward, visible, prefix, **{"image_size": 16} | settings)
    return replace(tiny, shape=(SAMPLES, 3, 16, 16), length=16)


def stages(model_type: str, feed_forward: str, side: int, /, **settings: Any) -> Tiny:
    """Images of 64 x 64 pixels for encoders whose last stage has side x side positions."""
    return Tiny(model_type, "pixel_values", (SAMPLES, 3, 64, 64), side**2, feed_forward, settings, visible=STAGES)


def videos(model_type: str, feed_forward: str, /, reads: str = "pixel_values", prefix: int = 0, **settings) -> Tiny:
    """Of 4 frames, two of which make a tubelet, and 3 x 3 patches."""
    return Tiny(model_type, reads, (SAMPLES, 4, 3, 12, 12), 18, feed_forward, settings, prefix=prefix)


def waveforms(model_type: str, feed_forward: str = "feed_forward.output_dense", /, **settings: Any) -> Tiny:
    flags = {"premixes": True, "padded": True}
    flags |= {name: settings.pop(name) for name in ("premixes", "visible", "stride", "padded") if name in settings}
    samples = (FRAMES - 1) * FRAME_STEP + FRAME_SAMPLES
    length = FRAMES // flags.get("stride", 1)
    return Tiny(model_type, "input_values", (SAMPLES, samples), length, feed_forward, CONVOLUTIONS | settings, **flags)


def whispers(model_type: str, **settings: Any) -> Tiny:
    """Spectrograms of 20 bands and 26 frames, which two convolutions make 13."""
    shape = {"num_mel_bins": 20, "max_source_positions": 13}
    return Tiny(model_type, "input_features", (SAMPLES, 20, 26), 13, "fc2", shape | settings)


def series(model_type: str, feed_forward: str, /, **settings: Any) -> Tiny:
    """Three channels of 24 values, in patches of 4; no scaling, or each value would depend on all."""
    shape = {"num_input_channels": 3, "context_length": 24, "patch_length": 4, "patch_stride": 4, "scaling": None}
    sizes = {"d_model": 32}
    return Tiny(model_type, "past_values", (SAMPLES, 24, 3), 18, feed_forward, shape | sizes | settings, visible=PARTS)


def values(model_type: str, /, visible: str = "", length: int = 13, **settings: Any) -> Tiny:
    """Vectors of 6 features."""
    settings = {
        "prediction_length": 4,
        "context_length": length,
        "input_size": 1,
        "lags_sequence": [1, 2],
        "num_time_features": 2,
        "d_model": 32,
    } | settings
    return Tiny(model_type, "inputs_embeds", (SAMPLES, length, 6), length, "fc2", settings, visible=visible)


NO_JITTER = {"pos_embed_rescale": None, "pos_embed_jitter": None, "pos_embed_shift": None}
T5 = {"d_kv": 8, "d_ff": 48, "num_layers": 3, "num_heads": 4}
XLM = {"emb_dim": 32, "n_layers": 3, "n_heads": 4, "n_words": VOCABULARY}
SWIN = {
    "image_size": 64,
    "patch_size": 2,
    "embed_dim": 8,
    "depths": [1, 1, 3],
    "num_heads": [1, 2, 4],
    "window_size": 4,
}
PYRAMID = {"depths": [1, 1, 1, 3], "hidden_sizes": [8, 16, 24, 32], "num_stages": 4}

_ROWS: list[Tiny] = [
    # text
    tokens("albert", "albert_layers.0.ffn_output", embedding_size=16),
    tokens("bert"),
    tokens("bert-generation"),
    tokens("big_bird", attention_type="original_full"),
    tokens("camembert"),
    tokens("convbert", visible=ORDER, embedding_size=16, conv_kernel_size=3),
    tokens("data2vec-text"),
    tokens("deberta", visible=COUNT, relative_attention=True, pos_att_type=["c2p", "p2c"]),
    tokens("deberta-v2", relative_attention=True, pos_att_type=["c2p", "p2c"], position_biased_input=False),
    tokens("distilbert", "ffn.lin2", dim=32, n_layers=3, n_heads=4, hidden_dim=48),
    tokens("dpr"),
    tokens("electra", embedding_size=16),
    tokens("ernie"),
    tokens("esm", mask_token_id=4, pad_token_id=1, position_embedding_type="rotary", token_dropout=False),
    tokens("esmc", "mlp.down_proj", head_dim=8),
    tokens("eurobert", "mlp.down_proj", num_key_value_heads=4, head_dim=8, pad_token_id=0),
    tokens("flaubert", "lin2", visible=PARTS, premixes=True, **XLM),
    tokens("fnet", visible=ORDER, padded=False),
    tokens("gte", "mlp.down_proj"),
    tokens("ibert", None),
    tokens("jina_embeddings_v3", "mlp.fc2"),
    tokens("layoutlm"),
    tokens("layoutlmv3", coordinate_size=4, shape_size=8, max_2d_position_embeddings=64, input_size=32),
    tokens("lilt", visible=PARTS, hidden_size=48, channel_shrink_ratio=4, max_2d_position_embeddings=64),
    tokens("longformer", visible=PARTS, attention_window=4),
    tokens("luke", entity_vocab_size=10, entity_emb_size=8),
    tokens("markuplm"),
    tokens("megatron-bert"),
    tokens(
        "mobilebert",
        "output.bottleneck.dense",
        premixes=True,
        embedding_size=16,
        intra_bottleneck_size=16,
        true_hidden_size=16,
        num_feedforward_networks=2,
    ),
    tokens(
        "modernbert",
        "mlp.Wo",
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        cls_token_id=1,
        sep_token_id=2,
        global_attn_every_n_layers=2,
        local_attention=4,
    ),
    tokens("mpnet"),
    tokens("nomic_bert", "mlp.down_proj", pad_token_id=0),
    tokens("nystromformer", visible=ORDER, num_landmarks=13, segment_means_seq_len=13),
    tokens("rembert", input_embedding_size=16),
    tokens("roberta"),
    tokens("roberta-prelayernorm"),
    tokens(
        "roc_bert",
        pronunciation_vocab_size=50,
        shape_vocab_size=50,
        pronunciation_embed_dim=8,
        shape_embed_dim=8,
    ),
    tokens("roformer", embedding_size=16),
    tokens("splinter"),
    tokens("tapas"),
    tokens("visual_bert"),
    tokens("xlm", "lin2", visible=PARTS, premixes=True, **XLM),
    tokens("xlm-roberta"),
    tokens("xlm-roberta-xl"),
    tokens("xmod", languages=("en_XX",), default_language="en_XX"),
    # text, a part of a model of images and text
    tokens("clip_text_model", "mlp.fc2", visible=ORDER),
    tokens("tipsv2_text_model", "mlp.fc2", visible=PARTS),
    # encoders of encoder-decoders
    tokens("bart", "fc2", d_model=32),
    tokens("bigbird_pegasus", "fc2", d_model=32, attention_type="original_full"),
    tokens("blenderbot", "fc2", d_model=32),
    tokens("blenderbot-small", "fc2", d_model=32),
    tokens("led", "fc2", visible=PARTS, d_model=32, attention_window=4, max_encoder_position_embeddings=160),
    tokens("longt5", "layer.1.DenseReluDense.wo", visible=PARTS, d_model=32, local_radius=4, **T5),
    tokens("m2m_100", "fc2", d_model=32),
    tokens("marian", "fc2", d_model=32, pad_token_id=1, decoder_start_token_id=1),
    tokens("mbart", "fc2", d_model=32),
    tokens("mt5", "layer.1.DenseReluDense.wo", d_model=32, **T5),
    tokens("mvp", "fc2", d_model=32),
    tokens("pegasus", "fc2", d_model=32),
    tokens("plbart", "fc2", d_model=32),
    tokens("prophetnet", "feed_forward.output", num_encoder_layers=3, num_encoder_attention_heads=4),
    tokens("t5", "layer.1.DenseReluDense.wo", d_model=32, **T5),
    tokens("umt5", "layer.1.DenseReluDense.wo", visible=ORDER, d_model=32, **T5),
    # images
    squares("aimv2_vision_model", "ffn.down_proj", prefix=0),
    images("beit", use_relative_position_bias=True, use_mask_token=True),
    squares("chinese_clip_vision_model"),
    squares("clip_vision_model"),
    images("data2vec-vision", "output.dense", use_relative_position_bias=True, use_mask_token=True),
    images("deit", prefix=2),
    squares("dinov2", mlp_ratio=2),
    squares("dinov2_with_registers", prefix=5, mlp_ratio=2),
    images("dinov3_vit", "mlp.down_proj", prefix=5, num_register_tokens=4, **NO_JITTER),
    squares("dpt", "output.dense"),
    images("ijepa", prefix=0),
    squares("internvl_vision"),
    squares("mlcd_vision_model", visible=PARTS),
    squares("pixio", prefix=8),
    images("sapiens2", "mlp.down_proj", prefix=9, **NO_JITTER),
    squares("siglip_vision_model", prefix=0),
    squares("tipsv2_vision_model", prefix=2),
    images("vit"),
    images("vit_mae", mask_ratio=0.0),
    images("vit_msn"),
    squares("vitdet", visible=PARTS, prefix=0, pretrain_image_size=16),
    images("yolos", "output.dense", visible=PARTS, num_detection_tokens=3),
    # images, in stages
    stages("convnext", "pwconv2", 2, **PYRAMID),
    stages("convnextv2", "pwconv2", 2, **PYRAMID),
    stages("dinov3_convnext", "pointwise_conv2", 2, depths=[1, 1, 1, 3], hidden_sizes=[8, 16, 24, 32]),
    stages("donut-swin", "output.dense", 8, **SWIN),
    stages("focalnet", "mlp.fc2", 8, image_size=64, patch_size=2, embed_dim=8, depths=[1, 1, 3]),
    stages("hiera", "mlp.fc2", 2, image_size=(64, 64), embed_dim=8, depths=[1, 1, 1, 3], num_heads=[1, 1, 2, 2]),
    stages("maskformer-swin", "output.dense", 8, **SWIN),
    stages("swin", "mlp.fc2", 8, **SWIN),
    stages("swinv2", "output.dense", 8, **SWIN),
    # video
    videos("videomae", "output.dense", num_frames=4, tubelet_size=2, image_size=12, patch_size=4),
    videos("vivit", "mlp.fc2", prefix=1, num_frames=4, tubelet_size=(2, 4, 4), image_size=12),
    videos(
        "vjepa2",
        "mlp.fc2",
        "pixel_values_videos",
        crop_size=12,
        frames_per_clip=4,
        tubelet_size=2,
        patch_size=4,
        mlp_ratio=2,
        pred_hidden_size=24,
        pred_num_attention_heads=4,
        pred_num_hidden_layers=1,
    ),
    # sound
    Tiny(
        "audio-spectrogram-transformer",
        "input_values",
        (SAMPLES, 24, 16),
        24,
        "mlp.fc2",
        {"max_length": 24, "num_mel_bins": 16, "patch_size": 4, "frequency_stride": 4, "time_stride": 4},
        prefix=2,
    ),
    waveforms("data2vec-audio", conv_pos_kernel_size=5),
    waveforms("hubert"),
    Tiny(
        "lasr_encoder",
        "input_features",
        (SAMPLES, 64, 16),
        13,
        "feed_forward2.linear2",
        {"num_mel_bins": 16},
        visible=ORDER,
    ),
    waveforms("sew", stride=2, squeeze_factor=2),
    waveforms("sew-d", "output.dense", stride=2, squeeze_factor=2),
    Tiny(
        "speech_to_text",
        "input_features",
        (SAMPLES, 40, 20),
        10,
        "fc2",
        {"d_model": 32, "input_feat_per_channel": 20, "conv_channels": 16},
    ),
    waveforms("unispeech"),
    waveforms("unispeech-sat"),
    waveforms("wav2vec2"),
    waveforms("wav2vec2-conformer", "ffn2.output_dense", visible=ORDER, premixes=False),
    waveforms("wavlm"),
    Tiny(
        "wav2vec2-bert",
        "input_features",
        (SAMPLES, 13, 20),
        13,
        "ffn2.output_dense",
        {"feature_projection_input_dim": 20},
        visible=ORDER,
    ),
    Tiny(
        "parakeet_encoder",
        "input_features",
        (SAMPLES, 64, 16),
        8,
        "feed_forward2.linear2",
        {"num_mel_bins": 16, "subsampling_conv_channels": 8},
        visible=PARTS,
    ),
    Tiny("moonshine", "input_values", (SAMPLES, 4000), 9, "mlp.fc2", {"encoder_num_hidden_layers": 3}),
    whispers("qwen2_audio_encoder", d_model=32),
    whispers("voxtral_encoder"),
    whispers("whisper", d_model=32, pad_token_id=0),
    # time series
    values("autoformer", visible=ORDER),
    values("informer", visible=IN_ORDER, length=40, distil=False),
    series("patchtsmixer", "feature_mixer.mlp.fc2", num_layers=3),
    series("patchtst", "ff.3", ffn_dim=48),
    values("time_series_transformer"),
]
TINY: dict[str, Tiny] = {tiny.model_type: tiny for tiny in _ROWS} | {
    "data2vec-vision, one bias for all": images(
        "data2vec-vision", "output.dense", use_shared_relative_position_bias=True, use_mask_token=True
    ),
    "wav2vec2, norm first": waveforms("wav2vec2", do_stable_layer_norm=True),
}
VISIBLE = [name for name, tiny in TINY.items() if not tiny.visible]
PADDED = [name for name, tiny in TINY.items() if tiny.padded]
