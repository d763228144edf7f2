"""Whole runs that are called from Python, several of them in one process."""

import json

import pytest
from transformers import AutoModel

import modeling_data2vec_generic
from modeling_data2vec_generic import finetune, pretrain
from modeling_data2vec_generic.runs import pretraining

from ..tiny import image_folder

pytestmark = pytest.mark.usefixtures("own_cache")

TINY = {
    "model_type": "vit",
    "config_overrides": "image_size=16,patch_size=4,hidden_size=16,num_hidden_layers=2,num_attention_heads=2,"
    "intermediate_size=32",
}
QUICK = {
    "max_steps": 1,
    "per_device_train_batch_size": 4,
    "use_cpu": True,
    "report_to": "none",
    "save_strategy": "no",
    "disable_tqdm": True,
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A pre-training run of a dictionary, and fine-tuning runs of its encoder: one, and nearest neighbours."""
    folder = tmp_path_factory.mktemp("runs")
    images = image_folder(folder / "images")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretraining, "pictures_of", lambda *_: None)
        recipe = TINY | QUICK | {"train_dir": images, "max_steps": 3, "probe_test_samples": 5}
        pretrained = pretrain(recipe, max_steps=2, probe_test_samples=None, output_dir=folder / "pretrained")
    source = {"model_name_or_path": pretrained.encoder_dir, "train_dir": images}
    finetuned = finetune(**source, **QUICK, output_dir=folder / "finetuned")
    neighbours = finetune(**source, **QUICK, knn=True, output_dir=folder / "knn")
    return pretrained, finetuned, neighbours


def test_pretrain__returns_trainer_metrics_and_paths(runs):
    run = runs[0]
    assert (run.trainer.state.global_step, run.trainer.args.probe_test_samples) == (2, 10000)
    assert run.metrics == pytest.approx(json.loads((run.output_dir / "all_results.json").read_text()))
    assert {"train_loss", "eval_loss", "init_knn_accuracy", "eval_knn_accuracy", "health"} <= set(run.metrics)
    assert run.encoder_dir == run.output_dir / "encoder"
    loaded = AutoModel.from_pretrained(run.encoder_dir)
    assert loaded.num_parameters() == run.trainer.model.encoder.num_parameters()


def test_finetune__returns_trainer_metrics_and_paths(runs):
    _, run, neighbours = runs
    assert run.trainer.state.global_step == 1
    assert (
        run.metrics["eval_accuracy"] == json.loads((run.output_dir / "all_results.json").read_text())["eval_accuracy"]
    )
    assert run.encoder_dir == run.output_dir
    assert AutoModel.from_pretrained(run.encoder_dir).config.hidden_size == 16
    assert (neighbours.trainer, neighbours.encoder_dir) == (None, None)
    assert 0 <= neighbours.metrics["eval_accuracy"] <= 1


def test_finetune__of_several_seeds_returns_their_summary(runs, tmp_path):
    source = {"model_name_or_path": runs[0].encoder_dir, "train_dir": runs[0].output_dir.parent / "images"}
    run = finetune(**source, **QUICK, seeds=[0, 1], output_dir=tmp_path / "out")
    assert run.metrics == json.loads((run.output_dir / "all_results.json").read_text())
    assert {"eval_accuracy", "eval_accuracy_ci95"} <= set(run.metrics)
    assert run.output_dir == tmp_path / "out"
    assert run.encoder_dir == run.output_dir / "seed-1"
    assert run.trainer.args.seed == 1


@pytest.mark.fast
@pytest.mark.parametrize("function", [pretrain, finetune])
def test_errors__are_raised_with_their_messages(function):
    with pytest.raises(ValueError, match="no recipe 'digit' for `data2vec"):
        function("digit")
    with pytest.raises(ValueError, match="There is no flag --max_step: did you mean --max_steps"):
        function(max_step=3)


@pytest.mark.fast
def test_public_names__can_all_be_imported():
    for name in modeling_data2vec_generic.__all__:
        assert getattr(modeling_data2vec_generic, name).__name__ == name
        assert name in dir(modeling_data2vec_generic)
    with pytest.raises(AttributeError, match="has no attribute 'pretrian'"):
        modeling_data2vec_generic.pretrian  # noqa: B018
