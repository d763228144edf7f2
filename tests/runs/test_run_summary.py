"""A run summarises its data once before the first step, and lists all bad rows in its output directory."""

import json
from itertools import islice
from pathlib import Path

import pytest

import run_finetune
from modeling_data2vec_generic.data.quality.reading import ROWS_READ
from modeling_data2vec_generic.runs import finetuning, pretraining

from ..tiny import from_scratch, image_folder, run, run_flags, tiny_encoder

pytestmark = pytest.mark.fast


class BeforeFirstStep(Exception):
    pass


@pytest.fixture(autouse=True)
def _without_training(monkeypatch, own_cache):
    def stop(*args, **kwargs):
        raise BeforeFirstStep

    monkeypatch.setattr(pretraining.Data2VecTrainer, "train", stop)
    monkeypatch.setattr(finetuning.Comparison, "run", stop)


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """Makes a folder of twenty images, of which one is broken."""
    folder = image_folder(tmp_path_factory.mktemp("images"), count=20)
    next(folder.rglob("*.png")).write_bytes(b"broken")
    return folder


def summaries(caplog) -> list[str]:
    return [record.message for record in caplog.records if record.message.startswith("The data:")]


def listed(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "bad_rows.jsonl").read_text().splitlines()]


def test_pretraining__says_the_same_once_more_when_all_is_in_the_cache(images, tmp_path, caplog):
    for number in range(2):
        with pytest.raises(BeforeFirstStep):
            run(*from_scratch("vit"), "--train_dir", str(images), output_dir=tmp_path / str(number))
    first, second = summaries(caplog)
    assert first == second
    for sentence in ("20 files of images", "3 classes", "1 of ", "rows are held out"):
        assert sentence in first
    (row,) = listed(tmp_path / "0")
    assert row["path"].endswith(".png")
    assert "UnidentifiedImageError" in row["reason"]


def test_streamed_pretraining__says_so_too_and_reports_bad_rows(images, tmp_path, caplog):
    flags = [*from_scratch("vit"), "--train_dir", str(images), "--streaming", "--shuffle_buffer_size", "20"]
    trainers = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretraining, "train_and_save", lambda trainer, checkpoint: trainers.append(trainer) or {})
        patch.setattr(pretraining, "report", lambda **settings: None)
        run(*flags, output_dir=tmp_path)
    (summary,) = summaries(caplog)
    assert "20 rows of the stream are looked at here" in summary
    batches = islice(trainers[0].train_dataset, 60)
    reports = [bad for batch in batches for sample in batch.samples for bad in sample[ROWS_READ].bad]
    (bad,) = {(bad.path, bad.reason) for bad in reports}
    assert bad[0].endswith(".png")
    assert "UnidentifiedImageError" in bad[1]


def test_finetuning__says_so_too(images, tmp_path, caplog):
    tiny_encoder("vit").save_pretrained(tmp_path / "vit")
    flags = ["--model_name_or_path", str(tmp_path / "vit"), "--train_dir", str(images)]
    with pytest.raises(BeforeFirstStep):
        run_finetune.main([*flags, *run_flags(tmp_path / "out", 2)])
    (summary,) = summaries(caplog)
    assert "20 files of images" in summary
    assert len(listed(tmp_path / "out")) == 1
