"""Damaged images, sound, text and configurations are used, skipped or refused with a clear error, in limited memory.

    FUZZ_INPUTS=20000 FUZZ_SEED=1 python -m pytest tests/runs/test_fuzz.py

tries other inputs, or more than the 2,000 of the suite.
"""

import json
import os
import random
import resource
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import ViTImageProcessorPil, Wav2Vec2FeatureExtractor
from transformers.utils import logging as transformers_logging

from modeling_data2vec_generic import Data2VecGenericConfig, Data2VecGenericForPreTraining
from modeling_data2vec_generic.data.arguments import DataArguments
from modeling_data2vec_generic.data.sources.raw_datasets import load_raw_datasets
from modeling_data2vec_generic.layout_data2vec_generic import UnsupportedBackboneError
from modeling_data2vec_generic.masking.sample_rng import RowGenerators
from modeling_data2vec_generic.modalities import modality_class
from modeling_data2vec_generic.modalities.speech.waveforms import prepare_speech
from modeling_data2vec_generic.modalities.text.tokenizer import train_tokenizer
from modeling_data2vec_generic.modalities.text.tokens import prepare_text
from modeling_data2vec_generic.modalities.vision.images import prepare_images
from modeling_data2vec_generic.modalities.vision.pixels import PixelPipeline, RandomResizedCrop
from modeling_data2vec_generic.runs import pretraining
from modeling_data2vec_generic.training.arguments import ModelArguments
from modeling_data2vec_generic.training.checkpointing.integrity import check_checkpoint
from modeling_data2vec_generic.training.encoders import load_encoder, new_encoder, new_encoder_config

from .. import tiny
from ..damage import damaged, damaged_json, whole_images, whole_sounds

INPUTS = int(os.environ.get("FUZZ_INPUTS", "2000"))
SEED = int(os.environ.get("FUZZ_SEED", "0"))
SHARES = {"images": 0.4, "sounds": 0.25, "texts": 0.2, "text files": 0.04, "recipes": 0.06, "configurations": 0.05}
MEMORY = 2 << 30  # bytes more than the process has
SECONDS = 5.0  # processor time for one input, or for 100 samples
ROWS = DataArguments(train_file="rows.parquet", max_bad_fraction=1.0)


def generators(kind: str) -> list[random.Random]:
    """A random generator for each input of a kind, so that any input can be made again alone."""
    count = round(INPUTS * SHARES[kind])
    return [random.Random(f"{SEED} {kind} {number}") for number in range(count)]


OUR_REFUSALS = (ValueError, UnsupportedBackboneError)


