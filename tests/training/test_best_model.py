"""The best checkpoint by the probe is what a run ends with."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoModel

from ..tiny import run

FLAGS = (
    "examples/vision/digits.json --config_overrides image_size=8,patch_size=2,hidden_size=32,num_hidden_layers=3,"
    "num_attention_heads=2,intermediate_size=64 --probe_train_samples 200 --probe_test_samples 200 "
    "--per_device_train_batch_size 32 --eval_strategy steps --eval_steps 5 --save_strategy steps --save_steps 5 "
    "--load_best_model_at_end true --metric_for_best_model eval_knn_accuracy --learning_rate .1 --warmup_steps 10"
)


def test_best_by_knn__student_teacher_encoder_and_metrics(tmp_path: Path):
    trainer = run(*FLAGS.split(), output_dir=tmp_path, steps=20)

    state = trainer.state
    accuracies = {
        entry["step"]: entry["eval_knn_accuracy"] for entry in state.log_history if "eval_knn_accuracy" in entry
    }
    best = max(accuracies, key=lambda step: accuracies[step])  # the rate is far too high: the end is worse
    assert accuracies[best] > accuracies[20] + 0.05
    assert state.best_metric == accuracies[best]
    assert Path(state.best_model_checkpoint) == tmp_path / f"checkpoint-{best}"
    wanted = load_file(tmp_path / f"checkpoint-{best}" / "model.safetensors")
    saved = load_file(tmp_path / "model.safetensors")
    assert set(saved) == set(wanted)
    assert any(name.startswith("teacher.") for name in saved)
    for name, tensor in wanted.items():
        assert torch.equal(tensor, saved[name]), name
    encoder = AutoModel.from_pretrained(tmp_path / "encoder")
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(tensor, wanted[f"encoder.{name}"]), name
    results = json.loads((tmp_path / "all_results.json").read_text(encoding="utf-8"))
    assert results["eval_knn_accuracy"] == accuracies[best]
