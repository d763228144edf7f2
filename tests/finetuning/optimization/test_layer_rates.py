"""Learning rates by layer: the depth of each parameter, and the formula, for encoders of several kinds."""

import pytest
import torch
from torch import nn
from transformers import AutoModel, FunnelConfig, FunnelModel

from modeling_data2vec_generic.finetuning.optimization.layer_rates import grouped_by_rate, layer_depths, layer_rates
from modeling_data2vec_generic.layout_data2vec_generic import UnsupportedBackboneError

from ...tiny import tiny_encoder
from ...tiny_encoders import TINY

pytestmark = pytest.mark.fast

INPUTS = {
    "vit": {"pixel_values": torch.zeros(1, 3, 16, 16)},
    "beit": {"pixel_values": torch.zeros(1, 3, 16, 16)},
    "roberta": {"input_ids": torch.arange(5, 15).view(1, 10)},
    "wav2vec2": {"input_values": torch.zeros(1, 4000)},
}
# Prefixes of names, the longest that fits counts, and the depth of what they name.
EXPECTED = {
    "vit": {"embeddings.": 0, "layers.0.": 1, "layers.1.": 2, "layernorm.": 3, "pooler.": 3},
    "beit": {"embeddings.": 0, "layers.0.": 1, "layers.1.": 2, "layernorm.": 3, "pooler.": 3},
    "roberta": {"embeddings.": 0, "encoder.layer.0.": 1, "encoder.layer.1.": 2, "pooler.": 3},
    "wav2vec2": {
        "masked_spec_embed": 0,
        "feature_extractor.": 0,
        "feature_projection.": 0,
        "encoder.pos_conv_embed.": 0,
        "encoder.layer_norm.": 0,
        "encoder.layers.0.": 1,
        "encoder.layers.1.": 2,
    },
}


@pytest.mark.parametrize("model_type", EXPECTED)
def test_depths__of_encoders_of_every_make(model_type):
    encoder = tiny_encoder(model_type)
    depths, blocks = layer_depths(encoder, INPUTS[model_type])
    expected = {
        name: depth
        for name, _ in encoder.named_parameters()
        for prefix, depth in EXPECTED[model_type].items()
        if name.startswith(prefix)
    }
    assert blocks == 2
    assert depths == expected


def test_depths__a_norm_that_runs_after_the_blocks_is_above_them_wherever_it_is_registered():
    encoder = tiny_encoder("wav2vec2", do_stable_layer_norm=True, feat_extract_norm="layer")
    depths, _ = layer_depths(encoder, INPUTS["wav2vec2"])
    assert depths["encoder.layer_norm.weight"] == 3


@pytest.mark.parametrize(
    ("model_type", "expected"),
    [
        ("deberta-v2", {"encoder.rel_embeddings.weight": 0}),  # the encoder around it reads its weight
        # Blocks in four lists, the last of which is the largest.
        ("xlm", {"attentions.0.q_lin.weight": 0, "attentions.1.q_lin.weight": 2, "attentions.2.q_lin.weight": 3}),
    ],
)
def test_depths__of_what_lies_outside_the_blocks(model_type, expected):
    encoder = AutoModel.from_config(TINY[model_type].config())
    depths, blocks = layer_depths(encoder, TINY[model_type].inputs())
    assert blocks == 3
    assert expected.items() <= depths.items()


def test_depths__of_blocks_that_are_not_run_as_such():
    config = FunnelConfig(d_model=16, n_head=2, d_head=8, d_inner=32, block_sizes=[1, 1], num_decoder_layers=1)
    with pytest.raises(UnsupportedBackboneError, match=r"did not call encoder\.blocks\.0"):
        layer_depths(FunnelModel(config), {"input_ids": torch.arange(8).view(1, 8)})


def test_rates__the_head_has_the_full_rate_and_each_layer_below_less():
    rates = layer_rates({"patch": 0, "block0": 1, "block11": 12, "norm": 13}, 12, 0.65)
    expected = 1.0
    assert rates["norm"] == pytest.approx(expected)
    assert rates["block11"] == pytest.approx(0.65)
    for _ in range(12):
        expected *= 0.65
    assert rates["block0"] == pytest.approx(expected)
    assert rates["patch"] == pytest.approx(expected * 0.65)


def test_optimizer__moves_each_layer_by_its_rate_and_decays_no_bias():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 1))
    optimizer = torch.optim.SGD(
        [
            {"params": [parameter for parameter in model.parameters() if parameter.ndim > 1], "weight_decay": 0.1},
            {"params": [parameter for parameter in model.parameters() if parameter.ndim == 1], "weight_decay": 0.0},
        ],
        lr=0.5,
    )
    rates = {"0.weight": 0.25, "0.bias": 0.25, "1.weight": 0.5, "1.bias": 0.5}
    grouped_by_rate(optimizer, model, rates)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    for name, parameter in model.named_parameters():
        decay = 0.1 * before[name] if name.endswith("weight") else 0.0
        torch.testing.assert_close(parameter.detach(), before[name] - 0.5 * rates.get(name, 1.0) * (1 + decay))
    assert optimizer.param_groups[0]["lr"] == 0.5
