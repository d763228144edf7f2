"""Saves are whole or not there; a run that was stopped, or killed, and resumed is the run left alone."""

import errno
import json
import math
import os
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback, set_seed

from modeling_data2vec_generic import (
    Data2VecGenericConfig,
    Data2VecGenericForPreTraining,
    Data2VecTrainer,
    Data2VecTrainingArguments,
)
from modeling_data2vec_generic.training.checkpointing.signals import _init_worker
from modeling_data2vec_generic.training.checkpointing.staging import DiskFullError

from ...tiny import tiny_encoder

CLOCK = ("runtime", "per_second")
PATCHES = 16


class Images(torch.utils.data.Dataset):
    """22 noise images, each with a mask that belongs to it."""

    def __len__(self) -> int:
        return 22

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        noise = torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(index))
        return {"pixel_values": noise, "mask": (torch.arange(PATCHES)[None] + index) % PATCHES < 3 + index % 4}


class Killed(BaseException):
    """Stands for SIGKILL: nothing of ours runs any more."""


class Kill(TrainerCallback):
    def __init__(self, step: int):
        self.step = step

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            raise Killed


class Signal(TrainerCallback):
    """SIGTERM, or another signal, in the middle of a step."""

    def __init__(self, step: int, number: int = signal.SIGTERM):
        self.step, self.number = step, number

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step + 1 == self.step:
            os.kill(os.getpid(), self.number)


def trainer(output_dir: Path, seed: int = 0, dtype: Any = torch.float32, callbacks: Any = (), **flags: Any) -> Any:
    set_seed(seed)
    encoder = tiny_encoder("vit", hidden_dropout_prob=0.1)
    for module in encoder.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.1  # what draws from the random state within a step
    model = Data2VecGenericForPreTraining(Data2VecGenericConfig(), encoder).to(dtype)
    defaults = {"max_steps": 7, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}
    defaults |= {"learning_rate": 0.01, "logging_steps": 3, "save_strategy": "steps", "save_steps": 2}
    defaults |= {"report_to": "none", "disable_tqdm": True, "use_cpu": True, "ema_decay": 0.5, "ema_end_decay": 0.9}
    return Data2VecTrainer(
        model=model,
        args=Data2VecTrainingArguments(output_dir=str(output_dir), **defaults | flags),
        train_dataset=Images(),
        eval_dataset=Images(),
        data_collator=torch.utils.data.default_collate,
        callbacks=list(callbacks),
    )


def last_checkpoint(folder: Path) -> str:
    return str(max(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2])))


def history(run: Any) -> list[dict[str, float]]:
    """What was logged, to the last bit, but for what a clock says."""
    return [{k: v for k, v in entry.items() if not k.endswith(CLOCK)} for entry in run.state.log_history]


def everything(run: Any) -> dict[str, torch.Tensor]:
    state = {f"model.{name}": tensor for name, tensor in run.model.state_dict().items()}
    accumulators = load_file(Path(last_checkpoint(Path(run.args.output_dir)), "teacher.safetensors"))
    state |= {f"teacher.{name}": tensor for name, tensor in accumulators.items()}
    for index, slots in run.optimizer.state_dict()["state"].items():
        state |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in slots.items()}
    return state


def assert_same_run(run: Any, other: Any, rng: torch.Tensor) -> None:
    assert history(run) == history(other)
    mine, its = everything(run) | {"rng": torch.get_rng_state()}, everything(other) | {"rng": rng}
    assert mine.keys() == its.keys()
    assert [name for name in mine if not torch.equal(mine[name], its[name])] == []
    assert run.lr_scheduler.state_dict() == other.lr_scheduler.state_dict()
    assert run.teacher_updates == other.teacher_updates


# --- a resumed run is the run


SETTINGS: dict[str, dict[str, Any]] = {
    "in the middle of an epoch": {},
    "bfloat16": {"dtype": torch.bfloat16},
    "by epochs": {"logging_strategy": "epoch", "eval_strategy": "epoch", "max_steps": -1, "num_train_epochs": 3},
    "saved where epochs end": {"eval_strategy": "epoch", "save_steps": 3, "logging_strategy": "epoch"},
    "evaluated on start": {"eval_on_start": True, "eval_strategy": "steps", "eval_steps": 3},
    "best kept": {
        "eval_strategy": "steps",
        "eval_steps": 2,
        "save_total_limit": 1,
        "load_best_model_at_end": True,
        "metric_for_best_model": "loss",
    },
    "with workers": {"dataloader_num_workers": 2},
}


