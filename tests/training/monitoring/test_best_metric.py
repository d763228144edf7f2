"""The best checkpoint by the probe is what a run ends with."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel

from modeling_data2vec_generic.evaluation.probe import Probe

from ...tiny import from_scratch, image_folder, run

FLAGS = (
    "--eval_strategy steps --eval_steps 1 --save_strategy steps --save_steps 1 --learning_rate .001 "
    "--load_best_model_at_end true --metric_for_best_model eval_knn_accuracy"
)


def test_best_by_knn__student_teacher_encoder_and_metrics(tmp_path: Path, monkeypatch):
    accuracies = iter([0.2, 0.4, 0.9, 0.5, 0.3])  # before the first step and at each evaluation
    by_weights: dict[float, float] = {}

    def measured(probe: Probe, encoder: torch.nn.Module) -> dict[str, float]:
        weights = sum(float(parameter.double().abs().sum()) for parameter in encoder.parameters())
        if weights not in by_weights:  # the same weights are as good whenever they are looked at
            by_weights[weights] = next(accuracies)
        return {"knn_accuracy": by_weights[weights]}

    monkeypatch.setattr(Probe, "__call__", measured)
    out = tmp_path / "out"
    data = ["--train_dir", str(image_folder(tmp_path / "images"))]
    trainer = run(*from_scratch("vit"), *data, *FLAGS.split(), output_dir=out, steps=4)

    assert trainer.state.best_metric == 0.9
    assert Path(trainer.state.best_model_checkpoint) == out / "checkpoint-2"
    best, last, saved = (
        load_file(folder / "model.safetensors") for folder in (out / "checkpoint-2", out / "checkpoint-4", out)
    )
    for side in ("encoder.", "teacher."):
        assert any(not torch.equal(best[name], last[name]) for name in best if name.startswith(side))
    assert set(saved) == set(best)
    assert all(torch.equal(saved[name], best[name]) for name in best)
    encoder = AutoModel.from_pretrained(out / "encoder").state_dict()
    assert all(torch.equal(encoder[name], best[f"encoder.{name}"]) for name in encoder)
    results = json.loads((out / "all_results.json").read_text(encoding="utf-8"))
    assert (results["init_knn_accuracy"], results["eval_knn_accuracy"]) == (0.2, 0.9)


@pytest.mark.parametrize(
    ("metric", "labelled", "names"),
    [
        ("knn_accuracy", False, "eval_effective_rank, eval_loss, eval_prediction_std, .*need labelled data"),
        ("eval_accuracy", True, "eval_effective_rank, eval_knn_accuracy, eval_linear_accuracy, eval_loss, "),
    ],
)
def test_metric_that_is_not_measured__is_refused_before_the_first_step(metric, labelled, names, tmp_path, capsys):
    images = image_folder(tmp_path / "images", labelled=labelled)
    flags = [*FLAGS.split(), "--metric_for_best_model", metric]
    with pytest.raises(ValueError, match=f"metric_for_best_model='{metric}' is not among what.*: {names}"):
        run(*from_scratch("vit"), "--train_dir", str(images), *flags, output_dir=tmp_path / "out")
    assert "'loss'" not in capsys.readouterr().out
    assert not list(tmp_path.glob("out/checkpoint-*"))
