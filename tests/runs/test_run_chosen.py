"""Runs that name neither a recipe nor an encoder: data of every kind, and what is said of the settings."""

import json
import logging
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

import run_pretraining
from modeling_data2vec_generic import cli, pretrain
from modeling_data2vec_generic.runs import pretraining
from modeling_data2vec_generic.runs.arguments import PRETRAINING
from modeling_data2vec_generic.runs.chosen import with_output_dir

from ..tiny import (
    image_folder,
    image_parquet,
    protein_file,
    series_parquet,
    sound_folder,
    text_file,
    video_parquet,
)

pytestmark = pytest.mark.usefixtures("own_cache")

SOURCES = {
    "images in classes": ("train_dir", lambda folder: image_folder(folder / "photos", 30)),
    "images": ("train_dir", lambda folder: image_folder(folder / "photos", 30, labelled=False)),
    "encoded images": ("train_file", lambda folder: image_parquet(folder / "photos.parquet", 30)),
    "text": ("train_file", lambda folder: text_file(folder / "prose.txt")),
    "labelled text": ("train_file", lambda folder: text_file(folder / "prose.csv")),
    "proteins": ("train_file", lambda folder: protein_file(folder / "proteins.fasta")),
    "recordings": ("train_dir", lambda folder: sound_folder(folder / "speech", 30, seconds=0.5)),
    "series": ("train_file", lambda folder: series_parquet(folder / "waves.parquet", channels=1)),
    "series of several channels": ("train_file", lambda folder: series_parquet(folder / "waves.parquet")),
    "clips": ("train_file", lambda folder: video_parquet(folder / "clips.parquet", 30)),
}
FIRST = [pytest.param(name, marks=pytest.mark.fast if name in ("images", "text") else ()) for name in SOURCES]
QUICK = {
    "use_cpu": True,
    "disable_tqdm": True,
    "save_strategy": "no",
    "eval_strategy": "no",
    "max_steps": 1,
    "per_device_train_batch_size": 4,
    "per_device_eval_batch_size": 4,
}


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pretraining, "pictures_of", lambda *_: None)


@pytest.mark.parametrize("name", FIRST)
def test_run__of_any_data_needs_nothing_else(name, tmp_path):
    flag, write = SOURCES[name]
    source = write(tmp_path)
    run = pretrain(**{flag: str(source)}, **QUICK)
    assert run.trainer.state.global_step == 1
    assert run.output_dir == Path("output") / source.name.split(".")[0]
    assert (run.encoder_dir / "model.safetensors").is_file()
    card = (run.output_dir / "README.md").read_text(encoding="utf-8")
    assert "| `config_overrides` |" in card
    assert "| chosen: " in card


def dry(*flags):
    with redirect_stdout(StringIO()) as printed:
        run_pretraining.main([*flags, "--use_cpu", "--dry_run"])
    return printed.getvalue()


@pytest.mark.fast
def test_dry_run__shows_what_was_chosen_with_reasons(tmp_path):
    image_folder(tmp_path / "photos", 30)
    printed = " ".join(dry("--train_dir", "photos", "--num_masks", "2").split())
    assert "output_dir output/photos chosen: the name of the data" in printed
    assert "num_masks 2 flag" in printed
    assert "mask_ratio 0.75 chosen: as in the recipe own_images" in printed
    assert "max_steps 570 chosen: 400 passes over 23 samples" in printed
    assert not (tmp_path / "output" / "photos" / "config.json").exists()


@pytest.mark.fast
def test_run__lists_what_it_chose_and_warns_of_few_rows(tmp_path, caplog):
    caplog.set_level(logging.INFO, "modeling_data2vec_generic")
    with caplog.at_level(logging.INFO, "modeling_data2vec_generic.runs.chosen"):
        pretrain(train_file=text_file(tmp_path / "prose.txt"), learning_rate=1e-4, **QUICK)
    listed = next(record.getMessage() for record in caplog.records if "settings are chosen" in record.getMessage())
    assert "ema_decay " in listed
    assert "learning_rate " not in listed  # which was given
    assert any("training texts, and an encoder learns little" in record.getMessage() for record in caplog.records)


@pytest.mark.fast
def test_output_dir__is_one_that_holds_no_run(tmp_path):
    def chosen(*words):
        flags = cli.flags_of_words(list(words), PRETRAINING, "pretrain")
        _, data_args, *_, training_args = cli.parse(flags.all, PRETRAINING)
        found = with_output_dir(flags, data_args, training_args).chosen
        return found["output_dir"].value if found else None

    source = ["--train_dir", "some/photos"]
    assert chosen(*source) == "output/photos"
    assert chosen(*source, "--output_dir", "mine") is None
    assert chosen("--train_file", "data/leaves/train.parquet") == "output/leaves"
    assert chosen("--train_file", "data/more/*.jsonl") == "output/more"
    assert chosen("--dataset_name", "digits") == "output/digits"
    for held in ("photos", "photos-2"):
        (tmp_path / "output" / held).mkdir(parents=True)
        (tmp_path / "output" / held / "config.json").write_text("{}")
    assert chosen(*source) == "output/photos-3"
    assert chosen(*source, "--resume_from_checkpoint", "true") == "output/photos-2"
    assert chosen(*source, "--overwrite_output_dir") == "output/photos"


def test_run__that_is_resumed_chooses_the_same(tmp_path):
    image_folder(tmp_path / "photos", 30)
    settings = QUICK | {"train_dir": "photos", "save_strategy": "steps", "save_steps": 1}
    first = pretrain(**settings)
    resumed = pretrain(**settings | {"max_steps": 2, "resume_from_checkpoint": True})
    assert resumed.output_dir == first.output_dir
    assert resumed.trainer.state.global_step == 2
    state = json.loads((first.output_dir / "checkpoint-2" / "run.json").read_text())
    assert state


def test_stream__needs_its_steps_and_chooses_the_rest(tmp_path):
    source = text_file(tmp_path / "prose.csv")
    with pytest.raises(ValueError, match="--max_steps"):
        pretrain(train_file=source, streaming=True, **QUICK | {"max_steps": None})
    run = pretrain(train_file=source, streaming=True, **QUICK)
    assert run.trainer.stream_identity["max_seq_length"] == 32


@pytest.mark.fast
def test_recipe__without_an_encoder_is_an_error_as_before(tmp_path):
    recipe = tmp_path / "recipe.json"
    recipe.write_text(json.dumps({"max_steps": 2, "output_dir": str(tmp_path / "out")}))
    with pytest.raises(ValueError, match="Exactly one of .* 0 are given"):
        run_pretraining.main([str(recipe), "--dataset_name", "digits"])


@pytest.mark.fast
def test_data__that_are_not_named_are_an_error():
    with pytest.raises(ValueError, match="No training data"):
        pretrain(use_cpu=True)