@pytest.mark.parametrize("flags", SETTINGS.values(), ids=SETTINGS)
def test_resume__equals_the_run_left_alone_in_all_that_is_logged_and_learnt(flags, tmp_path):
    whole = trainer(tmp_path / "whole", **flags)
    whole.train()
    rng = torch.get_rng_state()
    stops = (3, 5) if "num_workers" not in str(flags) else (5,)
    out, before = tmp_path / "killed", None
    for seed, stop in enumerate(stops):  # what a resumed run starts from is of no account
        with pytest.raises(Killed):
            trainer(out, seed, callbacks=[Kill(stop)], **flags).train(resume_from_checkpoint=before)
        before = last_checkpoint(out)
    resumed = trainer(out, 9, **flags)
    resumed.train(resume_from_checkpoint=before)
    assert_same_run(resumed, whole, rng)


def test_resume__of_a_run_that_has_taken_all_its_steps_takes_none(tmp_path):
    whole = trainer(tmp_path)
    result = whole.train()
    rng = torch.get_rng_state()
    assert whole.state.max_steps % 3 == 1  # in the middle of an epoch
    resumed = trainer(tmp_path, 9)
    again = resumed.train(resume_from_checkpoint=last_checkpoint(tmp_path))
    assert again.training_loss == result.training_loss
    assert resumed.state.global_step == 7
    assert_same_run(resumed, whole, rng)


def test_resume__time_is_that_of_all_attempts(tmp_path):
    with pytest.raises(Killed):
        trainer(tmp_path, callbacks=[Kill(5)]).train()
    path = Path(last_checkpoint(tmp_path), "running_state.safetensors")
    state = load_file(path)
    state["seconds"] += 1000
    save_file(state, path)
    result = trainer(tmp_path).train(resume_from_checkpoint=last_checkpoint(tmp_path))
    assert 1000 < result.metrics["train_runtime"] < 1060


def test_resume__without_running_state_says_what_will_be_missing(tmp_path, caplog):
    trainer(tmp_path, max_steps=2).train()
    (tmp_path / "checkpoint-2" / "running_state.safetensors").unlink()
    with caplog.at_level("WARNING"):
        result = trainer(tmp_path, max_steps=3).train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert "checkpoint-2 has no running_state.safetensors" in caplog.text
    assert 1 < result.training_loss < 5  # of the third step, over one step


# --- saves are whole


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


@pytest.mark.parametrize("moment", ["fsync", "rename", "rmtree"])
def test_checkpoints__death_within_a_save_leaves_whole_ones_only(moment, tmp_path, monkeypatch):
    """Dies at the first, the second, ... call of `moment`: whatever has a checkpoint's name can be resumed from."""
    flags = {"save_steps": 1, "max_steps": 3, "save_total_limit": 1}
    trainer(tmp_path / "whole", **flags | {"save_total_limit": None}).train()
    whole = {path.name: files(path) for path in (tmp_path / "whole").glob("checkpoint-*")}
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
        assert found or deadly == 0 or (moment == "fsync" and deadly < 22)
    trainer(out, **flags).train()
    assert {path.name for path in out.glob("*")} == {"checkpoint-3"}


DEADLY = {"fsync": (0, 5, 22), "rename": (0, 1, 2), "rmtree": (0, 1)}


def files(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in folder.iterdir()}


# --- SIGTERM and SIGUSR1


def handlers() -> list[Any]:
    return [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)]


def test_sigterm__finishes_the_step_saves_and_leaves_with_143(tmp_path, caplog):
    whole = trainer(tmp_path / "whole")
    whole.train()
    rng, before = torch.get_rng_state(), handlers()
    out = tmp_path / "out"
    with pytest.raises(SystemExit) as left, caplog.at_level("WARNING"):
        trainer(out, callbacks=[Signal(3)], save_strategy="no").train()
    assert left.value.code == 143
    assert "Stopped by SIGTERM after step 3 of 7" in caplog.text
    assert "--resume_from_checkpoint true" in caplog.text
    assert {path.name for path in out.iterdir()} == {"checkpoint-3"}
    assert handlers() == before
    resumed = trainer(out, 9)
    resumed.train(resume_from_checkpoint=last_checkpoint(out))
    assert_same_run(resumed, whole, rng)


