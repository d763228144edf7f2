"""The settings of `--objective`, which the user's own flags override."""

import pytest
from transformers import BertConfig, PatchTSTConfig, VideoMAEConfig, ViTConfig, Wav2Vec2Config

from modeling_data2vec_generic.data.kinds_of_data import KINDS
from modeling_data2vec_generic.masking.sampler import MaskArguments, MaskSampler
from modeling_data2vec_generic.modalities.presets import OBJECTIVES, mask_settings, objective_config, preset_of
from modeling_data2vec_generic.training.arguments import ObjectiveArguments

pytestmark = pytest.mark.fast

BASE = {"text": BertConfig(), "vision": ViTConfig(), "speech": Wav2Vec2Config()}  # 12 blocks of 768
# The papers' base models, field by field.
DATA2VEC = {
    "text": {
        "average_top_k_layers": 10,
        "target_source": "ffn",
        "target_layer_norms": ["layer"],
        "target_final_norms": [],
        "predictor": "mlp",
        "loss_beta": 4.0,
        "loss_scale": 1.0,
    },
    "vision": {
        "average_top_k_layers": 6,
        "target_source": "block",
        "target_layer_norms": [],
        "target_final_norms": ["layer"],
        "predictor": "linear",
        "loss_beta": 2.0,
        "loss_scale": None,
    },
    "speech": {
        "average_top_k_layers": 8,
        "target_source": "ffn",
        "target_layer_norms": ["instance"],
        "target_final_norms": [],
        "predictor": "linear",
        "loss_beta": 0.0,
        "loss_scale": None,
    },
}
DATA2VEC2 = {
    "text": {
        "average_top_k_layers": 12,
        "num_masks": 8,
        "decoder_dim": 768,
        "decoder_layers": 5,
        "decoder_kernel_size": 9,
    },
    "vision": {
        "average_top_k_layers": 12,
        "num_masks": 16,
        "decoder_dim": 768,
        "decoder_layers": 6,
        "cls_loss_weight": 2.56,
    },
    "speech": {
        "average_top_k_layers": 8,
        "num_masks": 8,
        "decoder_dim": 384,
        "decoder_layers": 4,
        "decoder_kernel_size": 7,
    },
}
MASKS = {
    ("data2vec", "text"): {"mask_strategy": "random", "mask_ratio": 0.15},
    ("data2vec", "vision"): {"mask_strategy": "block", "mask_ratio": 120 / 196},
    ("data2vec", "speech"): {"mask_strategy": "span", "mask_ratio": 0.65, "mask_length": 10},
    ("data2vec2", "text"): {"mask_strategy": "random", "mask_ratio": 0.48},
    ("data2vec2", "vision"): {
        "mask_strategy": "inverse_block",
        "mask_ratio": 0.8,
        "mask_length": 3,
        "mask_adjust": 0.07,
    },
    ("data2vec2", "speech"): {"mask_strategy": "block", "mask_ratio": 0.5, "mask_length": 5, "mask_adjust": 0.05},
    ("data2vec", "series"): {"mask_strategy": "random", "mask_ratio": 0.4},
    ("data2vec2", "series"): {"mask_strategy": "random", "mask_ratio": 0.4},
}
for objective in ("data2vec", "data2vec2"):
    MASKS[objective, "video"] = MASKS[objective, "vision"]
SERIES = {
    "teacher_embeddings": "copy",
    "student_input": "mask_token",
    "target_source": "block",
    "target_layer_norms": ["instance"],
    "average_top_k_layers": 8,
}
CHOICES = [(objective, modality) for objective in OBJECTIVES for modality in KINDS]


@pytest.mark.parametrize("modality", DATA2VEC)
def test_data2vec__is_that_of_the_paper(modality):
    config = objective_config(ObjectiveArguments(), BASE[modality], modality)
    expected = DATA2VEC[modality] | {"teacher_embeddings": "copy", "student_input": "mask_token", "num_masks": 1}
    assert {name: getattr(config, name) for name in expected} == expected


@pytest.mark.parametrize("modality", DATA2VEC2)
def test_data2vec2__is_that_of_the_paper(modality):
    config = objective_config(ObjectiveArguments(objective="data2vec2"), BASE[modality], modality)
    expected = DATA2VEC2[modality] | {"predictor": "conv", "student_input": "visible", "loss_beta": 0.0}
    assert {name: getattr(config, name) for name in expected} == expected


@pytest.mark.parametrize(("objective", "modality"), CHOICES)
def test_masks__are_those_of_the_paper(objective, modality):
    settings = mask_settings(MaskArguments(), objective, modality)
    assert settings == MASKS[objective, modality] | {"mask_exact": False}
    MaskSampler(**{name.removeprefix("mask_"): value for name, value in settings.items()})


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_series__are_trained_as_patchtst_can_be(objective):
    encoder_config = PatchTSTConfig(num_hidden_layers=12, d_model=64)
    config = objective_config(ObjectiveArguments(objective=objective), encoder_config, "series")
    expected = SERIES | ({"predictor": "linear"} if objective == "data2vec" else {"predictor": "conv", "num_masks": 8})
    assert {name: getattr(config, name) for name in expected} == expected


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_video__is_trained_as_images_but_for_the_loss_of_a_cls_token(objective):
    arguments = ObjectiveArguments(objective=objective)
    images, clips = (objective_config(arguments, VideoMAEConfig(), kind).to_dict() for kind in ("vision", "video"))
    assert clips == images | {"cls_loss_weight": 0.0}


@pytest.mark.parametrize(("depth", "expected"), [(1, 1), (2, 1), (4, 2), (24, 12)])
def test_top_k__is_a_share_of_the_depth(depth, expected):
    config = objective_config(ObjectiveArguments(), ViTConfig(num_hidden_layers=depth), "vision")
    assert config.average_top_k_layers == expected


def test_flags__win_over_the_objective():
    arguments = ObjectiveArguments(
        average_top_k_layers=3, target_final_norms=["none"], loss_beta=0.0, predictor="mlp", target_source="ffn"
    )
    config = objective_config(arguments, BASE["vision"], "vision")
    assert (config.average_top_k_layers, config.loss_beta, config.predictor) == (3, 0.0, "mlp")
    assert config.target_final_norms == []
    assert config.target_source == "ffn"
    assert config.teacher_embeddings == "copy"  # not set by the user, so it is that of the objective


def test_flags__of_masks_win_over_the_objective():
    settings = mask_settings(MaskArguments(mask_ratio=0.5, mask_length=4), "data2vec", "speech")
    assert (settings["mask_strategy"], settings["mask_ratio"], settings["mask_length"]) == ("span", 0.5, 4)


def test_flags__another_strategy_leaves_the_objectives_length_out():
    settings = mask_settings(MaskArguments(mask_strategy="random"), "data2vec2", "vision")
    assert settings == {"mask_strategy": "random", "mask_ratio": 0.8, "mask_exact": False}
    same = mask_settings(MaskArguments(mask_strategy="inverse_block"), "data2vec2", "vision")
    assert same["mask_length"] == 3


def test_objective__that_is_unknown():
    with pytest.raises(ValueError, match="objective='data3vec' is not one of 'data2vec', 'data2vec2'"):
        preset_of("data3vec", "text")