@pytest.fixture(autouse=True)
def _bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Limits memory to `MEMORY`. An allocation beyond it raises an error, which is not one of our own."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    with open("/proc/self/statm") as file:
        taken = int(file.read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def accepted(step: Callable[[], Any], name: str) -> Any:
    """The result of a step; None if it refuses its input with a message, by a ValueError or by argparse."""
    began = time.process_time()
    result, refusal = None, None
    try:
        result = step()
    except (ValueError, SystemExit) as error:
        refusal = error
    assert time.process_time() - began < SECONDS, name
    if isinstance(refusal, SystemExit):
        assert refusal.code == 2, name  # argparse named the flag
    elif refusal is not None:
        assert type(refusal) in OUR_REFUSALS, f"{name}: {refusal!r}"  # and not one of its other subclasses
        assert len(str(refusal)) > 20, f"{name}: {refusal!r}"
    return result


def chunks(values: Sequence[Any], size: int = 100) -> Iterator[tuple[int, Sequence[Any]]]:
    for start in range(0, len(values), size):
        yield start, values[start : start + size]


def rows_of(column: str, contents: Sequence[bytes]) -> Dataset:
    files = [{"bytes": content, "path": None} for content in contents]
    return Dataset.from_dict({column: files, "sample_index": list(range(len(files)))})


def test_images__damaged():
    whole = whole_images()
    processor = ViTImageProcessorPil(size={"height": 16, "width": 16}, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    pipeline, crop = PixelPipeline(processor), RandomResizedCrop()
    drawn = [damaged(whole[rng.choice(list(whole))], list(whole.values()), rng) for rng in generators("images")]
    kept = 0
    for start, contents in chunks(drawn):
        raw = rows_of("image", contents)
        prepared = accepted(lambda raw=raw: prepare_images(raw, ROWS, "train"), f"from {start}")
        for row in prepared or []:
            assert row["image"].mode == "RGB"
            streams = RowGenerators.for_samples(0, 0, [row["sample_index"]], purpose=3)
            for pixels in (pipeline.plain([row["image"]]), pipeline.cropped([row["image"]], crop, streams)):
                assert pixels.shape == (1, 3, 16, 16)
                assert torch.isfinite(pixels).all()
            kept += 1
    assert 0.05 * len(drawn) < kept < 0.6 * len(drawn)


def test_sounds__damaged():
    whole = whole_sounds()
    extractor = Wav2Vec2FeatureExtractor()
    drawn = [damaged(whole[rng.choice(list(whole))], list(whole.values()), rng) for rng in generators("sounds")]
    kept = 0
    for start, contents in chunks(drawn):
        raw = rows_of("audio", contents)
        prepared = accepted(lambda raw=raw: prepare_speech(raw, extractor, ROWS, "train", 400), f"from {start}")
        for row in prepared or []:
            assert row["audio"].dtype == np.float32
            assert 399 <= len(row["audio"]) <= 20 * 16_000 + 1
            assert np.isfinite(extractor(row["audio"], sampling_rate=16_000)["input_values"][0]).all()
            kept += 1
    assert 0.05 * len(drawn) < kept < 0.6 * len(drawn)


@pytest.mark.parametrize("line_by_line", [False, True])
def test_texts__damaged(line_by_line):
    tokenizer = train_tokenizer(tiny.sentences(20), 300)
    tokenizer.model_max_length = 32
    whole = [sentence.encode() for sentence in [*tiny.sentences(20), "ünï\u0301 \u202e\ufeff\0 🏴‍☠️ 漢字 \x1b[2J"]]
    drawn = [damaged(rng.choice(whole), whole, rng).decode("utf-8", "replace") for rng in generators("texts")]
    raw = Dataset.from_dict({"text": [*drawn, None, ""], "sample_index": range(len(drawn) + 2)})
    prepared = prepare_text(raw, tokenizer, ROWS, "train", line_by_line=line_by_line)
    for row in prepared:
        assert 0 < len(row["input_ids"]) <= 32
        assert len(row["special_tokens_mask"]) == len(row["input_ids"])
        assert all(0 <= token < len(tokenizer) for token in row["input_ids"])


def text_files() -> dict[str, bytes]:
    rows = [{"text": sentence, "label": number % 3} for number, sentence in enumerate(tiny.sentences(12))]
    return {
        "txt": "\n".join(row["text"] for row in rows).encode(),
        "csv": "\n".join(["text,label", *(f"{row['text']},{row['label']}" for row in rows)]).encode(),
        "json": json.dumps(rows).encode(),
        "jsonl": "\n".join(map(json.dumps, rows)).encode(),
        "fasta": "\n".join(f">{number}\nMKVLAAGIC" for number in range(12)).encode(),
    }


def test_text_files__damaged(tmp_path):
    whole = text_files()
    tokenizer = train_tokenizer(tiny.sentences(20), 300)
    for number, rng in enumerate(generators("text files")):
        kind = rng.choice(list(whole))
        path = tmp_path / f"{number}.{kind}"
        path.write_bytes(damaged(whole[kind], [*whole.values(), b"\0" * 50, b"\xff\xfe", b"\\ud800", b"["], rng))
        args = DataArguments(train_file=str(path), modality="text", max_bad_fraction=1.0, max_seq_length=16)

        def load(args: DataArguments = args) -> Dataset:
            return prepare_text(load_raw_datasets(args, "text")["train"], tokenizer, args, "train")

        accepted(load, path.name)


def test_recipes__damaged(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    whole = json.loads(Path(__file__).parents[2].joinpath("examples/vision/digits.json").read_text())
    for number, rng in enumerate(generators("recipes")):
        Path("recipe.json").write_bytes(damaged_json(whole, rng))

        def build() -> None:
            model_args, *_ = pretraining.parse(["recipe.json", "--use_cpu", "--report_to", "none"])
            if model_args.model_name_or_path is None:
                new_encoder(new_encoder_config(model_args))

        accepted(build, f"recipe {number}")


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, Path]:
    """Complete folders: of an encoder, of our model, and of the other files of a checkpoint."""
    encoder = tiny.tiny_encoder("vit")
    folders = {name: tmp_path / name for name in ("encoder", "ours", "text")}
    for name in ("encoder", "ours"):
        processor = ViTImageProcessorPil(size={"height": 16, "width": 16}, image_mean=[0.5] * 3, image_std=[0.5] * 3)
        processor.save_pretrained(folders[name])
    encoder.save_pretrained(folders["encoder"])
    Data2VecGenericForPreTraining(Data2VecGenericConfig(), encoder).save_pretrained(folders["ours"])
    tiny.tiny_encoder("bert", vocab_size=300).save_pretrained(folders["text"])
    train_tokenizer(tiny.sentences(20), 300).save_pretrained(folders["text"])
    state = {"global_step": 1, "max_steps": 2, "epoch": 0.5, "log_history": [{"step": 1, "loss": 0.5}]}
    (folders["ours"] / "trainer_state.json").write_text(json.dumps(state))
    torch.save({"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": []}, folders["ours"] / "optimizer.pt")
    return folders


def use(folder: Path, name: str) -> None:
    """Does with a folder what a run does: loads the encoder and its processor, or resumes from it as a checkpoint."""
    model_args = ModelArguments(model_name_or_path=str(folder))
    if name == "ours":
        check_checkpoint(folder)
    raw = Dataset.from_dict({"image": [], "text": []})
    data_args = DataArguments(train_file="rows.parquet", max_seq_length=16)
    modality = modality_class("text" if name == "text" else "vision")(model_args, data_args, raw)
    encoder = load_encoder(model_args)
    modality.fit(encoder)
    if name != "text":
        PixelPipeline(modality.processor)


def test_configurations__damaged(sources, tmp_path):
    for name, folder in sources.items():
        use(folder, name)
    for number, rng in enumerate(generators("configurations")):
        name = rng.choice(list(sources))
        folder = shutil.copytree(sources[name], tmp_path / f"{name} {number}")
        path = rng.choice(sorted(path for path in folder.iterdir() if path.suffix != ".py"))
        whole = path.read_bytes()
        if path.suffix == ".json":
            path.write_bytes(damaged_json(json.loads(whole), rng))
        else:
            path.write_bytes(damaged(whole, [whole], rng))
        accepted(lambda folder=folder, name=name: use(folder, name), f"{name} {number}: {path.name}")
        shutil.rmtree(folder)


def test_run__over_a_folder_with_a_twentieth_damaged_finishes_and_names_them(tmp_path, caplog):
    folder = tiny.image_folder(tmp_path / "images", 57)
    rng = random.Random(SEED)
    files = sorted(folder.rglob("*.*"))
    for path in files[10:40:10]:
        path.write_bytes(damaged(path.read_bytes()[:60], [b"\0" * 60], rng))
    transformers_logging.enable_propagation()
    flags = [*tiny.from_scratch("vit"), "--train_dir", str(folder), "--validation_split_percentage", "0"]
    trainer = tiny.run(*flags, output_dir=tmp_path / "out")
    transformers_logging.disable_propagation()
    assert trainer.state.global_step == 2
    assert "3 of 57 train images are bad" in caplog.text
    assert all(f"{path}: " in caplog.text for path in files[10:40:10])
    assert len(trainer.train_dataset) == 54
