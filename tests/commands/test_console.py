"""The console command: which command it runs, and how it reports what is wrong with its input."""

import sys
from contextlib import suppress
from importlib import import_module
from types import SimpleNamespace

import numpy as np
import pytest

import run_finetune
import run_pretraining
from modeling_data2vec_generic.cli.parsing import parse
from modeling_data2vec_generic.commands import console, finetune, pretrain
from modeling_data2vec_generic.runs.arguments import PRETRAINING

from ..package_imports import ROOT

pytestmark = pytest.mark.fast


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["help"]])
def test_help__lists_all_commands(words, capsys):
    console.main(words)
    text = capsys.readouterr().out
    for name, (_, what) in console.COMMANDS.items():
        assert f"  {name:<14}{what}\n" in text


@pytest.mark.parametrize("name", console.COMMANDS)
def test_command__explains_itself(name, capsys):
    with suppress(SystemExit):  # which argparse raises
        console.main([name, "--help"])
    assert f"usage: data2vec {name}" in capsys.readouterr().out


def test_command__that_there_is_none_of():
    with pytest.raises(SystemExit, match="no command 'pretrian': did you mean pretrain"):
        console.main(["pretrian", "digits"])


@pytest.fixture
def command(monkeypatch):
    """A command, whose function a test sets as `command.main`."""
    module = SimpleNamespace(main=None)
    monkeypatch.setattr(console, "import_module", lambda *_: module)
    return module


def test_words__go_to_the_command(command):
    given = []
    command.main = given.extend
    console.main(["pretrain", "digits", "--max_steps", "2"])
    assert given == ["digits", "--max_steps", "2"]


def test_errors__of_the_package_are_one_message(command):
    command.main = lambda words: parse(["--max_stepz", "2"], PRETRAINING)
    with pytest.raises(SystemExit, match="^data2vec pretrain: There is no flag --max_stepz: did you mean") as left:
        console.main(["pretrain"])
    assert left.value.__suppress_context__  # no traceback is printed


def test_errors__of_packages_that_are_missing_lead_to_the_doctor(command, monkeypatch):
    speech = "modeling_data2vec_generic.modalities.speech.waveforms"
    monkeypatch.delitem(sys.modules, speech, raising=False)
    monkeypatch.setitem(sys.modules, "soxr", None)
    command.main = lambda words: import_module(speech)
    with pytest.raises(SystemExit, match="^data2vec pretrain: .*soxr.* `data2vec doctor` says which packages"):
        console.main(["pretrain"])


@pytest.mark.parametrize("raising", [lambda words: np.random.default_rng(-1), lambda words: {}["key"]])
def test_errors__of_others_are_shown_in_full(raising, command):
    command.main = raising
    with pytest.raises((ValueError, KeyError)):
        console.main(["pretrain"])


def test_scripts__are_the_commands():
    assert run_pretraining.main is pretrain.main
    assert run_finetune.main is finetune.main


def test_document__has_a_section_for_each_command():
    text = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    for name in console.COMMANDS:
        assert f"| [`{name}`](#data2vec-{name}) |" in text
        assert f"\n## data2vec {name}\n" in text
