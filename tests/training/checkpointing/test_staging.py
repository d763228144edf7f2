"""Saves are whole or absent, also when the process dies or the disk is full."""

import errno
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError
from transformers import TrainerCallback

from modeling_data2vec_generic.training.checkpointing.staging import DiskFullError

from ..small_runs import files, trainer


class Spoiler(TrainerCallback):
    """Remembers which checkpoints were there at each step."""

    def __init__(self, output_dir: Path):
        self.output_dir = output_dir
        self.seen: list[set[str]] = []

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.seen.append({path.name for path in self.output_dir.glob("*")})


def test_checkpoints__rotate_as_trainer_does_and_leave_nothing_behind(tmp_path):
    seen = Spoiler(tmp_path)
    run = trainer(tmp_path, save_total_limit=2, callbacks=[seen], save_steps=1, max_steps=5)
    run.train()
    assert seen.seen == [
        set(),
        {"checkpoint-1"},
        {"checkpoint-1", "checkpoint-2"},
        {"checkpoint-2", "checkpoint-3"},
        {"checkpoint-3", "checkpoint-4"},
    ]
    assert {path.name for path in tmp_path.glob("*")} == {"checkpoint-4", "checkpoint-5"}


def test_checkpoints__the_best_is_kept_under_its_final_name(tmp_path):
    scores = iter([0.1, 0.5, 0.9, 0.7, 0.6])  # before the first step and at each evaluation
    flags = {"eval_strategy": "steps", "eval_steps": 1, "save_steps": 1, "save_total_limit": 2, "max_steps": 4}
    run = trainer(tmp_path, metric_for_best_model="score", greater_is_better=True, **flags)
    run.feature_metrics = lambda encoder: {"score": next(scores)}
    run.train()
    assert run.state.best_model_checkpoint == str(tmp_path / "checkpoint-2")
    assert {path.name for path in tmp_path.glob("*")} == {"checkpoint-2", "checkpoint-4"}
    for name in ("checkpoint-2", "checkpoint-4"):
        state = json.loads((tmp_path / name / "trainer_state.json").read_text())
        assert state["best_model_checkpoint"] == str(tmp_path / "checkpoint-2")


class DiedInSave(BaseException):
    pass


THREE_SAVES = {"save_steps": 1, "max_steps": 3}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The files of each checkpoint of a run that was left alone."""
    out = tmp_path_factory.mktemp("whole")
    trainer(out, **THREE_SAVES).train()
    return {path.name: files(path) for path in out.glob("checkpoint-*")}


@pytest.mark.parametrize("moment", ["fsync", "rename", "rmtree"])
def test_checkpoints__death_within_a_save_leaves_whole_ones_only(moment, whole, tmp_path, monkeypatch):
    """Dies at the first, the second, ... call of `moment`: whatever has a checkpoint's name can be resumed from."""
    flags = THREE_SAVES | {"save_total_limit": 1}
    module = {"fsync": os, "rename": Path, "rmtree": shutil}[moment]
    for deadly in DEADLY[moment]:
        out = tmp_path / f"died-{deadly}"
        real, calls = getattr(module, moment), iter(range(10_000))

        def dying(path: Any, *args: Any, real: Any = real, calls: Any = calls, deadly: int = deadly) -> Any:
            if next(calls) == deadly:
                if moment == "rmtree":
                    for file in list(Path(path).rglob("*.safetensors"))[:1]:  # half of it is deleted
                        file.unlink()
                raise DiedInSave
            return real(path, *args)

        with monkeypatch.context() as patch:
            patch.setattr(module, moment, dying)
            with pytest.raises(DiedInSave):
                trainer(out, **flags).train()
        found = {path.name: files(path) for path in out.glob("checkpoint-*")}
        assert found == {name: whole[name] for name in found}
        assert found or deadly == 0 or (moment == "fsync" and deadly < 40)
    trainer(out, **flags).train()
    assert {path.name for path in out.glob("*")} == {"checkpoint-3"}


DEADLY = {"fsync": (0, 5, 40), "rename": (0, 1, 2), "rmtree": (0, 1)}


# --- a full disk


def full_disk(*args: Any, **kwargs: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def full_rust(*args: Any, **kwargs: Any) -> None:
    raise SafetensorError("Error while serializing: I/O error: Disk quota exceeded (os error 122)")


@pytest.mark.parametrize(
    ("where", "error"),
    [
        ("modeling_data2vec_generic.training.checkpointing.staging.os.fsync", full_disk),
        ("modeling_data2vec_generic.training.checkpointing.running_state.save_file", full_rust),
    ],
)
def test_full_disk__leaves_the_last_checkpoint_and_says_what_to_do(where, error, tmp_path, monkeypatch):
    trainer(tmp_path, max_steps=2).train()
    before = files(tmp_path / "checkpoint-2")
    run = trainer(tmp_path)
    monkeypatch.setattr(where, error)
    with pytest.raises(DiskFullError) as raised:
        run.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    said = str(raised.value)
    assert "checkpoint-4 could not be saved" in said
    assert re.search(r"[\d,.]+ MB are free, a checkpoint takes [\d.]+ MB", said)
    assert f"The last good checkpoint is {tmp_path / 'checkpoint-2'}" in said
    assert "--resume_from_checkpoint true" in said
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint-2"}
    assert files(tmp_path / "checkpoint-2") == before


def test_full_disk__at_the_end_leaves_older_files_whole(tmp_path, monkeypatch):
    run = trainer(tmp_path, max_steps=1, save_strategy="no")
    run.train()
    for save in (run.save_model, run.save_encoder, run.save_state, lambda: run.save_metrics("eval", {"loss": 1.0})):
        save()
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        with monkeypatch.context() as patch:
            patch.setattr("modeling_data2vec_generic.training.checkpointing.staging.os.fsync", full_disk)
            with pytest.raises(DiskFullError, match="There is no checkpoint to resume"):
                save()
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert (tmp_path / "encoder" / "model.safetensors").exists()


def test_save_model__to_another_folder_leaves_only_its_files(tmp_path):
    run = trainer(tmp_path / "out", max_steps=1)
    run.save_model(str(tmp_path / "elsewhere"))
    assert (tmp_path / "elsewhere" / "model.safetensors").exists()
    assert not list(tmp_path.glob("*/_unfinished"))


def test_save_model__takes_away_the_shards_of_a_larger_one(tmp_path):
    tmp_path.joinpath("model-00001-of-00002.safetensors").write_text("old")
    tmp_path.joinpath("model.safetensors.index.json").write_text("{}")
    trainer(tmp_path, max_steps=1).save_model()
    assert [path.name for path in tmp_path.glob("model*.safetensors*")] == ["model.safetensors"]


def test_other_errors__stay_what_they_are_and_leave_nothing(tmp_path, monkeypatch):
    def broken(*args: Any, **kwargs: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("modeling_data2vec_generic.training.checkpointing.running_state.save_file", broken)
    with pytest.raises(PermissionError, match="Permission denied"):
        trainer(tmp_path).train()
    assert list(tmp_path.iterdir()) == []
