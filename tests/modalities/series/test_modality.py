"""The modality of time series: defaults of new encoders, and the grid of patches."""

import pytest
import torch
from datasets import Dataset
from transformers import CONFIG_MAPPING, AutoModel

from modeling_data2vec_generic.data.arguments import DataArguments
from modeling_data2vec_generic.masking.sampler import MaskSampler
from modeling_data2vec_generic.modalities import modality_class
from modeling_data2vec_generic.training.arguments import ModelArguments

from ...tiny import tiny_encoder

pytestmark = pytest.mark.fast

RAW = Dataset.from_dict({"series": [[[0.0] * 3] * 24, [[0.0] * 3] * 30], "sample_index": [0, 1]})
PATCHES = {"context_length": 24, "num_input_channels": 3, "patch_length": 4, "patch_stride": 4, "d_model": 16}
ENCODERS = {
    "patchtst": PATCHES | {"num_hidden_layers": 2, "num_attention_heads": 2, "ffn_dim": 32},
    "patchtsmixer": PATCHES | {"num_layers": 2},
}


def encoder(model_type="patchtst", **changes):
    return AutoModel.from_config(CONFIG_MAPPING[model_type](**ENCODERS[model_type] | changes))


def series(raw=RAW):
    return modality_class("series")(ModelArguments(model_type="patchtst"), DataArguments(), raw)


def fitted(*args, **changes):
    made = series()
    made.fit(encoder(*args, **changes))
    return made


def test_encoder_defaults__come_from_the_data():
    assert series().encoder_defaults() == {"context_length": 24, "num_input_channels": 3}


def test_encoder_defaults__of_bad_data_are_left_to_the_message_about_them():
    assert series(Dataset.from_dict({"series": [[None, 1.0]], "sample_index": [0]})).encoder_defaults() == {}


@pytest.mark.parametrize("model_type", ENCODERS)
def test_fit__takes_a_sequence_of_patches_per_channel(model_type):
    made = fitted(model_type)
    assert (made.grid, made.num_prefix_tokens, made.processor) == ((3, 6), 0, None)
    content = made.content_mask()({"past_values": torch.zeros(2, 24, 3)}, 6)
    assert content.tolist() == [[True] * 6] * 2


def test_fit__a_cls_token_is_no_content():
    made = fitted(num_input_channels=1, use_cls_token=True)
    assert (made.grid, made.num_prefix_tokens) == ((1, 6), 1)
    hidden = encoder(num_input_channels=1, use_cls_token=True)(torch.zeros(2, 24, 1)).last_hidden_state
    assert made.content_mask()({"past_values": torch.zeros(2, 24, 1)}, hidden.shape[-2]).sum(1).tolist() == [6, 6]


def test_check__is_by_the_patches_of_one_channel():
    fitted().check(MaskSampler("span", 0.5, length=5))
    with pytest.raises(ValueError, match="cannot mask 6 positions"):
        fitted().check(MaskSampler("span", 0.5, length=6))


def test_prepared_and_collated__is_what_the_encoder_reads():
    made = fitted()
    mask = MaskSampler("random", 0.5)
    batch = made.collator(mask, 2, 0, "mask_token")([made.prepare(RAW, "train", mask)[row] for row in (0, 1)])
    assert batch["past_values"].shape == (2, 24, 3)
    assert batch["mask"].shape == (2, 2, 18)


def test_fit__encoder_of_something_else():
    with pytest.raises(
        ValueError, match="A vit encoder reads pixel_values, and these data give past_values.*patchtst"
    ):
        series().fit(tiny_encoder("vit"))


def test_fit__encoder_that_wants_more_than_values():
    config = CONFIG_MAPPING["time_series_transformer"](context_length=24, prediction_length=4)
    with pytest.raises(ValueError, match="A time_series_transformer encoder has no num_input_channels"):
        series().fit(AutoModel.from_config(config))


def test_fit__says_if_nothing_scales_the_values(transformers_log):
    fitted()
    assert "scale" not in transformers_log.text
    fitted(scaling=None)
    assert "does not scale what it reads (scaling=None)" in transformers_log.text
