"""Recipes of run_finetune.py: all of their flags exist, and their values are valid."""

import json
from pathlib import Path

import pytest

from modeling_data2vec_generic import cli
from modeling_data2vec_generic.runs import finetuning

pytestmark = pytest.mark.fast

EXAMPLES = Path(__file__).parents[2] / "examples"
RECIPES = sorted(EXAMPLES.glob("*/finetuning/*.json"))


@pytest.mark.parametrize("path", RECIPES, ids=[path.relative_to(EXAMPLES).as_posix() for path in RECIPES])
def test_recipe__holds_what_the_script_then_has(path):
    flags = cli.flags_of_words([str(path)], finetuning.ARGUMENTS, "finetune")
    parsed = cli.parse(flags.all, finetuning.ARGUMENTS)
    held = {name: value for group in parsed for name, value in vars(group).items()}
    for name, value in json.loads(path.read_text()).items():
        expected = [value] if isinstance(held[name], list) and isinstance(value, str) else value
        assert held[name] == expected, name
