import os
from types import SimpleNamespace

import pytest

from modeling_data2vec_generic.data.arguments import DataArguments
from modeling_data2vec_generic.reporting.provenance import FLAG, Setting
from modeling_data2vec_generic.reporting.run_summary import about_card, about_data, about_training, about_weights
from modeling_data2vec_generic.training.arguments import ModelArguments

pytestmark = pytest.mark.fast


def test_about_weights__tells_hub_ids_from_folders(tmp_path):
    (tmp_path / "run" / "encoder").mkdir(parents=True)

    def found(source):
        return about_weights(ModelArguments(model_name_or_path=source))

    assert found("someone/vit") == {"begun_from": "someone/vit", "base_model": "someone/vit"}
    assert found(str(tmp_path / "run")) == {"begun_from": "run"}
    assert found(str(tmp_path / "run" / "encoder")) == {"begun_from": "run/encoder"}
    assert about_weights(ModelArguments(model_type="vit")) == {}


def test_about_data__tells_data_sets_of_the_hub_from_others(tmp_path):
    (tmp_path / "own.csv").write_text("text\n")
    names = ["someone/images", "digits", str(tmp_path / "own.csv")]
    mixed = DataArguments(dataset_name=names, train_dir=[f"{tmp_path}/more"], dataset_weights=[1, 1, 1, 1])
    assert about_data(mixed) == {"sources": ["someone/images", "digits", "own.csv", "more"], "datasets": names[:1]}


@pytest.mark.parametrize(("rows", "samples", "epochs"), [(100, 150, 1.5), (None, 160, None)])
def test_about_training__counts_samples_by_epochs_where_their_number_is_known(rows, samples, epochs):
    """A last batch of an epoch may be smaller than the others. A stream has no epochs."""
    history = [{"loss": 1.0}, {"train_runtime": 12.5}]
    trainer = SimpleNamespace(
        state=SimpleNamespace(global_step=10, epoch=1.5, log_history=history),
        args=SimpleNamespace(device=SimpleNamespace(type="cpu"), world_size=1),
        get_total_train_batch_size=lambda args: 16,
    )
    found = about_training(trainer, rows)
    assert (found["samples"], found["epochs"], found["steps"], found["seconds"]) == (samples, epochs, 10, 12.5)
    assert found["hardware"] == f"a CPU with {os.cpu_count()} cores"


def test_about_card__names_files_without_their_folders(tmp_path):
    settings = [
        Setting("modality", "text", FLAG, "data"),
        Setting("train_file", [f"{tmp_path}/a.txt", "more/*.txt"], FLAG, "data"),
        Setting("model_name_or_path", str(tmp_path), FLAG, "model"),
    ]
    (tmp_path / "a.txt").touch()
    found = about_card(SimpleNamespace(license="mit", language=None), settings)
    assert [setting.value for setting in found["settings"]] == ["text", ["a.txt", "more/*.txt"], tmp_path.name]
    assert found["license"] == "mit"
    assert "transformers" in found["versions"]
