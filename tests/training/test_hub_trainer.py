"""Pushing while training goes on and after it, against a Hub on the loopback interface."""

import logging
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainerCallback

from modeling_data2vec_generic.training import hub_trainer

from ..loopback_hub import TOKEN, Repo
from .small_runs import trainer

SAVED_TWICE = {"max_steps": 2, "save_steps": 1, "gradient_accumulation_steps": 1, "push_to_hub": True}
ENCODER = {"config.json", "model.safetensors", "README.md", ".gitattributes"}


@pytest.fixture(autouse=True)
def _messages(caplog):
    caplog.set_level(logging.INFO, logger="modeling_data2vec_generic")


def write(files: dict[str, bytes], folder: str, to: Path) -> Path:
    """One folder of a repository, as it is downloaded."""
    to.mkdir()
    for path, content in files.items():
        if path.startswith(f"{folder}/"):
            (to / path.removeprefix(f"{folder}/")).write_bytes(content)
    return to


def top_folders(files: dict[str, bytes]) -> set[str]:
    return {path.partition("/")[0] for path in files if "/" in path}


def test_every_save__is_pushed_in_the_layout_of_the_finished_model(hub, tmp_path):
    run = trainer(tmp_path / "run", **SAVED_TWICE, hub_always_push=True)
    run.train()
    run.push_to_hub()
    repo = hub.repos["tester/run"]
    assert repo.titles == ["Training in progress, step 1", "Training in progress, step 2", "End of training"]
    in_progress, last, finished = repo.commits[1:]
    assert set(in_progress.files) == set(finished.files)
    assert top_folders(finished.files) == {"pretraining"}
    assert b"Training in progress: step 1 of 2." in in_progress.files["README.md"]
    assert b"Trained for 2 steps." in finished.files["README.md"]
    assert finished.files["model.safetensors"] == (tmp_path / "run/encoder/model.safetensors").read_bytes()
    assert last.files["model.safetensors"] == finished.files["model.safetensors"]
    assert in_progress.files["model.safetensors"] != finished.files["model.safetensors"]
    assert not (tmp_path / "run/_hub").exists()


def test_last_checkpoint__can_be_resumed_from(hub, tmp_path):
    run = trainer(tmp_path / "run", **SAVED_TWICE, hub_strategy="checkpoint", hub_always_push=True)
    run.train()
    repo = hub.repos["tester/run"]
    assert all(top_folders(commit.files) == {"pretraining", "last-checkpoint"} for commit in repo.commits[1:])
    assert not [path for path in repo.files if path.endswith("training_args.bin")]
    checkpoint = write(repo.commits[1].files, "last-checkpoint", tmp_path / "downloaded")
    resumed = trainer(tmp_path / "resumed", **SAVED_TWICE | {"push_to_hub": False})
    resumed.train(resume_from_checkpoint=str(checkpoint))
    assert resumed.state.global_step == 2
    for one, other in zip(resumed.model.parameters(), run.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_end__pushes_nothing_before(hub, tmp_path):
    run = trainer(tmp_path / "run", **SAVED_TWICE, hub_strategy="end")
    run.train()
    run.save_model()
    assert hub.repos["tester/run"].titles == []
    run.push_to_hub("Enough", revision="trial")
    assert hub.repos["tester/run"].titles == ["Enough"]
    assert "POST /api/models/tester/run/commit/trial" in hub.requests


@pytest.mark.parametrize(
    ("content", "top", "folders"), [("encoder", ENCODER, set()), ("full", {"README.md"}, {"pretraining"})]
)
def test_content__is_what_was_asked_for(hub, tmp_path, content, top, folders):
    run = trainer(tmp_path / "run", push_to_hub=True, hub_content=content)
    run.push_to_hub()
    files = hub.repos["tester/run"].files
    assert {path for path in files if "/" not in path} == top - {".gitattributes"}
    assert top_folders(files) == folders


def test_push_to_hub__in_the_background_gives_a_future(hub, tmp_path):
    run = trainer(tmp_path / "run")  # without push_to_hub=True
    pushed = run.push_to_hub(blocking=False, private=True)
    assert pushed.result().oid == hub.repos["tester/run"].commits[-1].ident
    assert hub.repos["tester/run"].private


def test_token__is_written_nowhere_and_all_checkpoints_are_pushed(hub, tmp_path, monkeypatch, caplog):
    monkeypatch.delenv("HF_TOKEN")
    run = trainer(
        tmp_path / "run", **SAVED_TWICE, hub_token=TOKEN, hub_strategy="all_checkpoints", hub_always_push=True
    )
    run.train()
    run.push_to_hub()
    assert run.args.hub_token == TOKEN
    files = hub.repos["tester/run"].files
    assert top_folders(files) == {"pretraining", "checkpoint-1", "checkpoint-2"}
    assert "checkpoint-1/optimizer.pt" in files
    assert not [path for path in files if path.startswith("checkpoint-1/encoder")]
    written = [path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()]
    pushed = list(files.values())
    assert len(written) > 20
    assert len(pushed) > 20
    assert not [content for content in written + pushed if TOKEN.encode() in content]
    assert TOKEN not in caplog.text


def test_access__is_refused_before_the_first_step(hub, tmp_path):
    hub.repos["google/vit"] = Repo(writable=False)
    with pytest.raises(ValueError, match="'google/vit' can't be written to"):
        trainer(tmp_path / "run", push_to_hub=True, hub_model_id="google/vit")
    assert not (tmp_path / "run").exists()


def test_failed_push__in_progress_is_a_warning(hub, tmp_path, caplog):
    run = trainer(tmp_path / "run", **SAVED_TWICE, hub_always_push=True)
    hub.refused_commits = 100
    run.train()
    assert run.state.global_step == 2
    assert "Training in progress, step 1: tester/run was not pushed: " in caplog.text
    assert not (tmp_path / "run/_hub").exists()
    hub.refused_commits = 0
    run.push_to_hub()
    assert hub.repos["tester/run"].titles == ["End of training"]


def test_full_disk__for_the_copy_is_a_warning(hub, tmp_path, caplog, monkeypatch):
    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    run = trainer(tmp_path / "run", **SAVED_TWICE)
    monkeypatch.setattr(hub_trainer.shutil, "copy", full)
    run.train()
    assert run.state.global_step == 2
    assert "checkpoint-1 is not pushed: [Errno 28] No space left on device" in caplog.text
    assert (tmp_path / "run/checkpoint-2/model.safetensors").is_file()


class Release(TrainerCallback):
    """Lets pushes go on after the second save."""

    def __init__(self) -> None:
        self.event = threading.Event()

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 2:
            self.event.set()


@pytest.mark.parametrize("always", [False, True])
def test_slow_push__lets_the_next_one_out_unless_all_are_wanted(hub, tmp_path, monkeypatch, always):
    upload, release = hub_trainer.upload, Release()

    def slow(*args: Any) -> Any:
        assert release.event.wait(60)
        assert not (tmp_path / "run/checkpoint-1").exists()
        return upload(*args)

    monkeypatch.setattr(hub_trainer, "upload", slow)
    run = trainer(tmp_path / "run", callbacks=[release], **SAVED_TWICE, save_total_limit=1, hub_always_push=always)
    run.train()
    steps = [1, 2] if always else [1]
    assert hub.repos["tester/run"].titles == [f"Training in progress, step {step}" for step in steps]


def test_other_processes__ask_the_hub_nothing(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(hub_trainer.HubTrainer, "is_world_process_zero", lambda self: False)
    run = trainer(tmp_path / "run", **SAVED_TWICE)
    run.train()
    assert run.push_to_hub() is None
    assert hub.requests == []
