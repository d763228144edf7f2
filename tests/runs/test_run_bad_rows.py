"""Runs over many images, some of which are broken: few are looked at first, and the others are replaced when read."""

import io
import json
from pathlib import Path

import pytest
import torch
from datasets import Dataset, Features, Image, Value

import run_pretraining
from modeling_data2vec_generic.modalities.vision import images
from modeling_data2vec_generic.runs import pretraining

from ..tiny import CLASSES, from_scratch, pictures, run, run_flags

pytestmark = pytest.mark.fast

ROWS = 2000
BROKEN = range(0, ROWS, 16)  # as often as not a JPEG file, which is broken behind its header


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> Path:
    """PNG and JPEG files in a table, some of them broken, and their classes."""
    whole = []
    for number, picture in enumerate(pictures(6, (24, 24))):
        buffer = io.BytesIO()
        picture.save(buffer, ("PNG", "JPEG")[number % 2])
        whole.append(buffer.getvalue())
    files = [{"bytes": whole[row % 6], "path": f"{row}.img"} for row in range(ROWS)]
    for row in BROKEN:
        files[row] = {"bytes": whole[row // 16 % 2][:-200], "path": f"{row}.img"}
    features = Features({"image": Image(decode=False), "label": Value("string"), "number": Value("int64")})
    path = tmp_path_factory.mktemp("table") / "images.parquet"
    data = {"image": files, "label": [CLASSES[row % 3] for row in range(ROWS)], "number": range(ROWS)}
    Dataset.from_dict(data, features).to_parquet(path)
    return path


def flags(table: Path, *more: str) -> list[str]:
    data = ["--train_file", str(table), "--validation_split_percentage", "20", "--image_column_name", "image"]
    evaluation = "--max_eval_samples 270 --per_device_eval_batch_size 40"
    probe = "--probe_train_samples 60 --probe_test_samples 40"
    return [*from_scratch("vit"), *data, *evaluation.split(), *probe.split(), *more]


def test_run__looks_at_256_images_of_each_split_first(table, tmp_path, monkeypatch, own_cache):
    decoded = []
    image_file = images.image_file
    monkeypatch.setattr(images, "image_file", lambda value: decoded.append(value["path"]) or image_file(value))

    class BeforeFirstStep(Exception):
        pass

    def stop(*args, **kwargs):
        raise BeforeFirstStep

    monkeypatch.setattr(pretraining.Data2VecTrainer, "train", stop)
    everything = "--check_data --preprocessing_num_workers 2 --max_eval_samples 400".split()
    for more, most in ([], 512), (everything, 0):  # other processes look at everything
        decoded.clear()
        with pytest.raises(BeforeFirstStep):
            run_pretraining.main([*run_flags(tmp_path / str(most), 2), *flags(table, *more)])
        assert len(decoded) == most
        listed = (tmp_path / str(most) / "bad_rows.jsonl").read_text().splitlines()
        assert (len(listed) == len(BROKEN)) == bool(more)


def test_run__replaces_and_lists_what_it_meets(table, tmp_path, caplog):
    broken = {f"{row}.img" for row in BROKEN}
    trainer = run(
        *flags(table, "--eval_strategy", "steps", "--eval_steps", "2", "--per_device_train_batch_size", "60"),
        output_dir=tmp_path,
    )
    rows = [json.loads(line) for line in (tmp_path / "bad_rows.jsonl").read_text().splitlines()]
    listed = [row["path"] for row in rows]
    assert len(set(listed)) == len(listed)
    assert set(listed) <= broken
    assert {row["split"] for row in rows} == {"train", "validation"}
    assert trainer.rows.read == {"train": 120, "validation": 270}
    of_validation = {f"{row}.img" for row in BROKEN if row in validation_rows(trainer)}
    assert trainer.rows.bad["validation"] == len(of_validation)
    assert of_validation <= set(listed)
    assert trainer.rows.bad["train"] > 0
    results = json.loads((tmp_path / "all_results.json").read_text())
    assert all(torch.isfinite(torch.tensor(results[name])) for name in ("eval_loss", "eval_linear_accuracy"))


def validation_rows(trainer) -> set[int]:
    return {int(path.removesuffix(".img")) for path in paths_of(trainer.eval_dataset)}


def paths_of(dataset: Dataset) -> list[str]:
    return [value["path"] for value in dataset.with_format(None)["image"]]


def test_run__ends_with_too_many_of_those_looked_at(table, tmp_path):
    with pytest.raises(ValueError, match=r"\d+ of the 256 train images looked at first, out of 1600, are bad"):
        run(*flags(table, "--max_bad_fraction", "0.01"), output_dir=tmp_path)
