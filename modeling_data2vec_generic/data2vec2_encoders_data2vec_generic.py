"""The encoders that data2vec 2.0 was published with: transformers has no class for them.

All three are post-norm blocks, the first few of which (the prenet) come before the ones that targets are taken from.
Text has word and position embeddings in front of them, images have patches at fixed positions, and sound has
convolutions, a positional convolution, and attention that is biased by the distance of two frames (ALiBi). The sound
encoder has a head for speech recognition too.

Shapes: B samples, T content positions, L = extra tokens + T, C channels, H heads.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import Data2VecAudioConfig, Data2VecAudioModel, Data2VecTextConfig, PreTrainedModel, ViTConfig
from transformers import initialization as init
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_outputs import BaseModelOutput, CausalLMOutput
from transformers.models.bert.modeling_bert import BertLayer
from transformers.models.data2vec.modeling_data2vec_audio import (
    Data2VecAudioFeatureEncoder,
    Data2VecAudioFeatureProjection,
    Data2VecAudioPositionalConvEmbedding,
)
from transformers.models.data2vec.modeling_data2vec_text import Data2VecTextEmbeddings
from transformers.models.vit.modeling_vit import ViTPatchEmbeddings

LOCAL_NORM_EPS = 1e-5  # of the norms in front of the positions, whatever the blocks have


class Data2Vec2TextConfig(Data2VecTextConfig):
    """Settings of `Data2Vec2TextModel`: those of `Data2VecTextConfig`, and one more.

    Args:
        prenet_depth: number of blocks before the `num_hidden_layers` main ones. If there are any, a norm precedes
            them.
    """

    model_type = "data2vec2-text"
    type_vocab_size: int = 1
    layer_norm_eps: float = 1e-5
    pad_token_id: int | None = 1
    prenet_depth: int = 0


class Data2Vec2VisionConfig(ViTConfig):
    """Settings of `Data2Vec2VisionModel`: those of `ViTConfig`, and two more.

    Args:
        prenet_depth: number of blocks before the `num_hidden_layers` main ones.
        num_extra_tokens: tokens in front of the patches, which have no position.
    """

    model_type = "data2vec2-vision"
    layer_norm_eps: float = 1e-6
    prenet_depth: int = 2
    num_extra_tokens: int = 1
    is_decoder: bool = False  # `BertLayer` reads these two
    add_cross_attention: bool = False


class Data2Vec2AudioConfig(Data2VecAudioConfig):
    """Settings of `Data2Vec2AudioModel`: those of `Data2VecAudioConfig`, and one more.

    By default, nothing is masked in the model (`mask_time_prob` is 0).

    Args:
        prenet_depth: number of blocks before the `num_hidden_layers` main ones.
    """

    model_type = "data2vec2-audio"
    attribute_map = {"hidden_dropout_prob": "hidden_dropout", "attention_probs_dropout_prob": "attention_dropout"}
    num_conv_pos_embeddings: int = 5
    layerdrop: float = 0.0
    mask_time_prob: float = 0.0
    prenet_depth: int = 0
    is_decoder: bool = False  # `BertLayer` reads these two
    add_cross_attention: bool = False


class Data2Vec2PreTrainedModel(PreTrainedModel):
    """What transformers must know of these models."""

    base_model_prefix = "data2vec2"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _no_split_modules = ["BertLayer", "Data2VecTextEmbeddings", "Data2Vec2ImageEmbeddings"]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, Data2VecTextEmbeddings):
            init.copy_(module.position_ids, torch.arange(module.position_ids.shape[-1]).expand((1, -1)))
            init.zeros_(module.token_type_ids)
        elif isinstance(module, Data2Vec2ImageEmbeddings):
            init.copy_(module.positions, module.table())
            if module.extra_tokens is not None:
                init.normal_(module.extra_tokens, std=self.config.initializer_range)
        elif isinstance(module, Data2Vec2AudioModel):
            init.ones_(module.alibi_scale)


class PostNormEncoder(Data2Vec2PreTrainedModel):
    """What the three encoders share: an optional norm, the prenet, the main blocks."""

    def __init__(self, config: Any, norm_first: bool):
        super().__init__(config)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps) if norm_first else nn.Identity()
        self.prenet = nn.ModuleList(BertLayer(config) for _ in range(config.prenet_depth))
        self.blocks = nn.ModuleList(BertLayer(config) for _ in range(config.num_hidden_layers))

    def run_blocks(self, hidden: Tensor, attention_mask: Tensor | None, output_hidden_states: bool) -> BaseModelOutput:
        """The norm and all blocks.

        Args:
            hidden: (B, L, C).
            attention_mask: additive or boolean, (B or 1, H or 1, L, L), or None.
            output_hidden_states: whether to return what the first block reads and what each block makes.
        """
        hidden = self.norm(hidden)
        states: tuple[Tensor, ...] | None = (hidden,) if output_hidden_states else None
        for block in [*self.prenet, *self.blocks]:
            hidden = block(hidden, attention_mask)
            states = (*states, hidden) if states else None
        return BaseModelOutput(last_hidden_state=hidden, hidden_states=states)


class Data2Vec2TextModel(PostNormEncoder):
    """The text encoder of data2vec 2.0."""

    config_class = Data2Vec2TextConfig

    def __init__(self, config: Data2Vec2TextConfig):
        super().__init__(config, norm_first=config.prenet_depth > 0)
        self.embeddings = Data2VecTextEmbeddings(config)
        self.embeddings.LayerNorm.eps = LOCAL_NORM_EPS
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.embeddings.word_embeddings

    def set_input_embeddings(self, value: Any) -> None:
        self.embeddings.word_embeddings = value

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        output_hidden_states: bool = False,
    ) -> BaseModelOutput:
        """Encodes tokens.

        Args:
            input_ids: (B, T).
            attention_mask: (B, T), 1 where there is a token and 0 at padding.
            position_ids: (B, T), rows of the position embeddings; default: counted from `pad_token_id + 1`.
            output_hidden_states: see `run_blocks`.
        """
        hidden = self.embeddings(input_ids, position_ids=position_ids)
        mask: Any = create_bidirectional_mask(self.config, hidden, attention_mask)
        return self.run_blocks(hidden, mask, output_hidden_states)


class Data2Vec2ImageEmbeddings(nn.Module):
    """Patches at fixed positions, behind extra tokens that have none."""

    def __init__(self, config: Data2Vec2VisionConfig):
        super().__init__()
        self.width = config.hidden_size
        self.patch_embeddings = ViTPatchEmbeddings(config)
        height, width = self.patch_embeddings.image_size
        rows, columns = self.patch_embeddings.patch_size
        self.grid = height // rows, width // columns
        self.positions = nn.Buffer(self.table())
        tokens = config.num_extra_tokens
        self.extra_tokens = nn.Parameter(torch.zeros(1, tokens, config.hidden_size)) if tokens else None

    def table(self) -> Tensor:
        """(1, T, C): sines, then cosines, of the column in the first half of the channels, of the row in the second.

        This is the order of masked autoencoders, https://arxiv.org/abs/2111.06377.
        """
        frequencies = 10000.0 ** -(torch.arange(self.width // 4, dtype=torch.float64) / (self.width // 4))
        row, column = torch.meshgrid(*(torch.arange(side).double() for side in self.grid), indexing="ij")
        angles = [places.flatten().outer(frequencies) for places in (column, row)]
        return torch.cat([wave for angle in angles for wave in (angle.sin(), angle.cos())], dim=1).float()[None]

    def forward(self, pixel_values: Tensor) -> Tensor:
        """(B, colours, height, width) -> (B, L, C)."""
        patches = self.patch_embeddings(pixel_values) + self.positions
        if self.extra_tokens is None:
            return patches
        return torch.cat([self.extra_tokens.expand(len(patches), -1, -1), patches], dim=1)


class Data2Vec2VisionModel(PostNormEncoder):
    """The image encoder of data2vec 2.0."""

    config_class = Data2Vec2VisionConfig
    main_input_name = "pixel_values"

    def __init__(self, config: Data2Vec2VisionConfig):
        super().__init__(config, norm_first=True)
        self.embeddings = Data2Vec2ImageEmbeddings(config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.embeddings.patch_embeddings

    def forward(self, pixel_values: Tensor, output_hidden_states: bool = False) -> BaseModelOutput:
        """Encodes images, (B, colours, height, width), of the size in the configuration."""
        return self.run_blocks(self.embeddings(pixel_values), None, output_hidden_states)


class Data2Vec2AudioModel(PostNormEncoder):
    """The sound encoder of data2vec 2.0."""

    config_class = Data2Vec2AudioConfig
    main_input_name = "input_values"
    _mask_hidden_states: Any = (
        Data2VecAudioModel._mask_hidden_states
    )  # SpecAugment, by the configuration's mask_* fields

    def __init__(self, config: Data2Vec2AudioConfig):
        super().__init__(config, norm_first=True)
        self.feature_extractor = Data2VecAudioFeatureEncoder(config)
        self.feature_projection = Data2VecAudioFeatureProjection(config)
        self.feature_projection.layer_norm.eps = LOCAL_NORM_EPS
        self.positional_convolution = Data2VecAudioPositionalConvEmbedding(config)
        self.alibi_scale = nn.Parameter(torch.ones(1, 1, config.num_attention_heads, 1, 1))
        self.post_init()

    @property
    def masked_spec_embed(self) -> Tensor:
        """(C), what SpecAugment puts in the place of frames: zeros, as in the published fine-tuning."""
        return self.alibi_scale.new_zeros(self.config.hidden_size)

    def frames_of(self, samples: Tensor) -> Tensor:
        """How many frames the convolutions make of these numbers of samples."""
        for kernel, stride in zip(self.config.conv_kernel, self.config.conv_stride, strict=True):
            samples = (samples - kernel) // stride + 1
        return samples

    def _get_feature_vector_attention_mask(self, length: int, attention_mask: Tensor) -> Tensor:
        """(B, samples) -> (B, `length` frames), True for frames that are made of real samples only."""
        frames = self.frames_of(attention_mask.sum(1))
        return torch.arange(length, device=frames.device) < frames.unsqueeze(1)

    def attention_bias(self, length: int) -> Tensor:
        """(1, H, T, T): minus the distance of two frames, times a slope for each head, times a learned scale."""
        slopes = torch.tensor(alibi_slopes(self.config.num_attention_heads), device=self.alibi_scale.device)
        places = torch.arange(length, device=self.alibi_scale.device)
        distance = (places.unsqueeze(0) - places.unsqueeze(1)).abs()
        return -slopes.view(1, -1, 1, 1) * distance * self.alibi_scale[0].float().clamp(min=0)

    def forward(
        self, input_values: Tensor, attention_mask: Tensor | None = None, output_hidden_states: bool = False
    ) -> BaseModelOutput:
        """Encodes sound.

        Args:
            input_values: (B, samples).
            attention_mask: (B, samples), 1 where there is sound and 0 at padding.
            output_hidden_states: see `run_blocks`.
        """
        features = self.feature_extractor(input_values).transpose(1, 2)
        hidden, _ = self.feature_projection(features)
        real = None
        if attention_mask is not None:
            real = self._get_feature_vector_attention_mask(hidden.shape[1], attention_mask)
        hidden = self._mask_hidden_states(hidden, attention_mask=real)
        hidden = hidden + self.positional_convolution(hidden)
        bias = self.attention_bias(hidden.shape[1]).to(hidden.dtype)
        if real is not None:
            bias = bias.masked_fill(~real[:, None, None], torch.finfo(bias.dtype).min)
        return self.run_blocks(hidden, bias, output_hidden_states)


class Data2Vec2AudioForCTC(Data2Vec2PreTrainedModel):
    """The sound encoder with a linear layer over `vocab_size` characters, for speech recognition."""

    config_class = Data2Vec2AudioConfig
    main_input_name = "input_values"

    def __init__(self, config: Data2Vec2AudioConfig):
        super().__init__(config)
        self.data2vec2 = Data2Vec2AudioModel(config)
        self.dropout = nn.Dropout(config.final_dropout)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size)
        self.post_init()

    def freeze_feature_encoder(self) -> None:
        """Stops the training of the convolutions over samples."""
        self.data2vec2.feature_extractor._freeze_parameters()

    def forward(
        self,
        input_values: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        output_hidden_states: bool = False,
    ) -> CausalLMOutput:
        """Scores of characters for each frame, and the CTC loss if there are labels.

        Args:
            input_values: (B, samples).
            attention_mask: (B, samples), 1 where there is sound and 0 at padding.
            labels: (B, characters), padded with a negative number.
            output_hidden_states: see `Data2Vec2AudioModel.run_blocks`.
        """
        outputs = self.data2vec2(input_values, attention_mask, output_hidden_states)
        logits = self.lm_head(self.dropout(outputs.last_hidden_state))
        loss = None
        if labels is not None:
            samples = torch.ones_like(input_values) if attention_mask is None else attention_mask
            # As in transformers' models: cuDNN's version has other limits, and is not deterministic.
            with torch.backends.cudnn.flags(enabled=False):
                loss = functional.ctc_loss(
                    logits.float().log_softmax(-1).transpose(0, 1),
                    labels[labels >= 0],
                    self.data2vec2.frames_of(samples.sum(1).long()),
                    (labels >= 0).sum(1),
                    blank=self.config.pad_token_id,
                    reduction=self.config.ctc_loss_reduction,
                    zero_infinity=self.config.ctc_zero_infinity,
                )
        return CausalLMOutput(loss=loss, logits=logits, hidden_states=outputs.hidden_states)


def alibi_slopes(heads: int) -> list[float]:
    """The slope of each head: 2^(-8/n), 2^(-16/n), ... for n heads if n is a power of two.

    Otherwise those of the next lower power of two, then every second one of the next higher (https://arxiv.org/abs/2108.12409).
    """
    lower = 2 ** math.floor(math.log2(heads))
    slopes = [2 ** (-8 * (head + 1) / lower) for head in range(lower)]
    return slopes + alibi_slopes(2 * lower)[::2][: heads - lower] if heads > lower else slopes


for _config, _model in (
    (Data2Vec2TextConfig, Data2Vec2TextModel),
    (Data2Vec2VisionConfig, Data2Vec2VisionModel),
    (Data2Vec2AudioConfig, Data2Vec2AudioModel),
):
    _config.register_for_auto_class("AutoConfig")  # so that they are saved with this file
    _model.register_for_auto_class("AutoModel")
Data2Vec2AudioForCTC.register_for_auto_class("AutoModelForCTC")

__all__ = [
    "Data2Vec2AudioConfig",
    "Data2Vec2AudioForCTC",
    "Data2Vec2AudioModel",
    "Data2Vec2TextConfig",
    "Data2Vec2TextModel",
    "Data2Vec2VisionConfig",
    "Data2Vec2VisionModel",
]
