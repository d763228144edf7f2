"""Tiny encoders and data of each kind, made once, and vectors that are computed by transformers alone, row by row."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import PIL.Image
import pyarrow.parquet
import pytest
import soundfile
import soxr
import torch
from datasets import Dataset
from transformers import (
    AutoModel,
    AutoTokenizer,
    PatchTSTConfig,
    VideoMAEConfig,
    ViTImageProcessorPil,
    Wav2Vec2FeatureExtractor,
)

from modeling_data2vec_generic.modalities.text.tokenizer import tokenizer_trained_on

from ..tiny import image_folder, sentences, series_parquet, sound_folder, text_file, tiny_encoder, video_parquet


@pytest.fixture(scope="package")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("embedding")


@pytest.fixture(scope="package")
def images(folder) -> Path:
    return image_folder(folder / "images")


@pytest.fixture(scope="package")
def vit(folder) -> Path:
    torch.manual_seed(0)
    tiny_encoder("vit").save_pretrained(folder / "vit")
    ViTImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(folder / "vit")
    return folder / "vit"


@pytest.fixture(scope="package")
def texts(folder) -> Path:
    return text_file(folder / "texts.csv")


@pytest.fixture(scope="package")
def bert(folder) -> Path:
    torch.manual_seed(0)
    tokenizer = tokenizer_trained_on(Dataset.from_dict({"text": sentences(40)}), 300)
    tokenizer.save_pretrained(folder / "bert")
    changes = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    tiny_encoder("bert", **changes).save_pretrained(folder / "bert")
    return folder / "bert"


@pytest.fixture(scope="package")
def sounds(folder) -> Path:
    return sound_folder(folder / "sounds")


@pytest.fixture(scope="package")
def speech_encoder(folder) -> Callable[..., Path]:
    def saved(model_type: str, **changes: Any) -> Path:
        torch.manual_seed(0)
        path = folder / "-".join([model_type, *changes.values()])
        tiny_encoder(model_type, **changes).save_pretrained(path)
        Wav2Vec2FeatureExtractor(return_attention_mask=True).save_pretrained(path)
        return path

    return saved


@pytest.fixture(scope="package")
def series(folder) -> Path:
    return series_parquet(folder / "series.parquet", length=50)


@pytest.fixture(scope="package")
def patchtst(folder) -> Path:
    torch.manual_seed(0)
    config = PatchTSTConfig(
        context_length=24, num_input_channels=2, patch_length=4, patch_stride=4, d_model=16, num_hidden_layers=2
    )
    AutoModel.from_config(config).save_pretrained(folder / "patchtst")
    return folder / "patchtst"


@pytest.fixture(scope="package")
def clips(folder) -> Path:
    return video_parquet(folder / "clips.parquet")


@pytest.fixture(scope="package")
def videomae(folder) -> Path:
    torch.manual_seed(0)
    blocks = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = VideoMAEConfig(image_size=16, patch_size=8, num_frames=4, tubelet_size=2, **blocks)
    AutoModel.from_config(config).save_pretrained(folder / "videomae")
    return folder / "videomae"


def outputs_of(model: Path, inputs: Sequence[dict[str, Any]]) -> list[Any]:
    """What a plain encoder of transformers gives for each row by itself, with its hidden states."""
    encoder = AutoModel.from_pretrained(model).eval()
    with torch.no_grad():
        return [encoder(**row, output_hidden_states=True) for row in inputs]


def image_inputs(images: Path) -> list[dict[str, Any]]:
    processor = ViTImageProcessorPil(size={"height": 16, "width": 16})
    pictures = [PIL.Image.open(path).convert("RGB") for path in sorted(images.rglob("*.*"))]
    return [dict(processor(picture, return_tensors="pt")) for picture in pictures]


def text_inputs(bert: Path, texts: Path) -> list[dict[str, Any]]:
    tokenizer = AutoTokenizer.from_pretrained(bert)
    names = ("input_ids", "attention_mask")
    encoded = [tokenizer(text, return_tensors="pt") for text in pandas.read_csv(texts)["text"]]
    return [{name: row[name] for name in names} for row in encoded]


def sound_inputs(sounds: Path) -> list[dict[str, Any]]:
    extractor = Wav2Vec2FeatureExtractor(return_attention_mask=True)
    found = []
    for path in sorted(sounds.rglob("*.*")):
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
        mono = samples.mean(axis=1)
        mono = mono if rate == 16000 else soxr.resample(mono, rate, 16000)
        found.append(dict(extractor(mono, sampling_rate=16000, return_tensors="pt")))
    return found


def series_inputs(series: Path) -> list[dict[str, Any]]:
    """Two windows of 24 values of each row of 50."""
    rows = pyarrow.parquet.read_table(series)["series"].to_pylist()
    return [
        {"past_values": torch.tensor(np.array(row, dtype=np.float32)[None, start : start + 24])}
        for row in rows
        for start in (0, 24)
    ]
