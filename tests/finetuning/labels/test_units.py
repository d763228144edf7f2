"""Labels of any size are standardised in training; the saved model predicts in the units of the labels."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch
from datasets import Dataset, Features, Value
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForSequenceClassification, PatchTSTForRegression, pipeline

from modeling_data2vec_generic.data.arguments import DataArguments
from modeling_data2vec_generic.finetuning.labels.regression import Regression
from modeling_data2vec_generic.finetuning.labels.units import Units, save_in_units
from modeling_data2vec_generic.finetuning.models import Source, build_model, encoder_path
from modeling_data2vec_generic.finetuning.tasks import SeriesClassification, TextClassification
from modeling_data2vec_generic.modalities.text.tokenizer import train_tokenizer

from ...tiny import sentences, tiny_encoder
from ...tiny_encoders import TINY

pytestmark = pytest.mark.usefixtures("own_cache")

PRICES = [3e11 + 1e10 * (i % 7) for i in range(60)]
TEXT = "--max_seq_length 20 --model_name_or_path DATA/bert --train_file DATA/prices.csv".split()
RATES = "--learning_rate 1e-2 --weight_decay 0".split()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    train_tokenizer(sentences(40), 300).save_pretrained(folder / "bert")
    torch.manual_seed(0)
    tiny_encoder("bert", vocab_size=300).save_pretrained(folder / "bert")
    texts = [f"{'the ' * (i % 7)}." for i in range(60)]
    pandas.DataFrame({"text": texts, "label": PRICES}).to_csv(folder / "prices.csv", index=False)
    TINY["patchtst"].encoder().save_pretrained(folder / "patchtst")
    rows = np.random.default_rng(0).normal(size=(40, 24, 3)).tolist()
    table = {"series": rows, "label": [-5e6 + 1e3 * (i % 5) + 0.5 for i in range(40)]}
    pandas.DataFrame(table).to_parquet(folder / "series.parquet")
    return folder


def rows_of(output_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output_dir / "predictions.jsonl").read_text().splitlines()]


def assert_predicts(folder: Path, output_dir: Path) -> None:
    """What a pipeline makes of the model in a folder is what predictions.jsonl holds."""
    predict = pipeline("text-classification", model=str(folder), function_to_apply="none")
    for row in rows_of(output_dir)[:3]:
        text = f"{'the ' * (row['id'] % 7)}."
        assert predict([text])[0]["score"] == pytest.approx(row["prediction"], rel=1e-6)
        assert row["label"] == PRICES[row["id"]]


def test_prices__are_learned_and_predicted_as_they_are(finetune: Callable[..., Path]):
    out = finetune(*TEXT, *RATES, steps=60)
    found = json.loads((out / "all_results.json").read_text())
    history = json.loads((out / "trainer_state.json").read_text())["log_history"]
    assert 0.3 < history[0]["loss"] < 3  # about that of always giving the mean
    assert found["eval_r2"] > 0.5
    labels, predicted = (np.array([row[name] for row in rows_of(out)]) for name in ("label", "prediction"))
    assert found["eval_mae"] == pytest.approx(np.abs(labels - predicted).mean())
    assert found["eval_mse"] == pytest.approx(np.square(labels - predicted).mean())
    assert found["eval_r2"] == pytest.approx(1 - found["eval_mse"] / labels.var())
    assert_predicts(out, out)


def test_prices__of_a_checkpoint_a_resumed_run_and_the_best_model(finetune: Callable[..., Path], tmp_path: Path):
    flags = [*TEXT, *RATES, "--save_strategy", "steps", "--save_steps", "2", "--eval_strategy", "steps"]
    flags += ["--eval_steps", "2", "--overwrite_output_dir"]
    out = finetune(*flags, steps=4)
    assert_predicts(out / "checkpoint-4", out)
    whole = out.rename(tmp_path / "whole")
    resumed = finetune(*flags, "--resume_from_checkpoint", str(whole / "checkpoint-2"), steps=4)
    expected, after = load_file(whole / "model.safetensors"), load_file(resumed / "model.safetensors")
    assert all(torch.equal(after[name], value) for name, value in expected.items())
    best = ["--load_best_model_at_end", "--metric_for_best_model", "mae", "--greater_is_better", "true"]
    out = finetune(*flags, *best, steps=4)  # the worst one, which is not the last
    state = json.loads((out / "trainer_state.json").read_text())
    assert Path(state["best_model_checkpoint"]).name == "checkpoint-2"
    assert_predicts(out / "checkpoint-2", out)
    assert_predicts(out, out)


@pytest.mark.parametrize("method", ["--from_scratch", "--linear_probe", "--knn"])
def test_prices__of_the_other_methods(method: str, finetune: Callable[..., Path]):
    out = finetune(*TEXT, method)
    predicted = [row["prediction"] for row in rows_of(out)]
    assert 2e11 < min(predicted) < max(predicted) < 5e11
    if method == "--from_scratch":
        assert_predicts(out, out)


def test_series__load_as_a_regression_in_their_units(finetune: Callable[..., Path], data: Path):
    flags = ["--model_name_or_path", "DATA/patchtst", "--train_file", "DATA/series.parquet"]
    out = finetune(*flags, "--problem_type", "regression")
    model = PatchTSTForRegression.from_pretrained(out).eval()
    values = pandas.read_parquet(data / "series.parquet")["series"]
    for row in rows_of(out)[:3]:
        given = torch.tensor(np.stack(values[row["id"]])).float().unsqueeze(0)
        with torch.no_grad():
            found = model(past_values=given).regression_outputs.item()
        assert found == pytest.approx(row["prediction"], rel=1e-6)
        assert row["label"] == -5e6 + 1e3 * (row["id"] % 5) + 0.5


@pytest.mark.parametrize("model_type", ["roberta", "xlm", "informer", "audio-spectrogram-transformer", "patchtsmixer"])
def test_head__its_last_layer_is_found(model_type: str):
    tiny = TINY[model_type]
    encoder, inputs, target = tiny.encoder(), tiny.inputs(), Regression()
    target.names, target.units = ["price"], Units(1e3, 50.0)
    task = SeriesClassification if model_type == "patchtsmixer" else TextClassification
    auto_class = AutoModelForSequenceClassification
    settings = target.settings() | {"num_targets": 1, "loss": "mse"}
    if task is SeriesClassification:
        from modeling_data2vec_generic.finetuning.tasks.classification.series import AutoModelForTimeSeriesRegression

        auto_class = AutoModelForTimeSeriesRegression
    model = build_model(Source(encoder, frozenset(), frozenset()), auto_class, task.own_head, settings).eval()
    copy = build_model(Source(encoder, frozenset(), frozenset()), auto_class, task.own_head, settings).eval()
    assert target.fit_head(model, model.get_submodule(encoder_path(model, encoder)), inputs)
    copy.load_state_dict(model.state_dict())
    with torch.no_grad():
        torch.manual_seed(0)
        expected = target.units.restored(model(**inputs)[0].numpy())
        torch.manual_seed(0)
        assert copy(**inputs)[0].numpy() == pytest.approx(expected, rel=1e-5)


class Head(nn.Module):
    """A number per sample, by a layer that something may come after."""

    def __init__(self, bias: bool = True, ends: bool = True):
        super().__init__()
        self.encoder, self.score, self.ends = nn.Linear(3, 3), nn.Linear(3, 1, bias=bias), ends

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        number = self.score(self.encoder(x))
        return (number if self.ends else number.sigmoid(),)


@pytest.mark.parametrize(("bias", "ends"), [(True, True), (False, True), (True, False)])
def test_head__without_bias_is_scaled_and_one_that_does_not_end_it_left_alone(bias, ends, caplog, monkeypatch):
    monkeypatch.setattr(Head, "device", torch.device("cpu"), raising=False)
    target, model, x = Regression(), Head(bias, ends), torch.randn(4, 3)
    target.units = Units(300.0, 40.0)
    layers = target.fit_head(model, model.encoder, {"x": x})
    after = Head(bias, ends)
    after.load_state_dict(model.state_dict())
    assert layers == ([model.score] if ends else [])
    assert ("can't be determined" in caplog.text) == (not ends)
    assert target.units == (Units() if not ends else Units(300, 40) if bias else Units(0, (300**2 + 40**2) ** 0.5))
    expected = target.units.restored(model(x)[0].detach().numpy())
    assert after(x)[0].detach().numpy() == pytest.approx(expected, rel=1e-5)


def test_layer__that_is_loaded_is_standardised_again():
    layer = nn.Linear(3, 1)
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    save_in_units([layer], Units(1e3, 7.0))
    saved = layer.state_dict()
    assert saved["bias"].item() == pytest.approx(before["bias"].item() * 7 + 1e3)
    layer.load_state_dict(saved)
    torch.testing.assert_close(layer.weight.detach(), before["weight"])
    torch.testing.assert_close(layer.bias.detach(), before["bias"], atol=1e-4, rtol=1e-4)


def test_labels__chosen_so_that_all_are_alike_are_refused():
    features = Features({"label": Value("float64"), "sample_index": Value("int64")})
    rows = Dataset.from_dict({"label": [1.0, 1.0, 2.0], "sample_index": [0, 1, 2]}, features)
    target = Regression()
    encoded = target.encode({"train": rows}, DataArguments(train_file="-"))["train"]
    target.check(encoded)
    assert target.units == Units(pytest.approx(4 / 3), pytest.approx(np.std([1, 1, 2])))
    with pytest.raises(ValueError, match="The 2 training rows, as they were chosen, have the same number"):
        target.check(encoded.select([0, 1]))
