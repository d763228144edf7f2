"""Tiny encoders of many model types: what is expected of each, inputs for it, and a way to change their content.

The encoders come from the table of `modeling_data2vec_generic.capabilities`. A type with a row there is tested without
a line here if it is what encoders of its kind of data usually are (`USUAL`); `EXPECTED` says where it differs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from modeling_data2vec_generic.capabilities import ENCODER_TYPES, random_encoder, small_config
from modeling_data2vec_generic.measurements_data2vec_generic import evaluation_mode

SAMPLES = 2
TOKENS, VOCABULARY, FIRST_WORD = 13, 50, 5  # words that are no special token of any type
FRAMES, FRAME_SAMPLES, FRAME_STEP = (
    22,
    40,
    20,
)  # of waveforms: the first frame reads 40 samples, the next ones begin 20 later


@dataclass(frozen=True)
class Tiny:
    """One model type and what is expected of it.

    Args:
        model_type: of transformers.
        reads: name of the encoder's main input.
        shape: of that input, for `SAMPLES` samples.
        length: T, content positions of each sample.
        feed_forward: name within a block of the layer whose output is the feed-forward output; `None`: it has none
            that is a linear layer of the blocks' width.
        prefix: tokens in front of the content.
        visible: "" if the blocks can run on visible positions alone, else what the refusal says.
        premixes: a position sees its neighbours before the first block.
        stride: frames that are merged into one position.
        padded: it takes an attention mask and rows of different lengths.
        changes: fields of the configuration that differ from the table's row.
    """

    model_type: str
    reads: str
    shape: tuple[int, ...]
    length: int
    feed_forward: str | None
    prefix: int = 0
    visible: str = ""
    premixes: bool = False
    stride: int = 1
    padded: bool = False
    changes: Mapping[str, Any] = field(default_factory=dict)

    def config(self) -> PreTrainedConfig:
        """The small configuration of the table, without dropout of any kind as far as its fields tell."""
        config = small_config(self.model_type, **self.changes)
        for name, value in vars(config).items():
            if ("drop" in name or "mask_time_prob" in name) and isinstance(value, float):
                setattr(config, name, 0.0)
        return config

    def encoder(self, **options: Any) -> PreTrainedModel:
        """In training mode, with every weight random; `options` are those of `AutoModel.from_config`."""
        return random_encoder(self.config(), **options)

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


# What encoders of one kind of data usually are; images have the shape that the configuration says.
USUAL: dict[str, dict[str, Any]] = {
    "text, proteins": {
        "reads": "input_ids",
        "shape": (SAMPLES, TOKENS),
        "length": TOKENS,
        "feed_forward": "output.dense",
        "padded": True,
    },
    "images": {"reads": "pixel_values", "feed_forward": "mlp.fc2", "prefix": 1},
    # 4 frames, two of which make a tubelet, and 3 x 3 patches
    "video": {"reads": "pixel_values", "shape": (SAMPLES, 4, 3, 12, 12), "length": 18, "feed_forward": "mlp.fc2"},
    "sound": {
        "reads": "input_values",
        "shape": (SAMPLES, (FRAMES - 1) * FRAME_STEP + FRAME_SAMPLES),
        "length": FRAMES,
        "feed_forward": "feed_forward.output_dense",
        "premixes": True,
        "padded": True,
    },
    # 13 vectors of 6 features
    "time series": {"reads": "inputs_embeds", "shape": (SAMPLES, 13, 6), "length": 13, "feed_forward": "fc2"},
}
T5 = {"feed_forward": "layer.1.DenseReluDense.wo"}
FC2 = {"feed_forward": "fc2"}  # of encoder-decoders
DENSE = {"feed_forward": "output.dense"}
DOWN = {"feed_forward": "mlp.down_proj"}
FEATURES = {"reads": "input_features", "premixes": False, "padded": False}
# Spectrograms of 20 bands and 26 frames, which two convolutions make 13.
SPECTROGRAMS = FEATURES | FC2 | {"shape": (SAMPLES, 20, 26), "length": 13}
# Three channels of 24 values, in patches of 4.
CHANNELS = {"reads": "past_values", "shape": (SAMPLES, 24, 3), "length": 18, "visible": PARTS}
HALF_THE_FRAMES = {"stride": 2, "length": FRAMES // 2}


def in_stages(feed_forward: str, side: int) -> dict[str, Any]:
    """An encoder of images whose last stage has side x side positions."""
    return {
        "shape": (SAMPLES, 3, 64, 64),
        "length": side**2,
        "feed_forward": feed_forward,
        "prefix": 0,
        "visible": STAGES,
    }


EXPECTED: dict[str, dict[str, Any]] = {
    # text
    "albert": {"feed_forward": "albert_layers.0.ffn_output"},
    "convbert": {"visible": ORDER},
    "deberta": {"visible": COUNT},
    "distilbert": {"feed_forward": "ffn.lin2"},
    "esmc": DOWN,
    "eurobert": DOWN,
    "flaubert": {"feed_forward": "lin2", "visible": PARTS, "premixes": True},
    "fnet": {"visible": ORDER, "padded": False},
    "gte": DOWN,
    "ibert": {"feed_forward": None},
    "jina_embeddings_v3": {"feed_forward": "mlp.fc2"},
    "lilt": {"visible": PARTS},
    "longformer": {"visible": PARTS},
    "mobilebert": {"feed_forward": "output.bottleneck.dense", "premixes": True},
    "modernbert": {"feed_forward": "mlp.Wo"},
    "nomic_bert": DOWN,
    "nystromformer": {"visible": ORDER},
    "xlm": {"feed_forward": "lin2", "visible": PARTS, "premixes": True},
    # text, a part of a model of images and text
    "clip_text_model": {"feed_forward": "mlp.fc2", "visible": ORDER},
    "tipsv2_text_model": {"feed_forward": "mlp.fc2", "visible": PARTS},
    # encoders of encoder-decoders
    "bart": FC2,
    "bigbird_pegasus": FC2,
    "blenderbot": FC2,
    "blenderbot-small": FC2,
    "led": FC2 | {"visible": PARTS},
    "longt5": T5 | {"visible": PARTS},
    "m2m_100": FC2,
    "marian": FC2,
    "mbart": FC2,
    "mt5": T5,
    "mvp": FC2,
    "pegasus": FC2,
    "plbart": FC2,
    "prophetnet": {"feed_forward": "feed_forward.output"},
    "t5": T5,
    "umt5": T5 | {"visible": ORDER},
    # images
    "aimv2_vision_model": {"feed_forward": "ffn.down_proj", "prefix": 0},
    "data2vec-vision": DENSE,
    "deit": {"prefix": 2},
    "dinov2_with_registers": {"prefix": 5},
    "dinov3_vit": DOWN | {"prefix": 5, "changes": {"num_register_tokens": 4}},
    "dpt": DENSE,
    "ijepa": {"prefix": 0},
    "mlcd_vision_model": {"visible": PARTS},
    "pixio": {"prefix": 8},
    "sapiens2": DOWN | {"prefix": 9},
    "siglip_vision_model": {"prefix": 0},
    "tipsv2_vision_model": {"prefix": 2},
    "vitdet": {"visible": PARTS, "prefix": 0},
    "yolos": DENSE | {"visible": PARTS, "changes": {"image_size": (12, 20)}},
    # images, in stages
    "convnext": in_stages("pwconv2", 2),
    "convnextv2": in_stages("pwconv2", 2),
    "dinov3_convnext": in_stages("pointwise_conv2", 2),
    "donut-swin": in_stages("output.dense", 8),
    "focalnet": in_stages("mlp.fc2", 4),
    "hiera": in_stages("mlp.fc2", 2),
    "maskformer-swin": in_stages("output.dense", 8),
    "swin": in_stages("mlp.fc2", 8),
    "swinv2": in_stages("output.dense", 8),
    # video
    "videomae": DENSE,
    "vivit": {"prefix": 1},
    "vjepa2": {"reads": "pixel_values_videos"},
    # sound
    "audio-spectrogram-transformer": {
        "shape": (SAMPLES, 24, 16),
        "length": 24,
        "feed_forward": "mlp.fc2",
        "prefix": 2,
        "premixes": False,
        "padded": False,
    },
    "lasr_encoder": FEATURES
    | {"shape": (SAMPLES, 64, 16), "length": 13, "feed_forward": "feed_forward2.linear2", "visible": ORDER},
    "moonshine": {
        "shape": (SAMPLES, 4000),
        "length": 9,
        "feed_forward": "mlp.fc2",
        "premixes": False,
        "padded": False,
    },
    "parakeet_encoder": FEATURES
    | {"shape": (SAMPLES, 64, 16), "length": 8, "feed_forward": "feed_forward2.linear2", "visible": PARTS},
    "qwen2_audio_encoder": SPECTROGRAMS,
    "sew": HALF_THE_FRAMES,
    "sew-d": DENSE | HALF_THE_FRAMES,
    "speech_to_text": FEATURES | FC2 | {"shape": (SAMPLES, 40, 20), "length": 10},
    "voxtral_encoder": SPECTROGRAMS,
    "wav2vec2-bert": FEATURES
    | {"shape": (SAMPLES, 13, 20), "length": 13, "feed_forward": "ffn2.output_dense", "visible": ORDER},
    "wav2vec2-conformer": {"feed_forward": "ffn2.output_dense", "visible": ORDER, "premixes": False},
    "whisper": SPECTROGRAMS,
    # time series
    "autoformer": {"visible": ORDER},
    # so many positions that its attention leaves some of them out
    "informer": {
        "shape": (SAMPLES, 40, 6),
        "length": 40,
        "visible": IN_ORDER,
        "changes": {"context_length": 40},
    },
    "patchtsmixer": CHANNELS | {"feed_forward": "feature_mixer.mlp.fc2"},
    "patchtst": CHANNELS | {"feed_forward": "ff.3"},
}
# Types that data2vec can't use, or can't use without real data; docs/backbones.md says why.
REFUSED = set(
    """
    bros canine funnel reformer squeezebert udop xlnet cvt mobilevit pixtral pvt pvt_v2 regnet resnet
    siglip2_vision_model swiftformer timesformer glmasr_encoder speecht5 timesfm
    """.split()
)
# Types that only the checks of the command run on.
SURVEYED_ONLY = set(
    """
    mra nllb-moe pegasus_x seamless_m4t switch_transformers yoso idefics3_vision imagegpt levit poolformer
    qianfan_ocr_vision sam3_vit_model sam_vision_model segformer
    """.split()
)


def tiny_of(kind: str, model_type: str, **changes: Any) -> Tiny:
    """The type with what is expected of it; `changes` make a variant of it."""
    expected = {"changes": changes} | USUAL[kind] | EXPECTED.get(model_type, {})
    if "shape" not in expected:
        expected |= patches_of(small_config(model_type, **expected["changes"]))
    return Tiny(model_type, **expected)


def patches_of(config: PreTrainedConfig) -> dict[str, Any]:
    """The shape of images and the number of their patches."""
    sides = (config.image_size,) * 2 if isinstance(config.image_size, int) else tuple(config.image_size)
    patch = config.patch_size if isinstance(config.patch_size, int) else config.patch_size[0]
    return {"shape": (SAMPLES, 3, *sides), "length": prod(side // patch for side in sides)}


TINY: dict[str, Tiny] = {
    model_type: tiny_of(kind, model_type)
    for kind, rows in ENCODER_TYPES.items()
    for model_type in rows
    if model_type not in REFUSED | SURVEYED_ONLY
} | {
    "data2vec-vision, one bias for all": tiny_of(
        "images", "data2vec-vision", use_relative_position_bias=False, use_shared_relative_position_bias=True
    ),
    "wav2vec2, norm first": tiny_of("sound", "wav2vec2", do_stable_layer_norm=True),
}
VISIBLE = [name for name, tiny in TINY.items() if not tiny.visible]
PADDED = [name for name, tiny in TINY.items() if tiny.padded]
