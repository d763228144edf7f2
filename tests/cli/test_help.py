"""The help of a run: short by topics, and whole."""

import re

import pytest

from modeling_data2vec_generic.cli.help import help_for
from modeling_data2vec_generic.commands import embed, finetune, pretrain
from modeling_data2vec_generic.embedding.arguments import ARGUMENTS as EMBEDDING
from modeling_data2vec_generic.runs.arguments import FINETUNING, PRETRAINING

pytestmark = pytest.mark.fast

COMMANDS = {"pretrain": (pretrain, PRETRAINING), "finetune": (finetune, FINETUNING), "embed": (embed, EMBEDDING)}


@pytest.fixture(params=COMMANDS)
def command(request, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    return COMMANDS[request.param]


def printed(command, flag, capsys):
    command.main(["digits", flag])
    return capsys.readouterr().out


def names_in(text):
    return re.findall(r"^  --(\w+)", text, re.MULTILINE)


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help__is_short(command, flag, capsys):
    text = printed(command[0], flag, capsys)
    assert len(text.splitlines()) <= 80
    assert max(map(len, text.splitlines())) <= 100
    assert names_in(text) == [name for names in command[0]._TOPICS.values() for name in names]
    assert "--help_all explains these in full" in text


@pytest.mark.parametrize("flag", ["--help_all", "--help-all"])
def test_help_all__has_each_flag_once(command, flag, capsys):
    text = printed(command[0], flag, capsys)
    fields = {name for group in command[1] for name, field in group.__dataclass_fields__.items() if field.init}
    assert sorted(names_in(text)) == sorted(fields)


def test_help_all__has_titles_that_lead_somewhere(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    text = printed(pretrain, "--help_all", capsys)
    titles = re.findall(r"^(\S.*):$", text, re.MULTILINE)
    assert titles[0] == "Which encoder to train, and from what weights"
    assert len(titles) == len(set(titles))
    of_transformers = [title for title in titles if title.startswith("TrainingArguments: ")]
    assert titles[-len(of_transformers) :] == of_transformers  # our own come first
    assert {"TrainingArguments: dataloader", "TrainingArguments: evaluation"} <= set(of_transformers)


def test_help__shortens_texts_and_shows_defaults(monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")  # of which 120 are used
    short = help_for(["--help"], "usage: x", {"Topic": ["ema_decay", "horizontal_flip", "seed"]}, PRETRAINING)
    assert short.splitlines() == [
        "usage: x",
        "",
        "Topic:",
        f"  {'--ema_decay X':<30}Share of its old weights that the teacher keeps at each optimizer step, at first.",
        "                                Default: 0.999.",
        "  --horizontal_flip true|false  Mirror training images with probability 1/2. Default: True.",
        "  --seed N                      Of the new weights, the order of the data, and the masks. Default: 42.",
        "",
        short.splitlines()[-1],
    ]
    whole = " ".join(help_for(["--help_all"], "usage: x", {}, PRETRAINING).split())
    assert "--horizontal_flip true|false Mirror training images with probability 1/2. Turn it off for digits" in whole
    assert "One of linear, cosine," in whole  # choices that are too many to stand beside the name


def test_help__is_printed_only_if_it_is_asked_for():
    assert help_for(["digits", "--seed", "1"], "usage: x", {}, PRETRAINING) is None
