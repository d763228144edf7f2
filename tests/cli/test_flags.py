"""Flags on the command line and in recipes: how they are read, and messages about unknown flags."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version

from modeling_data2vec_generic import cli
from modeling_data2vec_generic.cli.parsing import _RENAMED
from modeling_data2vec_generic.runs import finetuning, pretraining
from modeling_data2vec_generic.versions import TRANSFORMERS

pytestmark = pytest.mark.fast

BEFORE_WARMUP_RATIO_WENT = pytest.mark.skipif(
    TRANSFORMERS < Version("5.15"), reason="transformers still has --warmup_ratio and --logging_dir"
)
NEW = ["--model_type", "vit", "--use_cpu"]


def parsed(*argv: str) -> dict[str, Any]:
    """All values by their names, as run_pretraining.py reads them."""
    groups = pretraining.parse([*argv])
    return {field.name: getattr(group, field.name) for group in groups for field in fields(group) if field.init}


def recipe(folder: Path, name: str = "recipe.json", content: bytes | None = None, **settings: Any) -> str:
    path = folder / name
    path.write_bytes(
        json.dumps({"model_type": "vit", "use_cpu": True} | settings).encode() if content is None else content
    )
    return str(path)


def test_null__is_the_default(tmp_path):
    path = recipe(tmp_path, validation_dir=None, max_train_samples=None, horizontal_flip=None, ema_decay=None)
    assert parsed(path) == parsed(recipe(tmp_path, "short.json"))


def test_null__does_not_stand_in_lists(tmp_path):
    with pytest.raises(ValueError, match="null within the list of target_layer_norms"):
        parsed(recipe(tmp_path, target_layer_norms=["batch", None]))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize(
    ("name", "text"),
    [("r.json", '{{"model_type": "vit", "run_name": "é"}}'), ("r.yaml", "model_type: vit\nrun_name: é")],
)
def test_encoding__is_told_from_the_file(name, text, encoding, tmp_path):
    path = recipe(tmp_path, name, text.replace("{{", "{").replace("}}", "}").encode(encoding))
    assert parsed(path)["run_name"] == "é"


YAML = b"""
# a comment
model_type: vit
use_cpu: true
save_strategy: no
learning_rate: 1e-4
max_train_samples: null
validation_dir: ~
target_layer_norms: [batch, layer]
target_final_norms:
  - instance
