"""Everything that is sent to loader workers can be pickled, since they are not always forked (macOS, Python 3.14)."""

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Trainer

import run_finetune
import run_pretraining
from modeling_data2vec_generic.data.streams.sample_stream import SampleStream

from ..finetuning.tasks.test_ctc import sung_rows
from ..finetuning.tasks.test_ctc import write_jsonl as write_sung
from ..finetuning.tasks.test_image_segmentation import masked_pictures
from ..finetuning.tasks.test_image_segmentation import rows as mask_rows
from ..tiny import (
    from_scratch,
    image_parquet,
    run_flags,
    sentences,
    series_parquet,
    sound_folder,
    text_file,
    video_parquet,
)
from .test_run_modalities import ENCODERS

pytestmark = pytest.mark.usefixtures("own_cache")

TOKENIZER = "--train_tokenizer --tokenizer_vocab_size 300 --max_seq_length 16".split()
SPAWNED = "--dataloader_num_workers 1 --dataloader_multiprocessing_context spawn".split()


class Trained(Exception):
    """Raised in place of training."""


@pytest.fixture
def pickled(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Any]]:
    """Runs a script up to its first step, and returns a batch of the training data and one of the evaluation data.

    They are made by pickled copies of what workers would be sent.
    """

    def train(trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        raise Trained(trainer)

    monkeypatch.setattr(Trainer, "train", train)

    def batches(main: Callable[[list[str]], None], *flags: str, output_dir: Path) -> list[Any]:
        with pytest.raises(Trained) as caught:
            main([*run_flags(output_dir, 2), *flags, *SPAWNED])
        trainer = caught.value.args[0]
        found = []
        for loader in (trainer.get_train_dataloader(), trainer.get_eval_dataloader()):
            loader = getattr(loader, "base_dataloader", loader)
            assert loader.multiprocessing_context.get_start_method() == "spawn"
            sent = loader.dataset, loader.collate_fn, loader.worker_init_fn
            dataset, collate, _ = pickle.loads(pickle.dumps(sent))
            streamed = isinstance(dataset, SampleStream)
            rows = next(iter(replace(dataset, batch_size=4))) if streamed else list(islice(dataset, 4))
            found.append(collate(rows))
        # Frozen features are read by workers too.
        pickle.dumps(trainer.task.inputs if hasattr(trainer, "task") else trainer.feature_metrics.collate)
        return found

    return batches


def new_images(folder: Path) -> list[str]:
    return ["--train_file", str(image_parquet(folder / "images.parquet")), *from_scratch("vit")]


def new_text(folder: Path) -> list[str]:
    return ["--train_file", str(text_file(folder / "text.jsonl")), *from_scratch("bert"), *TOKENIZER]


def new_sound(folder: Path) -> list[str]:
    return ["--train_dir", str(sound_folder(folder / "sound")), *from_scratch("wav2vec2"), "--mask_length", "2"]


def new_series(folder: Path) -> list[str]:
    file = series_parquet(folder / "series.parquet")
    return ["--train_file", str(file), "--model_type", "patchtst", "--config_overrides", ENCODERS["patchtst"]]


def new_clips(folder: Path) -> list[str]:
    file = video_parquet(folder / "video.parquet")
    return ["--train_file", str(file), "--model_type", "videomae", "--config_overrides", ENCODERS["videomae"]]


@pytest.mark.parametrize("source", [new_images, new_text, new_sound, new_series, new_clips])
def test_pretraining__sends_workers_what_can_be_pickled(source, pickled, tmp_path):
    flags = source(tmp_path)
    validation = [flags[0].replace("train", "validation"), flags[1]]
    flags += [*validation, "--streaming", "--shuffle_buffer_size", "8"]
    train, evaluation = pickled(run_pretraining.main, *flags, output_dir=tmp_path / "out")
    assert train["mask"].shape[0] == 4
    if source in (new_images, new_clips):
        assert train["pixel_values"].dtype == torch.uint8
    assert evaluation.keys() <= train.keys()


def labelled(label: str, *flags: str) -> list[str]:
    return [*flags, "--label_column_name", label, "--from_scratch"]


def images(folder: Path) -> list[str]:
    return labelled("kind", *new_images(folder), "--mixup", "0.5", "--cutmix", "0.5")


def tagged_words(folder: Path) -> list[str]:
    rows = [{"tokens": text.split(), "ner_tags": [len(word) % 3 for word in text.split()]} for text in sentences(40)]
    table = folder / "words.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = ["--task", "token-classification", "--train_file", str(table), *from_scratch("bert"), *TOKENIZER]
    return labelled("ner_tags", *flags)


def segmented_images(folder: Path) -> list[str]:
    mask_rows(masked_pictures(24)).to_parquet(folder / "masks.parquet")
    return labelled("label", "--train_file", str(folder / "masks.parquet"), *from_scratch("vit"))


def transcripts(folder: Path) -> list[str]:
    table = write_sung(folder / "songs.jsonl", sung_rows(folder / "wav", ["ab c", "ba", "c ab"] * 8))
    flags = ["--task", "ctc", "--train_file", str(table), *from_scratch("wav2vec2"), "--mask_time_prob", "0.2"]
    return labelled("text", *flags)


@pytest.mark.parametrize("source", [images, tagged_words, segmented_images, transcripts])
def test_finetuning__sends_workers_what_can_be_pickled(source, pickled, tmp_path):
    flags = [*source(tmp_path), "--validation_split_percentage", "34"]
    for batch in pickled(run_finetune.main, *flags, output_dir=tmp_path / "out"):
        assert len(batch["labels"]) == 4
