"""Checkpoints as fairseq writes them, with the weights and settings of the reference numbers."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..reference import load, part

# What fairseq's trainer writes besides the model; of its settings, those of the reference.
SETTINGS: dict[str, dict[str, Any]] = {
    "v1_text": {
        "_name": "data2vec_text",
        "transformer": {
            "dropout": 0.1,
            "activation_fn": "gelu",
            "no_scale_embedding": True,
            "encoder": {"attention_heads": 4, "normalize_before": False, "learned_pos": True},
        },
    },
    "v1_vision": {"_name": "data2vec_vision", "num_heads": 4, "drop_path": 0.25},
    "v1_audio": {
        "_name": "data2vec_audio",
        "extractor_mode": "layer_norm",
        "encoder_attention_heads": 4,
        "conv_feature_layers": "[(24, 10, 5)] + [(24, 3, 2)] * 2",
        "layer_norm_first": False,
    },
    "v2_text": {"_name": "data2vec_multi", "num_heads": 4, "norm_eps": 1e-5, "layer_norm_first": False},
    "v2_image": {"_name": "data2vec_multi", "num_heads": 4, "norm_eps": 1e-6, "layer_norm_first": False},
    "v2_audio": {
        "_name": "data2vec_multi",
        "num_heads": 4,
        "norm_eps": 1e-5,
        "modalities": {
            "audio": {"feature_encoder_spec": "[(24, 10, 5)] + [(24, 3, 2)] * 2", "extractor_mode": "layer_norm"}
        },
    },
}
INPUTS = {"v1_text": "target_tokens", "v1_vision": "img", "v1_audio": "wav"}  # of the others: source


def weights_of(name: str) -> dict[str, Any]:
    """The state dict of the student, with that of the teacher in it, as fairseq nests them."""
    _, tensors = load(name)
    teacher = part(tensors, "teacher/")
    return part(tensors, "student/") | {"encoder._ema" if name == "v1_text" else "_ema": teacher}


def source_of(name: str) -> Tensor:
    """What the reference's teacher reads."""
    return load(name)[1][INPUTS.get(name, "source")]


def checkpoint_of(name: str, weights: dict[str, Any] | None = None, **others: Any) -> dict[str, Any]:
    """All that the trainer writes; `others` are added, or replace it."""
    return {
        "args": None,
        "cfg": {"model": SETTINGS[name], "task": {"normalize": True, "sample_rate": 16_000}},
        "model": weights_of(name) if weights is None else weights,
        "criterion": None,
        "optimizer_history": [{"optimizer_name": "FP16Optimizer", "num_updates": 10}],
        "task_state": {},
        "extra_state": {"metrics": [], "previous_training_time": 1.5},
        "last_optimizer_state": {"state": {0: torch.ones(3)}, "param_groups": [{"lr": 1e-3}]},
    } | others


def write(folder: Path, name: str, weights: dict[str, Any] | None = None, **others: Any) -> Path:
    """The file of `checkpoint_of`."""
    path = folder / f"{name}.pt"
    torch.save(checkpoint_of(name, weights, **others), path)
    return path
