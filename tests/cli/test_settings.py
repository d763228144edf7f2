"""Settings that are given in Python: keyword arguments over a recipe's name, path or content."""

import json
from pathlib import Path

import pytest
from transformers.trainer_utils import SchedulerType

from modeling_data2vec_generic import cli
from modeling_data2vec_generic.cli.recipes import examples_folder
from modeling_data2vec_generic.runs.arguments import PRETRAINING

pytestmark = pytest.mark.fast

NEW = {"model_type": "vit", "use_cpu": True}


def values(recipe=None, **settings):
    parsed = cli.parse(cli.flags_of_settings(recipe, settings, "pretrain").all, PRETRAINING)
    return {name: value for group in parsed for name, value in vars(group).items()}


def test_settings__of_all_types(tmp_path):
    found = values(
        output_dir=tmp_path / "out",
        learning_rate=1e-4,
        horizontal_flip=False,
        target_layer_norms=("batch", "layer"),
        target_final_norms=[],
        train_file=["a b.csv", Path("c.csv")],
        lr_scheduler_type=SchedulerType.COSINE_WITH_MIN_LR,
        lr_scheduler_kwargs={"min_lr": 1e-6},
        max_train_samples=None,
        run_name="-two words",
        loss_scale=-1,
        label_smoothing_factor=0.0,
        **NEW,
    )
    assert found["output_dir"] == str(tmp_path / "out")
    assert (found["learning_rate"], found["horizontal_flip"], found["run_name"]) == (1e-4, False, "-two words")
    assert (found["target_layer_norms"], found["target_final_norms"]) == (["batch", "layer"], [])
    assert found["train_file"] == ["a b.csv", "c.csv"]
    assert found["lr_scheduler_type"] == SchedulerType.COSINE_WITH_MIN_LR
    assert found["lr_scheduler_kwargs"] == {"min_lr": 1e-6}
    assert found["max_train_samples"] is None
    assert found["loss_scale"] == -1


def test_recipe__by_name_path_or_content():
    path = examples_folder() / "vision" / "digits.json"
    found = values("digits", use_cpu=True)
    assert found["average_top_k_layers"] == json.loads(path.read_text())["average_top_k_layers"]
    for recipe in (str(path), path, json.loads(path.read_text())):
        assert cli.flags_of_settings(recipe, {}, "pretrain").all == cli.flags_of_settings("digits", {}, "pretrain").all


def test_settings__override_the_recipe_and_none_takes_its_values_back():
    recipe = NEW | {"seed": 3, "max_train_samples": 5, "mask_ratio": 0.4}
    found = values(recipe, seed=4, max_train_samples=None)
    assert (found["seed"], found["max_train_samples"], found["mask_ratio"]) == (4, None, 0.4)
    assert recipe["seed"] == 3


def test_settings__that_name_an_encoder_take_the_place_of_the_recipes():
    recipe = NEW | {"config_overrides": "hidden_size=16"}
    found = values(recipe, model_type=None, model_name_or_path="trained")
    assert (found["model_type"], found["config_overrides"], found["model_name_or_path"]) == (None, None, "trained")
    assert values(recipe, model_name_or_path=None)["model_type"] == recipe["model_type"]


def test_flags__say_what_is_of_the_recipe_and_what_is_given():
    flags = cli.flags_of_settings("digits", {"max_steps": 3}, "pretrain")
    assert flags.recipe == examples_folder() / "vision" / "digits.json"
    assert cli.names_in(flags.given, PRETRAINING) == {"max_steps"}
    recipe = set(json.loads(flags.recipe.read_text()))
    assert cli.names_in(flags.of_recipe, PRETRAINING) == recipe - {"max_steps"}
    words = cli.flags_of_words(["digits", "--max-steps=3", "--no_horizontal_flip"], PRETRAINING, "pretrain")
    assert cli.names_in(words.given, PRETRAINING) == {"max_steps", "horizontal_flip"}
    assert cli.names_in(words.of_recipe, PRETRAINING) == recipe


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_step": 3}, "no flag --max_step: did you mean --max_steps?"),
        ({"max_steps": "many"}, "^--max_steps: invalid int value: 'many'.$"),
        ({"mask_strategy": "stripes"}, "^--mask_strategy: invalid choice: 'stripes'"),
        ({"max_steps": [1, 2]}, "'2' belongs to no flag"),
        ({"mask_ratio": True}, "^--mask_ratio: invalid float value: 'True'.$"),
        ({"report_to": ["nothing", "tensorboard"]}, "report_to='nothing' is unknown"),  # and the other is a value too
    ],
)
def test_settings__that_cannot_be_used(settings, message):
    with pytest.raises(ValueError, match=message):
        values(**NEW | settings)
