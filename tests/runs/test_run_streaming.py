"""Runs with --streaming, in one part and resumed."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from modeling_data2vec_generic.training.monitoring.speed import MEASURED

from ..tiny import from_scratch, image_folder, run, sound_folder, text_file

TOKENIZER = ["--train_tokenizer", "--tokenizer_vocab_size", "300", "--max_seq_length", "16"]


def text(folder: Path) -> list[str]:
    return [*from_scratch("bert"), "--train_file", str(text_file(folder / "text.txt")), *TOKENIZER]


def images(folder: Path) -> list[str]:
    return [*from_scratch("vit"), "--train_dir", str(image_folder(folder / "images"))]


def sound(folder: Path) -> list[str]:
    return [*from_scratch("wav2vec2"), "--train_dir", str(sound_folder(folder / "sound")), "--mask_length", "2"]


def log_of(folder: Path) -> list[dict[str, float]]:
    history = json.loads((folder / "trainer_state.json").read_text())["log_history"]
    return [{name: value for name, value in entry.items() if not name.endswith(MEASURED)} for entry in history]


@pytest.mark.parametrize(("source", "workers"), [(text, 0), (images, 1)])
def test_resumed_stream__equals_uninterrupted(source, workers, tmp_path, monkeypatch):
    monkeypatch.setattr("modeling_data2vec_generic.training.monitoring.health.SAMPLES", 16)  # from several windows
    flags = [*source(tmp_path), "--streaming", "--shuffle_buffer_size", "28", "--save_strategy", "steps"]
    flags += ["--save_steps", "3", "--gradient_accumulation_steps", "2", "--dataloader_num_workers", str(workers)]
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    run(*flags, output_dir=whole, steps=6)
    run(*flags, "--resume_from_checkpoint", str(whole / "checkpoint-3"), output_dir=resumed, steps=6)
    assert log_of(whole) == log_of(resumed)
    last = [folder / "checkpoint-6" for folder in (whole, resumed)]
    for file in ("model.safetensors", "teacher.safetensors", "running_state.safetensors"):
        one, two = (load_file(folder / file) for folder in last)
        one.pop("seconds", None)
        assert all(torch.equal(one[name], two[name]) for name in one), file
    optimizers = [torch.load(folder / "optimizer.pt", weights_only=True)["state"] for folder in last]
    for number, state in optimizers[0].items():
        assert all(torch.equal(state[name], optimizers[1][number][name]) for name in state)
    places = [json.loads((folder / "stream.json").read_text()) for folder in last]
    assert places[0] == places[1]
    assert places[0]["position"]["samples"] == 6 * 2 * 4


@pytest.mark.timeout(120)  # a run that does not stop would be endless
def test_resumed_stream__that_lacks_no_step_ends(tmp_path):
    flags = [*text(tmp_path), "--streaming", "--save_strategy", "steps", "--save_steps", "2"]
    run(*flags, output_dir=tmp_path / "out", steps=2)
    whole = log_of(tmp_path / "out")
    (tmp_path / "out" / "all_results.json").unlink()  # as if the run was killed before it was written
    trainer = run(*flags, "--resume_from_checkpoint", "true", output_dir=tmp_path / "out", steps=2)
    assert trainer.state.global_step == 2
    assert log_of(tmp_path / "out") == whole


def test_streamed_sound__is_evaluated_and_probed(tmp_path):
    held_out = sound_folder(tmp_path / "held_out", count=9)
    trainer = run(
        *sound(tmp_path), "--streaming", "--validation_dir", str(held_out), "--max_eval_samples", "6",
        output_dir=tmp_path / "out",
    )  # fmt: skip
    assert len(trainer.eval_dataset) == 6
    metrics = trainer.final_metrics()
    assert {"eval_loss", "eval_knn_accuracy"} <= metrics.keys()


def test_changed_stream__is_refused(tmp_path):
    flags = [*text(tmp_path), "--streaming", "--save_strategy", "steps", "--save_steps", "1"]
    run(*flags, output_dir=tmp_path / "out", steps=1)
    resumed = [*flags, "--shuffle_buffer_size", "5", "--resume_from_checkpoint", "true"]
    with pytest.raises(ValueError, match="shuffle_buffer_size was 1000 and is 5"):
        run(*resumed, output_dir=tmp_path / "out", steps=2)


def test_stream_without_steps__is_refused(tmp_path):
    with pytest.raises(ValueError, match="--max_steps"):
        run(*text(tmp_path), "--streaming", output_dir=tmp_path / "out", steps=-1)
