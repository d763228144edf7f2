"""Own encoders, put together from modules of transformers: the ones that data2vec 2.0 was published with.

transformers has no class for them, and nothing in the package knows them: they are passed as `encoder=`. Blocks are
post-norm `BertLayer`s, a few of them (the prenet) in a list of their own in front of the main stack.
"""

import torch
from torch import Tensor, nn
from transformers import BertConfig, Data2VecAudioConfig, Data2VecTextConfig, PreTrainedModel
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.bert.modeling_bert import BertLayer
from transformers.models.data2vec.modeling_data2vec_audio import (
    Data2VecAudioFeatureEncoder,
    Data2VecAudioFeatureProjection,
    Data2VecAudioPositionalConvEmbedding,
)
from transformers.models.data2vec.modeling_data2vec_text import Data2VecTextEmbeddings
from transformers.models.vit.modeling_vit import ViTPatchEmbeddings


class TextEncoderConfig(Data2VecTextConfig):
    model_type = "own_text_encoder"
    prenet_depth: int = 0


class ImageEncoderConfig(BertConfig):
    model_type = "own_image_encoder"
    prenet_depth: int = 0
    image_size: int | tuple[int, int] = 32
    patch_size: int = 8
    num_channels: int = 3


class SoundEncoderConfig(Data2VecAudioConfig):
    model_type = "own_sound_encoder"
    prenet_depth: int = 0
    hidden_dropout_prob: float = 0.0  # `BertLayer` reads its dropouts under these names
    attention_probs_dropout_prob: float = 0.0
    is_decoder: bool = False
    add_cross_attention: bool = False


class PostNormEncoder(PreTrainedModel):
    """Blocks shared by the three encoders: norm (optional), prenet, main stack."""

    _supports_sdpa = True

    def __init__(self, config, norm_first: bool):
        super().__init__(config)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps) if norm_first else nn.Identity()
        self.prenet = nn.ModuleList(BertLayer(config) for _ in range(config.prenet_depth))
        self.blocks = nn.ModuleList(BertLayer(config) for _ in range(config.num_hidden_layers))

    def run_blocks(self, hidden: Tensor, attention_mask: Tensor | None) -> BaseModelOutput:
        """(B, L, C) and an additive or boolean mask (B or 1, H or 1, L, L) -> (B, L, C)."""
        hidden = self.norm(hidden)
        for block in [*self.prenet, *self.blocks]:
            hidden = block(hidden, attention_mask=attention_mask)
        return BaseModelOutput(last_hidden_state=hidden)


class TextEncoder(PostNormEncoder):
    config_class = TextEncoderConfig

    def __init__(self, config: TextEncoderConfig):
        super().__init__(config, norm_first=False)
        self.embeddings = Data2VecTextEmbeddings(config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.embeddings.word_embeddings

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> BaseModelOutput:
        hidden = self.embeddings(input_ids)
        return self.run_blocks(hidden, create_bidirectional_mask(self.config, hidden, attention_mask))


def sin_cos_table(rows: int, columns: int, width: int) -> Tensor:
    """(1, rows * columns, width): the first half of the channels is for the column, the second for the row."""
    frequencies = 10000.0 ** -(torch.arange(width // 4, dtype=torch.float64) / (width // 4))

    def code(places: Tensor) -> Tensor:
        angles = places.double().outer(frequencies)
        return torch.cat([angles.sin(), angles.cos()], dim=1)

    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    return torch.cat([code(column.flatten()), code(row.flatten())], dim=1).float().unsqueeze(0)


class ImageEmbeddings(nn.Module):
    """Patches at fixed positions, behind an extra token that has none."""

    def __init__(self, config: ImageEncoderConfig):
        super().__init__()
        self.patch_embeddings = ViTPatchEmbeddings(config)
        height, width = self.patch_embeddings.image_size
        grid = height // config.patch_size, width // config.patch_size
        self.positions = nn.Buffer(sin_cos_table(*grid, config.hidden_size))
        self.extra_tokens = nn.Parameter(torch.randn(1, 1, config.hidden_size))

    def forward(self, pixel_values: Tensor) -> Tensor:
        patches = self.patch_embeddings(pixel_values) + self.positions
        return torch.cat([self.extra_tokens.expand(len(patches), -1, -1), patches], dim=1)


class ImageEncoder(PostNormEncoder):
    config_class = ImageEncoderConfig
    main_input_name = "pixel_values"

    def __init__(self, config: ImageEncoderConfig):
        super().__init__(config, norm_first=True)
        self.embeddings = ImageEmbeddings(config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.embeddings.patch_embeddings

    def forward(self, pixel_values: Tensor) -> BaseModelOutput:
        return self.run_blocks(self.embeddings(pixel_values), None)


class SoundEncoder(PostNormEncoder):
    """Convolutions over samples, a positional convolution over frames, attention biased by their distance."""

    config_class = SoundEncoderConfig
    main_input_name = "input_values"

    def __init__(self, config: SoundEncoderConfig):
        super().__init__(config, norm_first=True)
        self.feature_extractor = Data2VecAudioFeatureEncoder(config)
        self.feature_projection = Data2VecAudioFeatureProjection(config)
        self.positional_convolution = Data2VecAudioPositionalConvEmbedding(config)
        self.alibi_scale = nn.Parameter(torch.ones(1, 1, config.num_attention_heads, 1, 1))
        self.post_init()

    def _get_feature_vector_attention_mask(self, length: int, attention_mask: Tensor) -> Tensor:
        """(B, samples) -> (B, frames) bool: frames made of real samples only."""
        frames = attention_mask.sum(1)
        for kernel, stride in zip(self.config.conv_kernel, self.config.conv_stride, strict=True):
            frames = (frames - kernel) // stride + 1
        return torch.arange(length) < frames.unsqueeze(1)

    def attention_bias(self, length: int) -> Tensor:
        """(1, H, T, T): minus the distance of two frames, steeper for the first heads, times a learned scale."""
        heads = self.config.num_attention_heads
        slopes = 2.0 ** (-8 * torch.arange(1, heads + 1) / heads)
        places = torch.arange(length)
        distance = (places.unsqueeze(0) - places.unsqueeze(1)).abs()
        return -slopes.view(1, heads, 1, 1) * distance * self.alibi_scale.view(1, heads, 1, 1).clamp(min=0)

    def forward(self, input_values: Tensor, attention_mask: Tensor | None = None) -> BaseModelOutput:
        features = self.feature_extractor(input_values).transpose(1, 2)
        hidden = self.feature_projection(features)[0]
        hidden = hidden + self.positional_convolution(hidden)
        bias = self.attention_bias(hidden.shape[1])
        if attention_mask is not None:
            real = self._get_feature_vector_attention_mask(hidden.shape[1], attention_mask)
            bias = bias.masked_fill(~real[:, None, None], torch.finfo(bias.dtype).min)
        return self.run_blocks(hidden, bias)