lr_scheduler_type: cosine_with_min_lr
lr_scheduler_kwargs: {min_lr: 1e-6}
horizontal_flip: false
"""


@pytest.mark.parametrize("name", ["recipe.yaml", "recipe.yml", "RECIPE.YAML"])
def test_yaml__gives_what_json_gives(name, tmp_path):
    values = parsed(recipe(tmp_path, name, YAML), "--learning_rate", "3")
    assert values == parsed(
        recipe(
            tmp_path,
            save_strategy="no",
            learning_rate=3,
            target_layer_norms=["batch", "layer"],
            target_final_norms=["instance"],
            lr_scheduler_type="cosine_with_min_lr",
            lr_scheduler_kwargs={"min_lr": 1e-6},
            horizontal_flip=False,
        )
    )
    assert values["lr_scheduler_kwargs"] == {"min_lr": 1e-6}


@pytest.mark.parametrize(
    "content", [b"a: b: c", b"\xff\x00", b"[" * 2000, b"- a", b"", b"!!python/object/apply:os.getcwd []"]
)
def test_yaml__that_is_damaged_is_named(content, tmp_path):
    with pytest.raises(ValueError, match=r"The recipe .*r\.yaml (is not valid YAML|holds a (list|NoneType) where)"):
        parsed(recipe(tmp_path, "r.yaml", content))


@pytest.mark.parametrize(
    "before",
    [
        ["--max_steps", "7"],
        ["--max_steps=7"],
        ["--max_steps", "7", "--overwrite_output_dir"],
        ["--max_steps", "7", "--overwrite-output-dir", "--no_horizontal_flip"],
        ["--max_steps", "7", "--target_layer_norms", "batch", "layer"],
    ],
)
def test_recipe__may_stand_anywhere(before, tmp_path):
    path = recipe(tmp_path, max_steps=3, num_masks=5)
    values = parsed(*before, path)
    assert (values["max_steps"], values["num_masks"]) == (7, 5)
    assert values == parsed(path, *before)


def test_recipe__is_not_what_a_flag_has_for_its_value(tmp_path):
    values = parsed("--train_file", "rows.json", *NEW, "--validation_file", "rows.yaml")
    assert (values["train_file"], values["validation_file"]) == (["rows.json"], ["rows.yaml"])


def test_recipe__is_the_only_one(tmp_path):
    with pytest.raises(ValueError, match=r"a\.json and .*b\.yaml are several recipes"):
        parsed(recipe(tmp_path, "a.json"), recipe(tmp_path, "b.yaml", YAML))


@pytest.mark.parametrize(
    ("given", "left_out"),
    [
        (["--model_name_or_path", "trained"], {"model_type", "config_overrides", "train_tokenizer"}),
        (["--config_name", "elsewhere"], {"model_type"}),
        (["--model-type=deit"], set()),
        (["--seed", "1"], set()),
    ],
)
def test_recipe__leaves_the_encoder_to_flags_that_name_one(given, left_out, tmp_path):
    path = recipe(tmp_path, config_overrides="hidden_size=16", train_tokenizer=True, mask_ratio=0.4)
    flags = cli.flags_of_words([path, *given], pretraining.ARGUMENTS, "pretrain")
    kept = {"model_type", "use_cpu", "config_overrides", "train_tokenizer", "mask_ratio"} - left_out
    assert cli.names_in(flags.of_recipe, pretraining.ARGUMENTS) == kept
    settings = {name: value for name, value in parsed(path, *given).items() if name in ("mask_ratio", "use_cpu")}
    assert settings == {"mask_ratio": 0.4, "use_cpu": True}


def test_recipe__behind_flags_holds_over_the_defaults_of_a_task(tmp_path):
    path = recipe(tmp_path, learning_rate=0.25)
    flags = cli.flags_of_words(["--seed", "1", path], finetuning.ARGUMENTS, "finetune")
    assert (flags.of_recipe[-2:], flags.given) == (["--learning_rate", "0.25"], ["--seed", "1"])
    assert flags.all == [*flags.of_recipe, *flags.given]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--evaluation_strategy steps", "no flag --evaluation_strategy: use --eval_strategy."),
        ("--evaluation-strategy=steps", "no flag --evaluation-strategy: use --eval_strategy."),
        ("--group_by_length", "no flag --group_by_length: use --train_sampling_strategy group_by_length."),
        pytest.param(
            "--warmup_ratio 0.1", "no flag --warmup_ratio: use --warmup_steps, which", marks=BEFORE_WARMUP_RATIO_WENT
        ),
        ("--learning_rat_e 1", "no flag --learning_rat_e: did you mean --learning_rate?"),
        ("--kernel_siz 1 --no_cuda", "did you mean --decoder_kernel_size? There is no flag --no_cuda: use --use_cpu."),
        ("--qqqq", "no flag --qqqq: did you mean --"),
        ("--seed 1 digits", "'digits' belongs to no flag. It is no recipe either: the name of one stands first"),
        ("examples/digits", "no recipe 'examples/digits' for `data2vec pretrain`: did you mean vision/digits?"),
    ],
)
def test_flag__that_there_is_none_of(flags, message):
    with pytest.raises(ValueError, match="no flag|no recipe") as caught:
        parsed(*flags.split(), *NEW)
    assert message in str(caught.value)


@BEFORE_WARMUP_RATIO_WENT
def test_renamed_flags__are_none_of_ours():
    """A hint about a flag that exists would never be seen; one to a flag that does not would lead nowhere."""
    for script in (pretraining, finetuning):
        known = {name for group in script.ARGUMENTS for name in group.__dataclass_fields__}
        assert not known & _RENAMED.keys()
        named = {now.split()[0].strip("-,") for now in _RENAMED.values() if now.startswith("--")}
        assert named <= known


def test_recipe__and_files_of_data_with_the_same_ending(tmp_path):
    for name, content in (("recipe.json", {"seed": 7}), ("a.json", [{"text": "a"}]), ("b.json", {"text": "b"})):
        (tmp_path / name).write_text(json.dumps(content))
    recipe, one, two = (str(tmp_path / name) for name in ("recipe.json", "a.json", "b.json"))
    for words in ([recipe, "--train_file", one, two], ["--train_file", one, two, recipe]):
        _, data, _, _, training = pretraining.parse([*words, *NEW])
        assert (data.train_file, training.seed) == ([one, two], 7)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a", "--sise", "2"], "^There is no flag --sise: did you mean --size\\?$"),
        (["a", "--siz", "2"], "^There is no flag --siz: did you mean --size\\?$"),  # abbreviations are not taken
        (["a", "b"], "^'b' belongs to no flag.$"),
        ([], "^the following arguments are required: name.$"),
        (["a", "--size", "big"], "^--size: invalid int value: 'big'.$"),
    ],
)
def test_command_parser__raises_its_errors(words, message):
    parser = cli.CommandParser(prog="data2vec x")
    parser.add_argument("name")
    parser.add_argument("--size", type=int)
    with pytest.raises(ValueError, match=message):
        parser.parse_args(words)
    assert vars(parser.parse_args(["a", "--size", "2"])) == {"name": "a", "size": 2}
