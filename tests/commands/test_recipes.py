"""`data2vec recipes`: the table, one recipe, and a copy that can be used."""

import json

import pytest

from modeling_data2vec_generic.cli.recipes import all_recipes, examples_folder, recipe_called
from modeling_data2vec_generic.commands.recipes import main

pytestmark = pytest.mark.fast


@pytest.mark.parametrize("words", [[], ["list"]])
def test_list__is_a_table_of_all(words, capsys):
    main(words)
    first, second = capsys.readouterr().out.split("Fine-tuning: data2vec finetune NAME")
    for text, purpose in ((first, "pretrain"), (second, "finetune")):
        rows = {line.split("  ")[0]: line for line in text.splitlines()}
        recipes = [recipe for recipe in all_recipes() if recipe.purpose == purpose]
        for recipe in recipes:
            row = rows[recipe.short_name]
            assert f" {recipe.kind} " in row
            assert f" {recipe.data} " in row
            assert row.endswith(f" {recipe.time}")
            assert len(row) < 120
            assert (recipe.source.short_name if recipe.source else recipe.settings["objective"]) in row
        columns = {rows[recipe.short_name].index(f" {recipe.data} ") for recipe in recipes}
        assert len(columns) == 1


def test_show__has_the_commands_and_the_file(capsys):
    main(["show", "finetuning/wordnet"])
    text = capsys.readouterr().out
    recipe = recipe_called("finetuning/wordnet")
    assert text.startswith("text/finetuning/wordnet: 26 fields of meaning")
    assert "\n    data2vec pretrain glosses\n    data2vec finetune wordnet\n" in text
    assert json.loads(text[text.index("{") :]) == recipe.settings


def test_copy__is_a_folder_that_can_be_used(tmp_path, capsys):
    main(["copy", "wordnet", str(tmp_path)])
    assert f"{tmp_path}/examples/text holds the recipe" in capsys.readouterr().out
    copied = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert copied >= {
        "examples/text/wordnet.json",
        "examples/text/finetuning/wordnet.json",
        "examples/text/README.md",
        "examples/text/fetch_wordnet.py",
        "examples/debian_packages.py",  # which the script imports
    }
    assert not any("__pycache__" in name or name.startswith("examples/vision") for name in copied)
    for name in copied:
        assert (tmp_path / name).read_bytes() == (examples_folder().parent / name).read_bytes()


def test_copy__overwrites_nothing(tmp_path):
    main(["copy", "wordnet", str(tmp_path)])
    main(["copy", "digits", str(tmp_path)])  # another kind of data, with the same helpers
    changed = tmp_path / "examples" / "text" / "wordnet.json"
    changed.write_text("{}")
    (tmp_path / "examples" / "text" / "README.md").unlink()
    with pytest.raises(ValueError, match=r"wordnet\.json exists, and differs from what would be copied"):
        main(["copy", "glosses", str(tmp_path)])
    assert not (tmp_path / "examples" / "text" / "README.md").exists()
    assert changed.read_text() == "{}"


@pytest.mark.parametrize("command", ["show", "copy"])
def test_recipe__that_there_is_none_of(command):
    with pytest.raises(ValueError, match="no recipe 'wordnets': did you mean wordnet"):
        main([command, "wordnets"])
