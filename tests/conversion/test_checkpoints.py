"""Checkpoints are read without running anything in them, whatever their writers put beside the weights."""

import argparse
import enum
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch

from modeling_data2vec_generic.conversion.checkpoints import plain, read_checkpoint, summarised, tensors_of

pytestmark = pytest.mark.fast


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A module that is there while a checkpoint is written, and not while it is read."""
    module = types.ModuleType("elsewhere")
    monkeypatch.setitem(sys.modules, "elsewhere", module)
    code = """
class Words:
    def __init__(self): self.symbols = ["<s>", "<pad>"]
class DictConfig:
    def __init__(self, content): self._content = content
class AnyNode:
    def __init__(self, value, parent): self._val, self._parent = value, parent
"""
    exec(code, vars(module))
    module.Modality = enum.Enum("Modality", {"AUDIO": 1}, module="elsewhere")
    return module


def by_value(member, protocol):
    return type(member), (member.value,)


def by_name(member, protocol):
    return getattr, (type(member), member.name)


@pytest.mark.parametrize(("saved", "mode"), [(by_value, 1), (by_name, "AUDIO")])  # by the version of Python
def test_objects_of_unknown_classes__are_kept_but_not_made(saved, mode, elsewhere, tmp_path, monkeypatch):
    elsewhere.Modality.__reduce_ex__ = saved
    parent = elsewhere.DictConfig({})
    parent._content["depth"] = elsewhere.AnyNode(12, parent)
    checkpoint = {
        "model": {"weight": torch.arange(3.0), "_ema": {"weight": torch.ones(3)}},
        "args": argparse.Namespace(encoder_layers=12, data="/somewhere"),
        "cfg": {"model": parent, "mode": elsewhere.Modality.AUDIO, "data": "${task.data}"},
        "task_state": {"dictionary": elsewhere.Words()},
    }
    torch.save(checkpoint, tmp_path / "file.pt")
    monkeypatch.delitem(sys.modules, "elsewhere")
    read = read_checkpoint(tmp_path / "file.pt")
    assert tensors_of(read["model"]).keys() == {"weight"}
    assert read["model"]["weight"].tolist() == [0, 1, 2]
    assert plain(read["args"]) == {"encoder_layers": 12, "data": "/somewhere"}
    assert plain(read["cfg"]) == {"model": {"depth": 12}, "mode": mode, "data": None}
    assert plain(read["task_state"])["dictionary"] == {"symbols": ["<s>", "<pad>"]}


class Spy:
    """What it is pickled as makes a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.path}",)


class QuietSpy(Spy):
    def __reduce__(self) -> tuple:
        return subprocess.check_call, (["touch", str(self.path)],)


@pytest.mark.parametrize("archive", [True, False])
def test_code_in_a_checkpoint__is_not_run(archive, tmp_path):
    checkpoint = {"model": {}, "args": Spy(tmp_path / "proof")}
    torch.save(checkpoint, tmp_path / "file.pt", _use_new_zipfile_serialization=archive)
    with pytest.raises(ValueError, match="cannot be read.*posix.system.*strip it once"):
        read_checkpoint(tmp_path / "file.pt")
    checkpoint["args"] = QuietSpy(tmp_path / "proof")
    torch.save(checkpoint, tmp_path / "file.pt", _use_new_zipfile_serialization=archive)
    read_checkpoint(tmp_path / "file.pt")
    assert not (tmp_path / "proof").exists()


def test_file_of_the_old_format__is_read(tmp_path):
    checkpoint = {"model": {"weight": torch.ones(2)}, "args": argparse.Namespace(depth=12)}
    torch.save(checkpoint, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    read = read_checkpoint(tmp_path / "old.pt")
    assert read["model"]["weight"].tolist() == [1, 1]
    assert plain(read["args"]) == {"depth": 12}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "is not a file"),
        (lambda path: path.mkdir(), "is not a file.*A folder that AutoModel loads needs no conversion"),
        (lambda path: path.write_bytes(b"PK\x03\x04 and no more"), "cannot be read"),
        (lambda path: path.write_text("words"), "cannot be read"),
        (lambda path: path.write_bytes(b""), "cannot be read"),
        (lambda path: torch.save([1], path), "holds a list, and a dictionary"),
    ],
    ids=["none", "folder", "damaged", "text", "empty", "list"],
)
def test_other_files__are_refused(make, message, tmp_path):
    make(tmp_path / "file.pt")
    with pytest.raises(ValueError, match=message):
        read_checkpoint(tmp_path / "file.pt")


def test_names__that_differ_in_numbers_are_counted_where_there_are_many():
    few, many = {"norm.bias", "blocks.1.fc1.bias"}, {f"blocks.{i}.fc1.weight" for i in range(12)}
    assert summarised(few) == "blocks.1.fc1.bias, norm.bias"
    assert summarised(few | many) == "blocks.*.fc1.weight (12), blocks.1.fc1.bias, norm.bias"
