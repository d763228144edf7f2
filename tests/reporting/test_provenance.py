import dataclasses
import json

import pytest

from modeling_data2vec_generic import cli
from modeling_data2vec_generic.reporting.provenance import (
    DEFAULT,
    FLAG,
    Setting,
    chosen,
    plain,
    settings_of,
    settings_that_matter,
    shown,
)
from modeling_data2vec_generic.runs.pretraining import ARGUMENTS

pytestmark = pytest.mark.fast


@pytest.fixture
def found(tmp_path):
    """Settings of a run with a recipe, a preset and flags, by name."""
    recipe = {
        "output_dir": str(tmp_path),
        "model_type": "vit",
        "horizontal_flip": False,
        "learning_rate": 0.01,
        "seed": 42,
        "target_final_norms": ["layer"],
    }
    flags = {"learning_rate": 0.5, "num_masks": 3, "lr_scheduler_type": "cosine", "use_cpu": True}
    parsed = cli.parse(cli.as_flags(recipe | flags), ARGUMENTS)
    settings = settings_of(
        dict.fromkeys(recipe, "recipe x.json") | dict.fromkeys(flags, FLAG),
        ARGUMENTS,
        parsed,
        presets={DEFAULT: ["num_masks", "predictor"], "objective x": ["num_masks", "predictor", "mask_ratio"]},
        resolved={"mask_ratio": 0.7, "predictor": "conv", "modality": "vision"},
        scaled=["warmup_steps"],
    )
    return {setting.name: setting for setting in settings}


@pytest.mark.parametrize(
    ("name", "value", "source"),
    [
        ("learning_rate", 0.5, "flag"),  # also in the recipe
        ("num_masks", 3, "flag"),  # also in the preset
        ("lr_scheduler_type", "cosine", "flag"),
        ("horizontal_flip", False, "recipe x.json"),
        ("seed", 42, "recipe x.json"),  # given, though it is the default
        ("target_final_norms", ["layer"], "recipe x.json"),
        ("predictor", "conv", "objective x"),
        ("mask_ratio", 0.7, "objective x"),
        ("modality", "vision", "set by the run"),
        ("dataloader_pin_memory", False, "set by the run"),  # on a CPU
        ("max_bad_fraction", 0.1, "default"),
        ("remove_unused_columns", False, "default"),  # another one than transformers'
        ("adam_beta2", 0.999, "default of transformers"),
        ("warmup_steps", 0, "default of transformers, scaled to the batch"),
        ("max_train_samples", None, "default"),
    ],
)
def test_settings_of__name_their_sources(name, value, source, found):
    assert found[name].value == value
    assert found[name].source == source


def test_settings_of__holds_each_flag_once_and_in_its_group(found):
    names = [field.name for group in ARGUMENTS for field in dataclasses.fields(group)]
    assert list(found) == names
    groups = {found[name].group for name in ("model_type", "streaming", "mask_length", "predictor", "seed")}
    assert groups == {"model", "data", "mask", "objective", "training"}


def test_settings_of__chosen_are_those_that_are_no_defaults(found):
    assert {name for name, setting in found.items() if setting.is_chosen} == {
        *("output_dir", "model_type", "horizontal_flip", "learning_rate", "seed", "target_final_norms"),
        *("num_masks", "lr_scheduler_type", "use_cpu", "predictor", "mask_ratio", "warmup_steps"),
    }


def test_chosen__leaves_out_presets_without_effect_but_nothing_that_was_given():
    def setting(name, value, source):
        return Setting(name, value, source, "objective")

    settings = [
        setting("predictor", "linear", FLAG),
        setting("decoder_dim", 96, "objective data2vec"),
        setting("decoder_layers", 2, "recipe x.json"),
        setting("seed", 42, DEFAULT),
    ]
    assert [setting.name for setting in chosen(settings)] == ["predictor", "decoder_layers"]
    assert "decoder_dim" in [setting.name for setting in chosen([setting("predictor", "conv", FLAG), *settings[1:]])]


def test_plain__is_what_a_recipe_may_hold(found):
    json.dumps({name: setting.value for name, setting in found.items()})
    assert plain(("a", "b")) == ["a", "b"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1e-4, "0.0001"),
        (1 / 3, "0.333333"),
        (True, "yes"),
        (None, "none"),
        ([], "none"),
        (["a", 2.0], "a, 2"),
        (3, "3"),
        ("a=1,b=2", "a=1, b=2"),
    ],
)
def test_shown__is_short(value, text):
    assert shown(value) == text


def test_settings_of__never_hold_a_token(tmp_path):
    flags = {"output_dir": str(tmp_path), "model_type": "vit", "hub_token": "hf_secret", "use_cpu": True}
    settings = settings_of(dict.fromkeys(flags, FLAG), ARGUMENTS, cli.parse(cli.as_flags(flags), ARGUMENTS), {}, {})
    assert "hf_secret" not in str(settings)
    assert "hub_token" not in [setting.name for setting in settings_that_matter(settings)]


@pytest.mark.parametrize(
    ("given", "with_effect", "without"),
    [
        ({"modality": "vision"}, {"crop_scale_min", "learning_rate"}, {"line_by_line", "output_dir", "model_type"}),
        ({"modality": "text", "packing": True}, {"packing", "num_train_epochs"}, {"crop_scale_min", "max_steps"}),
        ({"modality": "speech", "max_steps": 5}, {"max_duration_in_seconds", "max_steps"}, {"num_train_epochs"}),
        ({"modality": "text"}, {"ema_decay"}, {"streaming", "shuffle_buffer_size", "decoder_layers", "bf16"}),
        ({"modality": "text", "streaming": True}, {"streaming", "shuffle_buffer_size"}, {"label_smoothing_factor"}),
        ({"modality": "text", "predictor": "conv", "decoder_layers": 2}, {"predictor", "decoder_layers"}, set()),
        ({"modality": "text", "mask_strategy": "random", "mask_length": 3}, {"mask_strategy"}, {"mask_length"}),
        ({"modality": "vision", "horizontal_flip": False}, {"horizontal_flip"}, {"logging_steps", "hub_strategy"}),
    ],
)
def test_settings_that_matter__are_those_with_an_effect_on_the_result(given, with_effect, without, tmp_path):
    flags = given | {"output_dir": str(tmp_path), "use_cpu": True, "config_name": "x"}
    parsed = cli.parse(cli.as_flags(flags), ARGUMENTS)
    settings = settings_of(dict.fromkeys(given, FLAG), ARGUMENTS, parsed, {}, {})
    names = {setting.name for setting in settings_that_matter(settings)}
    assert with_effect <= names
    assert not without & names
