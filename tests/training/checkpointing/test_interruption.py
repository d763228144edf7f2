"""SIGTERM and SIGUSR1 finish the step, save a checkpoint and end the run, which can then be resumed."""

import json
import signal

import pytest
import torch

from ..small_runs import Signal, assert_same_run, last_checkpoint, trainer
from .test_signals import handlers


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


def test_several_processes__are_told_to_stop_at_the_next_step(tmp_path):
    run = trainer(tmp_path)
    heard = []
    for received in (None, "SIGTERM", "SIGTERM"):
        run.stop.signals.received = received
        heard.append(run.stop.any_asked())
    assert heard == [False, False, True]


def test_sigterm__in_the_last_step_lets_the_run_end(tmp_path):
    assert trainer(tmp_path, callbacks=[Signal(7)]).train().global_step == 7