def test_sigusr1__does_the_same_and_exit_zero_on_sigterm_makes_it_0(tmp_path, caplog):
    before = handlers()
    callbacks = [Signal(1, signal.SIGUSR1)]
    with pytest.raises(SystemExit) as left, caplog.at_level("WARNING"):
        trainer(tmp_path, callbacks=callbacks, save_strategy="no", exit_zero_on_sigterm=True).train()
    assert left.value.code == 0
    assert "Stopped by SIGUSR1 after step 1 of 7" in caplog.text
    assert (tmp_path / "checkpoint-1").is_dir()
    assert handlers() == before


def test_handlers__are_taken_away_when_training_fails(tmp_path):
    before = handlers()
    with pytest.raises(Killed):
        trainer(tmp_path, callbacks=[Kill(1)], save_strategy="no").train()
    assert handlers() == before


def test_workers__outlive_sigusr1(monkeypatch):
    former = signal.getsignal(signal.SIGUSR1)
    try:
        _init_worker(None, 0)
        assert signal.getsignal(signal.SIGUSR1) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGUSR1, former)


@pytest.mark.parametrize("step", [2, 3])
def test_sigterm__evaluates_an_epoch_only_if_it_is_over(step, tmp_path):
    flags = {"eval_strategy": "epoch", "save_strategy": "epoch", "save_total_limit": 1, "load_best_model_at_end": True}
    whole = trainer(tmp_path / "whole", **flags)
    whole.train()
    rng, out = torch.get_rng_state(), tmp_path / "out"
    with pytest.raises(SystemExit):
        trainer(out, callbacks=[Signal(step)], **flags).train()
    assert {path.name for path in out.iterdir()} == {f"checkpoint-{step}"}
    state = json.loads((out / f"checkpoint-{step}" / "trainer_state.json").read_text())
    assert any("eval_loss" in entry for entry in state["log_history"]) == (step == 3)
    resumed = trainer(out, 9, **flags)
    resumed.train(resume_from_checkpoint=last_checkpoint(out))
    assert_same_run(resumed, whole, rng)


def test_sigterm__in_the_last_step_lets_the_run_end(tmp_path):
    assert trainer(tmp_path, callbacks=[Signal(7)]).train().global_step == 7


# --- runs without a step


def test_no_batch__is_an_error_before_anything_is_done(tmp_path):
    run = trainer(tmp_path, per_device_train_batch_size=64, dataloader_drop_last=True)
    with pytest.raises(
        ValueError, match="have 22 samples, and dataloader_drop_last leaves out a last batch .* than 64"
    ):
        run.train()
    assert not run.state.log_history  # no verdict on its health either
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("flags", [{"max_steps": 0}, {"max_steps": -1, "num_train_epochs": 0}])
def test_no_step__is_an_error(flags, tmp_path):
    run = trainer(tmp_path)
    for name, value in flags.items():  # later than the arguments themselves refuse them
        setattr(run.args, name, value)
    with pytest.raises(ValueError, match="There is no step to take: max_steps="):
        run.train()


class NoImages(torch.utils.data.IterableDataset):
    def __iter__(self) -> Any:
        return iter(())


def test_empty_stream__is_an_error(tmp_path):
    run = trainer(tmp_path, save_strategy="no")
    run.get_train_dataloader = lambda: torch.utils.data.DataLoader(NoImages())  # as that of a stream
    with pytest.raises(ValueError, match="No step was taken"):
        run.train()


def test_bad_steps_alone__are_an_error(tmp_path):
    class Broken(Images):
        def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
            row = super().__getitem__(index)
            return row | {"pixel_values": row["pixel_values"] * math.nan}

    run = trainer(tmp_path, max_steps=2, save_strategy="no")
    run.train_dataset = Broken()
    with pytest.raises(ValueError, match=r"Not one of 2 optimizer steps was taken \(2 met NaN or infinity"):
        run.train()


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
