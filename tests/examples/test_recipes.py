import dataclasses
import json
from pathlib import Path

import pytest

from modeling_data2vec_generic.data.arguments import DataArguments
from modeling_data2vec_generic.masking.sampler import MaskArguments
from modeling_data2vec_generic.training.arguments import Data2VecTrainingArguments, ModelArguments, ObjectiveArguments

pytestmark = pytest.mark.fast

EXAMPLES = Path(__file__).parents[2] / "examples"
RECIPES = sorted(EXAMPLES.glob("*/*.json"))
GROUPS = (DataArguments, MaskArguments, ModelArguments, ObjectiveArguments, Data2VecTrainingArguments)


def test_recipes__are_the_ones_the_readme_names():
    names = {path.relative_to(EXAMPLES).as_posix() for path in RECIPES}
    assert names >= {
        "vision/digits.json",
        "vision/fashion_mnist.json",
        "vision/data2vec_base.json",
        "vision/data2vec_large.json",
        "vision/data2vec2_base.json",
        "vision/data2vec2_large.json",
        "vision/data2vec2_huge.json",
        "text/python_docs.json",
        "text/wordnet.json",
        "text/wordnet_data2vec2.json",
        "text/data2vec_base.json",
        "text/data2vec2_base.json",
        "speech/asterisk.json",
        "speech/asterisk_data2vec2.json",
        "speech/fillets.json",
        "speech/data2vec_base.json",
        "speech/data2vec2_base.json",
        "speech/data2vec2_large.json",
        "series/osu_leaf.json",
        "series/osu_leaf_data2vec2.json",
        "series/basic_motions.json",
        "protein/proteins.json",
        "video/moving_digits.json",
        "video/moving_digits_data2vec2.json",
    }


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_recipe__every_key_is_a_flag(path):
    flags = {field.name for group in GROUPS for field in dataclasses.fields(group)}
    assert set(json.loads(path.read_text())) <= flags


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_recipe__is_explained_in_the_readme_beside_it(path):
    assert f"`{path.name}`" in (path.parent / "README.md").read_text(encoding="utf-8")
