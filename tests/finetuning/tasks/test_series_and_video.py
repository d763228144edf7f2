"""Time series, video and proteins from end to end: training, loading the result again, and errors."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch
import transformers
from datasets import Dataset
from transformers import (
    CONFIG_MAPPING,
    AutoModel,
    AutoModelForSequenceClassification,
    AutoModelForVideoClassification,
    AutoTokenizer,
    EsmTokenizer,
    PreTrainedModel,
    Trainer,
    pipeline,
)

from modeling_data2vec_generic import Data2VecGenericForSequenceClassification
from modeling_data2vec_generic.finetuning.arguments import METHODS
from modeling_data2vec_generic.finetuning.optimization.layer_rates import layer_depths

from ...tiny import CLASSES, image_folder, protein_file, run, run_card, series_parquet, video_parquet

pytestmark = pytest.mark.usefixtures("own_cache")

BLOCKS = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
WINDOWS = {"context_length": 28, "num_input_channels": 2, "patch_length": 7, "patch_stride": 7, "d_model": 16}
FRAMES = {"image_size": 16, "num_frames": 4}
ENCODERS: dict[str, dict[str, Any]] = {
    "patchtst": WINDOWS | {"num_hidden_layers": 2, "num_attention_heads": 2, "ffn_dim": 32},
    "patchtsmixer": WINDOWS | {"num_layers": 2},
    "videomae": BLOCKS | FRAMES | {"patch_size": 4, "tubelet_size": 2},
    "vivit": BLOCKS | FRAMES | {"tubelet_size": [2, 4, 4]},
    "vit": BLOCKS | {"image_size": 16, "patch_size": 4},
}


CLASSES_IN_ORDER = sorted(CLASSES)


def tiny_encoder(model_type: str) -> PreTrainedModel:
    torch.manual_seed(0)
    return AutoModel.from_config(CONFIG_MAPPING[model_type](**ENCODERS[model_type]))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for model_type in ENCODERS:
        tiny_encoder(model_type).save_pretrained(folder / model_type)
    video_parquet(folder / "clips.parquet", 18)
    image_folder(folder / "images")
    good = pandas.read_parquet(series_parquet(folder / "series.parquet", 36))
    numbers = [0.5 + i % 7 for i in range(36)]
    several = [[name for k, name in enumerate(CLASSES) if i >> k & 1] for i in range(36)]
    for name, label in (("numbers", numbers), ("several", several)):
        good.assign(label=label).to_parquet(folder / f"{name}.parquet")
    series_parquet(folder / "short.parquet", 36, length=20)
    series_parquet(folder / "wide.parquet", 36, channels=3)
    good.drop(columns="label").to_parquet(folder / "unlabelled.parquet")
    gaps = [[[float("nan"), 0.0], *values[1:]] for values in good["series"]]
    Dataset.from_dict({"series": gaps, "label": good["label"].tolist()}).to_parquet(folder / "gaps.parquet")
    return folder


def on(model_type: str, file: str) -> list[str]:
    return ["--model_name_or_path", f"DATA/{model_type}", "--train_file", f"DATA/{file}.parquet"]


def predictions(output_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output_dir / "predictions.jsonl").read_text().splitlines()]


def windows_of(data: Path, numbers: list[int]) -> torch.Tensor:
    """(N, 28, 2): both windows of each series, cut by hand."""
    series = pandas.read_parquet(data / "series.parquet")["series"]
    whole = np.array([np.stack(series[i]) for i in numbers], dtype=np.float32)
    return torch.from_numpy(whole[:, :56].reshape(-1, 28, 2))


# --- time series


@pytest.mark.parametrize(
    ("model_type", "file", "saved"),
    [
        ("patchtst", "series", "PatchTSTForClassification"),
        ("patchtst", "several", "PatchTSTForClassification"),
        ("patchtst", "numbers", "PatchTSTForRegression"),
        ("patchtsmixer", "series", "PatchTSMixerForTimeSeriesClassification"),
        ("patchtsmixer", "numbers", "PatchTSMixerForRegression"),
    ],
)
def test_series__every_kind_of_label_loads_by_the_class_of_transformers(model_type, file, saved, finetune, data):
    out = finetune(*on(model_type, file), "--layer_decay", "0.5")
    model, info = getattr(transformers, saved).from_pretrained(out, output_loading_info=True)
    assert not info["missing_keys"] | info["unexpected_keys"]
    rows = predictions(out)
    assert len(rows) == 24  # two windows of each of 12
    assert [row["id"] for row in rows[::2]] == [row["id"] for row in rows[1::2]]
    with torch.no_grad():
        logits = model.eval()(past_values=windows_of(data, [row["id"] for row in rows[::2]]))[0]
    if file == "numbers":
        torch.testing.assert_close(logits[:, 0].tolist(), [row["prediction"] for row in rows], rtol=1e-4, atol=1e-5)
    elif file == "several":
        assert [[CLASSES_IN_ORDER[k] for k in np.flatnonzero(row > 0)] for row in logits.numpy()] == [
            row["prediction"] for row in rows
        ]
    else:
        assert [CLASSES_IN_ORDER[k] for k in logits.argmax(-1)] == [row["prediction"] for row in rows]
        labels = pandas.read_parquet(data / "series.parquet")["label"]
        assert [row["label"] for row in rows] == [labels[row["id"]] for row in rows]


def test_series__compare_runs_all(finetune):
    flags = ["--compare", "--labels_per_class", "4", "--freeze_encoder_steps", "1"]
    out = finetune(*on("patchtst", "series"), *flags, figures=True)
    assert tuple(json.loads((out / "comparison.json").read_text())) == METHODS
    assert {path.name for path in (out / "finetuned" / "figures").iterdir()} >= {"confusion.png", "errors.png"}


def test_series__learns_what_can_be_learned(finetune):
    out = finetune(*on("patchtst", "series"), "--learning_rate", "1e-2", steps=60)
    assert json.loads((out / "all_results.json").read_text())["eval_accuracy"] == 1.0


def test_series__frozen_encoder_stays_to_the_bit(finetune, data):
    out = finetune(*on("patchtst", "series"), "--freeze_encoder_steps", "2", "--learning_rate", "1e-2")
    before = AutoModel.from_pretrained(data / "patchtst").state_dict()
    after = transformers.PatchTSTForClassification.from_pretrained(out).model.state_dict()
    moved = [name for name, value in before.items() if not torch.equal(value, after[name])]
    assert not [name for name in moved if "running_" not in name and "num_batches" not in name]


def test_series__layer_depths():
    depths, blocks = layer_depths(tiny_encoder("patchtst"), {"past_values": torch.zeros(1, 28, 2)})
    assert blocks == 2
    expected = {"embedder.": 0, "positional_encoder.": 0, "layers.0.": 1, "layers.1.": 2}
    assert depths == {name: depth for name in depths for part, depth in expected.items() if f".{part}" in name}


def test_series__own_head_reads_each_channel(finetune):
    out = finetune(*on("patchtst", "series"), "--pooling", "mean")
    model = AutoModelForSequenceClassification.from_pretrained(out).eval()
    assert isinstance(model, Data2VecGenericForSequenceClassification)
    values = torch.randn(3, 28, 2)
    with torch.no_grad():
        hidden = model.encoder(past_values=values).last_hidden_state
        expected = torch.cat([hidden[:, 0].mean(1), hidden[:, 1].mean(1)], dim=-1)
        logits = model(past_values=values).logits
        torch.testing.assert_close(logits, model.classifier(expected))
    torch.testing.assert_close(run_card(out, series=values)["outputs"].logits, logits)


# --- video


@pytest.mark.parametrize("model_type", ["videomae", "vivit"])
def test_video__loads_by_its_auto_class(model_type, finetune):
    out = finetune(*on(model_type, "clips"), "--mixup", "0.8", "--cutmix", "1", figures=True)
    model, info = AutoModelForVideoClassification.from_pretrained(out, output_loading_info=True)
    assert not info["missing_keys"] | info["unexpected_keys"]
    assert model.config.id2label == dict(enumerate(CLASSES_IN_ORDER))
    assert (out / "preprocessor_config.json").is_file()
    ids = [row["id"] for row in predictions(out)]
    assert len(ids) == 2 * len(set(ids)) == 12  # two pieces of each of 6
    assert {path.name for path in (out / "figures").iterdir()} >= {"confusion.png", "errors.png"}


def test_video__compare_runs_all(finetune):
    out = finetune(*on("videomae", "clips"), "--compare")
    assert tuple(json.loads((out / "comparison.json").read_text())) == METHODS


# --- proteins


def test_proteins__from_pretraining_to_a_pipeline(finetune, tmp_path):
    pretrained = tmp_path / "pretrained"
    blocks = ",".join(f"{name}={value}" for name, value in BLOCKS.items())
    run(
        *("--model_type", "esm", "--line_by_line", "--max_seq_length", "24"),
        *("--config_overrides", f"{blocks},max_position_embeddings=26,position_embedding_type=rotary"),
        *("--train_file", str(protein_file(tmp_path / "proteins.fasta"))),
        output_dir=pretrained,
        steps=1,
    )
    sequences = (tmp_path / "proteins.fasta").read_text().split(">")[1:]
    sequences = ["".join(entry.split("\n")[1:]) for entry in sequences]
    table = pandas.DataFrame({"sequence": sequences, "place": [CLASSES[i % 3] for i in range(40)]})
    table.to_parquet(tmp_path / "table.parquet")
    table.assign(place=[0.5 + i % 7 for i in range(40)]).to_csv(tmp_path / "numbers.csv", index=False)
    flags = ["--text_column_name", "sequence", "--label_column_name", "place", "--model_name_or_path", str(pretrained)]
    flags += ["--max_seq_length", "24", "--overwrite_output_dir"]

    out = finetune(*flags, "--train_file", str(tmp_path / "table.parquet"))
    assert isinstance(AutoTokenizer.from_pretrained(out), EsmTokenizer)
    classify = pipeline("text-classification", model=str(out), truncation=True, max_length=24)
    for row in predictions(out):
        (answer,) = classify([sequences[row["id"]]])  # up to 38 residues, of which 22 are read
        assert answer["label"] == row["prediction"]
        assert answer["score"] == pytest.approx(row["probability"], abs=1e-5)

    out = finetune(*flags, "--train_file", str(tmp_path / "numbers.csv"))
    assert AutoModelForSequenceClassification.from_pretrained(out).config.problem_type == "regression"


# --- errors


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        (on("patchtst", "short"), ["too short (20 values, the encoder reads 28)"]),
        (on("patchtst", "wide"), ["3 channels, the encoder reads 2"]),
        (on("patchtst", "gaps"), ["1 of 126 values missing, not finite"]),
        (on("patchtst", "unlabelled"), ["label_column_name='label'", "series"]),
        (on("vit", "series"), ["A vit encoder reads pixel_values, and these data give past_values"]),
        (on("vit", "clips"), ["A vit encoder has no num_frames"]),
        ([*on("patchtst", "series"), "--task", "video-classification"], ["video_column_name"]),
        (["--model_name_or_path", "DATA/videomae", "--train_dir", "DATA/images"], ["reads clips of 4 frames"]),
        (on("patchtst", "clips"), ["A patchtst encoder reads past_values, and these data give pixel_values"]),
    ],
)
def test_input__that_cannot_be_used(flags, parts, finetune, monkeypatch):
    monkeypatch.setattr(Trainer, "train", lambda *args, **kwargs: pytest.fail("the run went on to train"))
    with pytest.raises(ValueError, match=r"\w") as caught:
        finetune(*flags)
    assert all(part in str(caught.value) for part in parts), str(caught.value)
