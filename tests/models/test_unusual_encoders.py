"""Encoders that can't be used, or not as they are: the error says why, and what to do."""

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    CONFIG_MAPPING,
    AutoModel,
    BertConfig,
    CLIPConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Siglip2Config,
    ViTConfig,
)
from transformers.models.bert.modeling_bert import BertLayer
from transformers.models.clap.configuration_clap import ClapConfig
from transformers.models.fsmt.configuration_fsmt import FSMTConfig

from modeling_data2vec_generic import Data2VecGenericConfig, Data2VecGenericForPreTraining
from modeling_data2vec_generic.capabilities import capability_of, small_config, small_encoder
from modeling_data2vec_generic.layout_data2vec_generic import UnsupportedBackboneError, explained, find_layout
from modeling_data2vec_generic.measurements_data2vec_generic import measure, visible_only_fault
from modeling_data2vec_generic.modeling_data2vec_generic import encoder_of

pytestmark = pytest.mark.fast

SINCE_NEMOTRON_STREAMS = pytest.mark.skipif(
    "nemotron_asr_streaming_encoder" not in CONFIG_MAPPING, reason="transformers has this type since 5.13"
)
SMALL = {"hidden_size": 16, "intermediate_size": 20, "num_hidden_layers": 1, "num_attention_heads": 2}
TOKENS = {"input_ids": torch.arange(5, 17).view(2, 6)}


class Widening(nn.Module):
    """More weights than a block, and none of the encoder's width."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(8, 1000), nn.Linear(1000, 8)

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden + self.down(self.up(hidden))


class Gated(BertLayer):
    """A block that is given a number for each row of the sequence, as (B, 1, L)."""

    def forward(self, hidden: Tensor, row_mask: Tensor) -> Tensor:
        return super().forward(hidden) * row_mask.transpose(1, 2)


class OddConfig(BertConfig):
    model_type = "odd"
    eos_token_id: int | list[int] | None = None


class OddEncoder(PreTrainedModel):
    """Tokens of 8 channels, a large front, and blocks of 16 channels.

    Args:
        error: what a forward pass raises.
    """

    config_class = OddConfig

    def __init__(self, error: Exception | None = None, **settings):
        sizes = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 20, "num_hidden_layers": 2}
        config = OddConfig(
            vocab_size=50, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, **sizes | settings
        )
        super().__init__(config)
        self.error = error
        self.words = nn.Embedding(50, 8)
        self.front = nn.ModuleList(Widening() for _ in range(2))
        self.value_embedding = nn.Linear(8, 16)
        self.positions = nn.Embedding(64, 16)
        self.blocks = nn.ModuleList(Gated(config) for _ in range(2))
        self.post_init()

    def forward(self, input_ids: Tensor) -> tuple[Tensor]:
        if self.error is not None:
            raise self.error
        hidden = self.words(input_ids)
        for module in self.front:
            hidden = module(hidden)
        hidden = self.value_embedding(hidden) + self.positions(torch.arange(input_ids.shape[1]))
        row_mask = 1 + torch.arange(input_ids.shape[1]).expand(len(input_ids), 1, -1) / 10
        for block in self.blocks:
            hidden = block(hidden, row_mask=row_mask)
        return (hidden,)


def model_of(encoder: PreTrainedModel) -> Data2VecGenericForPreTraining:
    return Data2VecGenericForPreTraining(Data2VecGenericConfig(average_top_k_layers=1), encoder=encoder)


# --- what is in front of the blocks


def test_blocks__are_as_wide_as_the_encoder_even_if_what_is_in_front_is_larger():
    assert find_layout(OddEncoder()).blocks == ("blocks.0", "blocks.1")


def test_rows_mask__is_gathered_along_with_the_sequence():
    encoder = OddEncoder()
    layout = find_layout(encoder)
    assert visible_only_fault(encoder, layout, measure(encoder, layout, TOKENS), TOKENS) is None


@pytest.mark.parametrize(
    ("model_type", "content"),
    [
        ("pe_audio_encoder", "embedder.data_proj"),
        pytest.param("nemotron_asr_streaming_encoder", "subsampling", marks=SINCE_NEMOTRON_STREAMS),
    ],
)
def test_codec__is_not_taken_for_the_encoder(model_type, content):
    with torch.device("meta"):  # the small encoder still has a codec of its full size
        layout = find_layout(AutoModel.from_config(small_config(model_type)))
    assert layout.blocks == ("layers.0", "layers.1", "layers.2")
    assert layout.content == content


@pytest.mark.parametrize("student_input", ["mask_token", "visible"])
def test_codec__in_front_leaves_its_prefix_known(student_input):
    """Its code reads cuDNN's older setting of TF32, which raises an error in torch if the newer ones contradict it."""
    codec = {"model_type": "dac", "encoder_hidden_size": 4, "downsampling_ratios": [2, 2], "hidden_size": 16}
    heads = {"head_dim": 8, "num_key_value_heads": 2}
    config = CONFIG_MAPPING["pe_audio_encoder"](**SMALL | heads, dac_config=codec | {"codebook_dim": 4})
    decoder = {"predictor": "conv", "decoder_dim": 8, "decoder_layers": 1, "decoder_groups": 1}
    objective = Data2VecGenericConfig(average_top_k_layers=1, student_input=student_input, **decoder)
    model = Data2VecGenericForPreTraining(objective, encoder=AutoModel.from_config(config))
    mask = torch.tensor([[True, False] * 3] * 2)
    model(mask=mask, input_values=torch.randn(2, 1, 6 * model.encoder.config.dac_config.hop_length)).loss.backward()
    assert (model.measurements.length, model.measurements.prefix) == (6, 1)
    assert all(weight.grad is not None for weight in model.parameters() if weight.requires_grad)


