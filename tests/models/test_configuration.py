"""The configuration: its fields, its errors, and that it is saved and loaded without a change."""

import json

import pytest
from transformers import AutoConfig, ViTConfig

from modeling_data2vec_generic import Data2VecGenericConfig, Data2VecGenericForPreTraining, Data2VecGenericModel

from ..tiny import tiny_encoder

pytestmark = pytest.mark.fast


def test_config__survives_saving_and_auto_config(tmp_path):
    config = Data2VecGenericConfig(
        encoder_config=ViTConfig(hidden_size=48, num_hidden_layers=3),
        teacher_embeddings="copy",
        num_masks=4,
        average_top_k_layers=2,
        target_source="block",
        target_layer_norms=[],
        target_final_norms=("layer", "instance"),
        predictor="conv",
        student_input="visible",
        decoder_dim=32,
        loss_beta=0.5,
        loss_scale=0.25,
        cls_loss_weight=0.01,
    )
    config.save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert type(loaded) is Data2VecGenericConfig
    assert type(loaded.encoder_config) is ViTConfig
    own = {name: value for name, value in config.to_dict().items() if name not in ("encoder_config", "_name_or_path")}
    assert {name: loaded.to_dict()[name] for name in own} == own
    assert (loaded.encoder_config.hidden_size, loaded.encoder_config.num_hidden_layers) == (48, 3)
    assert loaded.target_final_norms == ["layer", "instance"]


def test_config__takes_the_encoder_as_a_dict():
    config = Data2VecGenericConfig(encoder_config={"model_type": "vit", "hidden_size": 48})
    assert type(config.encoder_config) is ViTConfig
    assert config.encoder_config.hidden_size == 48


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_config__leaves_the_attention_of_the_encoder_as_it_is(attention):
    encoder = tiny_encoder("vit")
    encoder.set_attn_implementation(attention)
    Data2VecGenericConfig(encoder_config=encoder.config)
    assert encoder.config._attn_implementation == attention


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"teacher_embeddings": "move"}, "teacher_embeddings='move' is not one of 'ema', 'copy'"),
        ({"student_input": "all"}, "student_input='all' is not one of 'mask_token', 'visible'"),
        ({"target_source": "mlp"}, "target_source='mlp' is not one of 'ffn', 'block'"),
        ({"predictor": "tree"}, "predictor='tree' is not one of 'linear', 'mlp', 'conv'"),
        ({"target_layer_norms": ["group"]}, r"target_layer_norms holds \['group'\]; choose from"),
        ({"target_final_norms": ["layer", "x"]}, r"target_final_norms holds \['x'\]"),
        ({"num_masks": 0}, "num_masks=0 must be at least 1"),
        ({"decoder_groups": 0}, "decoder_groups=0 must be at least 1"),
        ({"decoder_projection_layers": 0}, "decoder_projection_layers=0 must be at least 1"),
        ({"average_top_k_layers": 0}, "average_top_k_layers=0 must be at least 1; leave it out"),
        ({"mask_noise_std": -0.1}, "mask_noise_std=-0.1 must not be negative"),
        ({"loss_beta": -1.0}, "loss_beta=-1.0 must not be negative"),
        ({"loss_scale": 0.0}, "loss_scale=0.0 must be above 0"),
        ({"student_input": "visible"}, "student_input='visible' with predictor='linear'.*Set predictor='conv'"),
    ],
)
def test_config__refuses_what_makes_no_sense(fields, message):
    with pytest.raises(ValueError, match=message):
        Data2VecGenericConfig(**fields)


def test_config__of_a_cls_loss_that_was_a_sum_over_rows_is_told_apart(tmp_path):
    config = Data2VecGenericConfig(encoder_config=tiny_encoder("vit").config, cls_loss_weight=0.01)
    config.save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    saved = json.loads(file.read_text())
    assert saved.pop("cls_loss_reduction") == "mean"
    file.write_text(json.dumps(saved))
    old = AutoConfig.from_pretrained(tmp_path)
    assert old.cls_loss_reduction == "sum"
    with pytest.raises(ValueError, match=r"cls_loss_weight=0.01 was saved when it was the weight of a sum over rows"):
        Data2VecGenericForPreTraining(old)
    Data2VecGenericModel(old)
    old.save_pretrained(tmp_path)
    assert AutoConfig.from_pretrained(tmp_path).cls_loss_reduction == "sum"

    file.write_text(json.dumps(saved))
    chosen = AutoConfig.from_pretrained(tmp_path, cls_loss_weight=2.56)
    assert (chosen.cls_loss_weight, chosen.cls_loss_reduction) == (2.56, "mean")
    Data2VecGenericForPreTraining(chosen)
    file.write_text(json.dumps(saved | {"cls_loss_weight": 0.0}))
    assert AutoConfig.from_pretrained(tmp_path).cls_loss_reduction == "mean"
