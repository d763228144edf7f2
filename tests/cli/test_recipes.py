"""The recipes of the package: their catalogue, how they are found by name, and what they need."""

import json

import pytest

from modeling_data2vec_generic import cli
from modeling_data2vec_generic.cli import recipes
from modeling_data2vec_generic.cli.recipes import all_recipes, examples_folder, find_recipe, recipe_called
from modeling_data2vec_generic.runs.arguments import FINETUNING, PRETRAINING

pytestmark = pytest.mark.fast

GROUPS = {"pretrain": PRETRAINING, "finetune": FINETUNING}


def test_catalogue__has_each_recipe_once_and_scripts_that_exist():
    folder = examples_folder()
    files = {path.relative_to(folder).with_suffix("").as_posix() for path in folder.glob("*/**/*.json")}
    names = [recipe.name for recipe in all_recipes()]
    assert sorted(names) == sorted(files)
    for recipe in all_recipes():
        assert recipe.data
        assert recipe.time
        for script in recipe.fetch:
            assert (folder / script).is_file(), script


def test_catalogue__names_scripts_where_recipes_read_what_is_fetched():
    for recipe in all_recipes():
        read = [recipe.settings.get(name, "") for name in ("train_file", "train_dir", "model_name_or_path")]
        assert bool(recipe.fetch) == any(path.startswith("data/") for path in read), recipe.name


@pytest.mark.parametrize("recipe", all_recipes(), ids=lambda recipe: recipe.name)
def test_recipe__is_found_by_its_short_name_and_by_its_path(recipe):
    assert find_recipe(recipe.short_name, recipe.purpose) == recipe.path
    assert find_recipe(str(recipe.path), recipe.purpose) == recipe.path


@pytest.mark.parametrize(
    ("name", "purpose", "found"),
    [
        ("digits", "pretrain", "vision/digits"),
        ("vision/digits", "pretrain", "vision/digits"),
        ("digits", "finetune", "vision/finetuning/digits"),
        ("finetuning/digits", "finetune", "vision/finetuning/digits"),
        ("vision/digits", "finetune", "vision/finetuning/digits"),
        ("text/data2vec_base", "pretrain", "text/data2vec_base"),
        ("digits", None, "vision/digits"),
        ("finetuning/digits", None, "vision/finetuning/digits"),
        ("brown", None, "text/finetuning/brown"),
    ],
)
def test_recipe_called__finds(name, purpose, found):
    assert recipe_called(name, purpose).name == found


@pytest.mark.parametrize(
    ("name", "purpose", "message"),
    [
        ("digit", "pretrain", "no recipe 'digit' for `data2vec pretrain`: did you mean digits"),
        ("brown", "pretrain", "no recipe 'brown' for `data2vec pretrain`"),
        ("text/wordnets", None, "no recipe 'text/wordnets': did you mean text/wordnet"),
        (
            "data2vec_base",
            "pretrain",
            "several recipes: vision/data2vec_base, text/data2vec_base, speech/data2vec_base. Give",
        ),
    ],
)
def test_recipe_called__says_which_there_are(name, purpose, message):
    with pytest.raises(ValueError, match="recipe") as caught:
        recipe_called(name, purpose)
    assert message in str(caught.value)


def test_recipe__knows_the_one_that_it_starts_from():
    assert recipe_called("brown").source == recipe_called("glosses")
    assert recipe_called("digits").source is None
    assert recipe_called("garment_masks").commands() == [
        "data2vec recipes copy vision/finetuning/garment_masks",
        "python examples/vision/fetch_fashion_mnist.py",
        "python examples/vision/make_garment_masks.py",
        "data2vec pretrain fashion_mnist_data2vec2",
        "data2vec finetune garment_masks",
    ]
    assert recipe_called("python_docs").commands() == ["data2vec pretrain python_docs"]
    assert recipe_called("own_images").commands() == ["data2vec pretrain own_images --train_dir path/to/images"]


@pytest.mark.parametrize("recipe", all_recipes(), ids=lambda recipe: recipe.name)
def test_commands__are_understood(recipe):
    *before, last = [command.split() for command in recipe.commands()]
    flags = cli.flags_of_words(last[2:], GROUPS[last[1]], last[1])
    assert flags.recipe == recipe.path
    given = cli.names_in(flags.all, GROUPS[last[1]])
    assert len(given & {"dataset_name", "train_file", "train_dir"}) == 1
    for words in before:
        if words[0] == "python":
            assert (examples_folder().parent / words[1]).is_file()
        elif words[1] == "recipes":
            assert recipe_called(words[3]) == recipe
        else:
            assert find_recipe(words[2], words[1]) == recipe.source.path


def test_inputs__that_are_not_there_are_named_with_what_makes_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = cli.flags_of_words(["wordnet"], FINETUNING, "finetune")
    with pytest.raises(ValueError, match="reads output/glosses and data/wordnet/nouns_train.parquet and") as caught:
        cli.require_inputs(flags, FINETUNING)
    assert str(caught.value).endswith(
        "\n    data2vec recipes copy text/finetuning/wordnet\n    python examples/text/fetch_wordnet.py"
        "\n    data2vec pretrain glosses\n    data2vec finetune wordnet"
    )
    (tmp_path / "output" / "glosses").mkdir(parents=True)
    given = ["wordnet", "--train_file", "mine.csv", "--validation-file=yours.csv"]
    cli.require_inputs(cli.flags_of_words(given, FINETUNING, "finetune"), FINETUNING)


def test_inputs__of_own_recipes_and_of_flags_alone_are_not_looked_at(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.json").write_text(json.dumps({"model_type": "vit", "train_dir": "data/none"}))
    for words in (["own.json"], ["--train_dir", "data/none", "--model_type", "vit"], ["digits"]):
        cli.require_inputs(cli.flags_of_words(words, PRETRAINING, "pretrain"), PRETRAINING)


def test_examples_folder__within_the_package_comes_first(tmp_path, monkeypatch):
    """As where a wheel is installed."""
    package = tmp_path / "modeling_data2vec_generic"
    monkeypatch.setattr(recipes, "__file__", str(package / "cli" / "recipes.py"))
    (tmp_path / "examples").mkdir()
    assert examples_folder() == tmp_path / "examples"
    (package / "examples").mkdir(parents=True)
    assert examples_folder() == package / "examples"
