"""A run that was stopped, or killed, and resumed is the run left alone; a run without a step is an error."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from .small_runs import Images, Kill, Killed, assert_same_run, last_checkpoint, trainer

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