def test_several_end_tokens__are_left_out_of_the_text_that_is_made_up():
    model = model_of(OddEncoder(eos_token_id=[7, 8]))
    assert model.measurements is not None


# --- foreign errors


@pytest.mark.parametrize("error", [IndexError, KeyError, RuntimeError, TypeError, AttributeError, ValueError])
def test_first_batch__that_the_encoder_does_not_run_on_ends_in_one_error(error):
    model = model_of(OddEncoder(error("something of its own")))
    mask = torch.tensor([[True, False] * 3] * 2)
    with pytest.raises(UnsupportedBackboneError) as refused:
        model(mask=mask, **TOKENS)
    message = str(refused.value)
    assert "OddEncoder (model type 'odd')" in message
    assert f"{error.__name__}: " in message
    assert "something of its own" in message
    assert "input_ids (1, 6)" in message
    assert "choose another type" in message
    assert isinstance(refused.value.__cause__, error)


def test_first_batch__names_what_the_encoder_wants_besides():
    model = model_of(small_encoder("video_llama_3_vision"))
    with pytest.raises(UnsupportedBackboneError, match=r"VideoLlama3VisionModel.*'grid_thw' and 'merge_sizes'"):
        model(mask=torch.ones(2, 9, dtype=torch.bool), pixel_values=torch.randn(2, 3, 12, 12))


def test_memory__that_runs_out_says_nothing_about_the_encoder():
    with pytest.raises(torch.OutOfMemoryError), explained(OddEncoder(), TOKENS):
        raise torch.OutOfMemoryError("no memory")


@SINCE_NEMOTRON_STREAMS
def test_type__that_does_not_read_made_up_text_is_told_apart_by_the_capabilities():
    assert "IndexError" not in capability_of("nemotron_asr_streaming_encoder").reason


# --- models that are made of several


TEXT = SMALL | {"vocab_size": 50}
IMAGES = SMALL | {"image_size": 8, "patch_size": 4}


@pytest.mark.parametrize(
    ("config", "parts", "kept"),
    [
        (
            CLIPConfig(text_config=TEXT, vision_config=IMAGES),
            "clip_text_model (its text_model), clip_vision_model (its vision_model)",
            "text_model",
        ),
        (
            Siglip2Config(text_config=TEXT, vision_config=SMALL | {"patch_size": 4, "num_patches": 4}),
            "siglip2_vision_model (its vision_model)",
            "vision_model",
        ),
    ],
    ids=["clip", "siglip2"],
)
def test_dual_model__names_its_parts_that_can_be_used(config, parts, kept):
    encoder = AutoModel.from_config(config)
    with pytest.raises(UnsupportedBackboneError) as refused:
        model_of(encoder)
    message = str(refused.value)
    assert f"{type(encoder).__name__} (model type '{config.model_type}') is made of several models" in message
    assert f"Choose one of its parts: {parts}." in message
    assert f"AutoModel.from_pretrained(CHECKPOINT).{kept}.save_pretrained(FOLDER)" in message
    find_layout(encoder.get_submodule(kept))


def test_dual_model__whose_parts_are_not_known_to_auto_model_says_how_to_use_them():
    audio = {"hidden_size": 16, "patch_embeds_hidden_size": 8, "depths": [1, 1], "num_attention_heads": [1, 2]}
    config = ClapConfig(text_config=TEXT, audio_config=audio | {"num_hidden_layers": 2})
    with pytest.raises(UnsupportedBackboneError) as refused:
        model_of(AutoModel.from_config(config))
    assert "Choose one of its parts text_model" in str(refused.value)
    assert "AutoModel.register(ClapTextConfig, ClapTextModel)" in str(refused.value)
    assert "encoder=model.text_model" in str(refused.value)


def test_encoder__that_is_no_model_by_itself_is_refused():
    sizes = {"d_model": 8, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 8, "decoder_ffn_dim": 8}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    config: PreTrainedConfig = FSMTConfig(src_vocab_size=20, tgt_vocab_size=20, **sizes, **heads)
    with pytest.raises(UnsupportedBackboneError, match=r"FSMTModel \(model type 'fsmt'\).*FSMTEncoder"):
        encoder_of(AutoModel.from_config(config))


# --- patches that are not square


@pytest.mark.parametrize(("predictor", "student_input"), [("linear", "mask_token"), ("conv", "visible")])
def test_patches__that_are_not_square_are_trained(predictor, student_input):
    config = ViTConfig(**SMALL | {"image_size": 16, "patch_size": (4, 8)})
    settings = {"decoder_dim": 8, "decoder_layers": 1, "decoder_groups": 1} if predictor == "conv" else {}
    objective = Data2VecGenericConfig(
        average_top_k_layers=1, predictor=predictor, student_input=student_input, **settings
    )
    model = Data2VecGenericForPreTraining(objective, encoder=AutoModel.from_config(config))
    grids = []
    if predictor == "conv":
        model.predictor.register_forward_pre_hook(lambda module, args: grids.append(args[1]))
    mask = torch.tensor([[True, False] * 4] * 2)
    assert torch.isfinite(model(mask=mask, pixel_values=torch.randn(2, 3, 16, 16)).loss)
    assert grids == [(4, 2)] * len(grids)


def test_grid__that_is_not_needed_is_not_asked_for():
    """Its configuration does not say that patches are long, and of square ones eight don't tile the image."""
    encoder = AutoModel.from_config(ViTConfig(**SMALL | {"image_size": 16, "patch_size": (16, 2)}))
    encoder.config.patch_size = 8
    model = model_of(encoder)
    mask = torch.tensor([[True, False] * 4] * 2)
    assert torch.isfinite(model(mask=mask, pixel_values=torch.randn(2, 3, 16, 16)).loss)
