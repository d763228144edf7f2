"""The script from end to end: every task, its files, loading them again, and its errors."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch
from datasets import Dataset, Features, Image, List, Value
from packaging.version import Version
from safetensors.torch import load_file
from transformers import (
    AutoModel,
    AutoModelForAudioClassification,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    LevitConfig,
    ResNetConfig,
    ResNetModel,
    Trainer,
    ViTImageProcessorPil,
    pipeline,
)

from modeling_data2vec_generic import (
    Data2VecGenericConfig,
    Data2VecGenericForPreTraining,
    Data2VecGenericForSequenceClassification,
)
from modeling_data2vec_generic.finetuning.trainer import FinetuningTrainer
from modeling_data2vec_generic.layout_data2vec_generic import UnsupportedBackboneError
from modeling_data2vec_generic.modalities.text.tokenizer import train_tokenizer
from modeling_data2vec_generic.versions import TRANSFORMERS

from ..tiny import CLASSES, image_folder, pictures, run_card, sentences, sound_folder, tiny_encoder

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data of every kind, and encoders: plain ones, and what pre-training leaves."""
    folder = tmp_path_factory.mktemp("data")
    image_folder(folder / "images", 36)
    image_folder(folder / "one_class" / "in", 6, labelled=False)
    image_folder(folder / "broken_class", 36)
    (folder / "broken_class" / "four").mkdir()
    for number in range(3):
        (folder / "broken_class" / "four" / f"{number}.png").write_bytes(b"no image")
    sound_folder(folder / "sound", 36)
    tokenizer = train_tokenizer(sentences(40), 300)
    for name, changes in (("vit", {}), ("bert", {"vocab_size": 300}), ("wav2vec2", {})):
        torch.manual_seed(0)
        tiny_encoder(name, **changes).save_pretrained(folder / name)
    tokenizer.save_pretrained(folder / "bert")
    model = Data2VecGenericForPreTraining(Data2VecGenericConfig(average_top_k_layers=1), tiny_encoder("vit"))
    model.save_pretrained(folder / "pretrained")
    model.encoder.save_pretrained(folder / "pretrained" / "encoder")
    mixed = folder / "mixed"
    tiny_encoder("wav2vec2").save_pretrained(mixed)
    tiny_encoder("bert").config.save_pretrained(mixed)
    text_table(folder / "text.csv", label=[CLASSES[i % 3] for i in range(60)])
    text_table(folder / "numbers.csv", label=[0.5 + i % 7 for i in range(60)])
    text_table(folder / "several.jsonl", label=[[c for k, c in enumerate(CLASSES) if i >> k & 1] for i in range(60)])
    text_table(
        folder / "grouped.csv", label=[CLASSES[i % 3] for i in range(60)], book=[f"b{i // 6}" for i in range(60)]
    )
    text_table(folder / "letters.csv", label=["HE" * 30] * 60, book=["b"] * 60)
    text_table(folder / "other.csv", label=[("one", "two", "four")[i % 3] for i in range(60)])
    text_table(folder / "unlabelled.csv", kind=["x"] * 60)
    blank = pandas.DataFrame({"text": [" "] * 3, "label": ["four"] * 3})
    pandas.concat([pandas.read_csv(folder / "text.csv"), blank]).to_csv(folder / "blank.csv", index=False)
    return folder


def text_table(path: Path, **columns: list[Any]) -> None:
    table = pandas.DataFrame({"text": sentences(60), **columns})
    if path.suffix == ".csv":
        table.to_csv(path, index=False)
    else:
        table.to_json(path, orient="records", lines=True)


IMAGES = "--train_dir DATA/images".split()
SOUND = "--train_dir DATA/sound".split()
TEXT = "--max_seq_length 20 --model_name_or_path DATA/bert --train_file".split()


def results(output_dir: Path) -> dict[str, float]:
    return json.loads((output_dir / "all_results.json").read_text())


def predictions(output_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output_dir / "predictions.jsonl").read_text().splitlines()]


# --- tasks


@pytest.mark.fast
@pytest.mark.skipif(TRANSFORMERS < Version("5.18"), reason="its AutoImageProcessor asks for torchvision")
def test_images__loads_by_its_auto_class_and_pipeline(finetune):
    out = finetune("--model_name_or_path", "DATA/vit", *IMAGES, figures=True)
    model, info = AutoModelForImageClassification.from_pretrained(out, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert model.config.id2label == dict(enumerate(sorted(CLASSES)))
    classify = pipeline("image-classification", model=str(out))
    assert {entry["label"] for entry in classify(pictures(1)[0])} == set(CLASSES)
    rows = predictions(out)
    assert len(rows) == len({row["id"] for row in rows}) == 12
    share = np.mean([row["label"] == row["prediction"] for row in rows])
    assert results(out)["eval_accuracy"] == pytest.approx(share)
    assert {path.name for path in (out / "figures").iterdir()} >= {"confusion.png"}
    assert all(Path(row["path"]).parent.name == row["label"] for row in rows)
    names = run_card(out, image=pictures(1)[0], images=pictures(2))
    assert names["outputs"].logits.shape == (2, len(CLASSES))


def test_images__several_classes_and_numbers(finetune, tmp_path):
    rows = [{"bytes": file.read_bytes(), "path": None} for file in sorted(image_folder(tmp_path, 18, False).iterdir())]
    columns = {"image": rows, "tags": [[c for k, c in enumerate(CLASSES) if i >> k & 1] for i in range(18)]}
    columns["score"] = [0.5 + i % 5 for i in range(18)]
    features = Features({"image": Image(), "tags": List(Value("string")), "score": Value("float64")})
    Dataset.from_dict(columns, features).to_parquet(tmp_path / "table.parquet")
    flags = ["--model_name_or_path", "DATA/vit", "--train_file", str(tmp_path / "table.parquet")]
    assert "eval_f1_micro" in results(finetune(*flags, "--label_column_name", "tags"))
    flags += ["--label_column_name", "score", "--overwrite_output_dir"]
    assert "eval_mse" in results(finetune(*flags))
    with pytest.raises(ValueError, match=r"mixup=1.0 can't be used with regression labels"):
        finetune(*flags, "--mixup", "1")


def test_images__a_last_batch_of_one_passes_batch_norm(finetune, tmp_path):
    sizes = {"hidden_sizes": [16, 24, 32], "num_attention_heads": [2, 3, 4], "depths": [1, 1, 1], "key_dim": [4, 4, 4]}
    AutoModel.from_config(LevitConfig(image_size=64, **sizes)).save_pretrained(tmp_path / "levit")
    flags = ["--model_name_or_path", str(tmp_path / "levit"), *IMAGES, "--per_device_train_batch_size", "23"]
    assert "eval_accuracy" in results(finetune(*flags))  # of 24 training rows


def test_sound__loads_by_its_auto_class_and_pipeline(finetune, data):
    out = finetune("--model_name_or_path", "DATA/wav2vec2", *SOUND)
    AutoModelForAudioClassification.from_pretrained(out)
    classify = pipeline("audio-classification", model=str(out))
    assert {entry["label"] for entry in classify(np.zeros(4000, dtype=np.float32))} == set(CLASSES)
    assert_moved(data / "wav2vec2", out, "wav2vec2")


def assert_moved(source: Path, output_dir: Path, path: str) -> None:
    """Some weights, but none of the convolutions, which are frozen by default."""
    before, after = load_file(source / "model.safetensors"), load_file(output_dir / "model.safetensors")
    moved = {name for name, value in before.items() if not torch.equal(value, after[f"{path}.{name}"])}
    assert moved
    assert not [name for name in moved if name.startswith("feature_extractor.")]


def test_sound__own_head_has_frozen_convolutions_too(finetune, data):
    out = finetune("--model_name_or_path", "DATA/wav2vec2", *SOUND, "--pooling", "mean")
    wave = np.zeros(4000, dtype=np.float32)
    assert run_card(out, wave=wave, waves=[wave])["outputs"].logits.shape == (1, len(CLASSES))
    assert_moved(data / "wav2vec2", out, "encoder")


@pytest.mark.parametrize(
    ("file", "problem_type", "metric", "rows"),
    [
        ("text.csv", "single_label_classification", "eval_accuracy", 20),
        ("several.jsonl", "multi_label_classification", "eval_f1_macro", 20),
        ("numbers.csv", "regression", "eval_spearmanr", 20),
    ],
)
def test_text__every_kind_of_label(file, problem_type, metric, rows, finetune):
    out = finetune(*TEXT, f"DATA/{file}", "--per_device_train_batch_size", "8", "--dataloader_drop_last")
    assert metric in results(out)
    model = AutoModelForSequenceClassification.from_pretrained(out)
    assert model.config.problem_type == problem_type
    answer = pipeline("text-classification", model=str(out), top_k=None)(sentences(1))[0]
    assert len(answer) == model.config.num_labels
    assert len(predictions(out)) == rows


@pytest.mark.parametrize("labels", [["no", "yes"] * 30, [0.0, 1.0] * 30], ids=["classes", "numbers"])
def test_text__pairs_are_read_together(labels, finetune, tmp_path):
    first, second = ["a seed in the rain"] * 60, ["leaves open wide", "the sun"] * 30
    table = {"premise": first, "hypothesis": second, "label": labels}
    pandas.DataFrame(table).to_csv(tmp_path / "pairs.csv", index=False)
    columns = ["--text_column_name", "premise", "--text_pair_column_name", "hypothesis"]
    rates = ["--learning_rate", "1e-2", "--weight_decay", "0", "--max_seq_length", "40"]
    out = finetune(*TEXT, str(tmp_path / "pairs.csv"), *columns, *rates, steps=60)
    classify = pipeline("text-classification", model=str(out))
    for row in predictions(out)[:4]:  # only the second text tells the label
        row_texts = {"text": first[row["id"]], "text_pair": second[row["id"]]}
        if isinstance(labels[0], str):
            assert row["prediction"] == row["label"] == classify(row_texts)["label"]
            assert classify(row_texts)["score"] == pytest.approx(row["probability"], abs=1e-5)
        else:
            assert row["prediction"] == pytest.approx(row["label"], abs=0.2)
            score = classify(row_texts, function_to_apply="none")["score"]
            assert score == pytest.approx(row["prediction"], abs=1e-5)


def test_training__learns_what_can_be_learned(finetune):
    flags = ["--learning_rate", "5e-3", "--mixup", "0", "--cutmix", "0", "--layer_decay", "1"]
    out = finetune("--model_name_or_path", "DATA/vit", *IMAGES, *flags, "--weight_decay", "0", steps=100)
    assert results(out)["eval_accuracy"] == 1.0


def test_compare__runs_all_on_the_same_rows(finetune):
    out = finetune("--model_name_or_path", "DATA/vit", *IMAGES, "--compare", "--labels_per_class", "4", figures=True)
    table = json.loads((out / "comparison.json").read_text())
    assert list(table) == ["from_scratch", "linear_probe", "knn", "finetuned"]
    ids = [[(row["id"], row["label"]) for row in predictions(out / method)] for method in table]
    assert ids[0] == ids[1] == ids[2] == ids[3]
    for method, values in table.items():
        share = np.mean([row["label"] == row["prediction"] for row in predictions(out / method)])
        assert values["eval_accuracy"] == pytest.approx(share), method
        assert results(out)[f"{method}_eval_accuracy"] == pytest.approx(share)
    assert "| knn |" in (out / "comparison.md").read_text()
    assert (out / "figures" / "comparison.png").is_file()


def test_compare__of_a_directory_that_holds_one_is_refused(finetune):
    flags = ["--model_name_or_path", "DATA/vit", *IMAGES, "--compare", "--save_strategy", "no"]
    finetune(*flags)
    with pytest.raises(ValueError, match=r"from_scratch' already holds a run"):
        finetune(*flags)


def test_compare__trains_nothing_where_frozen_features_cannot_be_had(finetune, tmp_path):
    ResNetModel(ResNetConfig(embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1])).save_pretrained(
        tmp_path / "resnet"
    )
    ViTImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(tmp_path / "resnet")
    flags = ["--model_name_or_path", str(tmp_path / "resnet"), *IMAGES, "--layer_decay", "1"]
    with pytest.raises(UnsupportedBackboneError, match="no list of blocks"):
        finetune(*flags, "--compare")
    assert not (tmp_path / "out").exists()
    assert "eval_accuracy" in results(finetune(*flags))


def test_seeds__are_runs_of_their_own_with_mean_and_interval(finetune, tmp_path):
    flags = ["--model_name_or_path", "DATA/vit", *IMAGES, "--compare", "--labels_per_class", "4"]
    out = finetune(*flags, "--seeds", "3", "8", "5")
    accuracies = [results(out / f"seed-{seed}" / "finetuned")["eval_accuracy"] for seed in (3, 8, 5)]
    combined = json.loads((out / "comparison.json").read_text())["finetuned"]
    assert combined["by_seed"]["eval_accuracy"] == accuracies
    assert combined["eval_accuracy"] == pytest.approx(np.mean(accuracies))
    # 4.303 is the 97.5% quantile of Student's t with two degrees of freedom.
    half = 4.3027 * np.std(accuracies, ddof=1) / 3**0.5
    assert combined["eval_accuracy_ci95"] == pytest.approx(half, rel=1e-4)
    assert results(out)["finetuned_eval_accuracy_ci95"] == combined["eval_accuracy_ci95"]
    assert f"{np.mean(accuracies):.4f} ± {half:.4f}" in (out / "comparison.md").read_text()
    table = load_file(out / "seed-3" / "from_scratch" / "model.safetensors")
    other = load_file(out / "seed-8" / "from_scratch" / "model.safetensors")
    assert not torch.equal(table["classifier.weight"], other["classifier.weight"])


def test_seeds__one_is_as_a_run_by_itself(finetune, tmp_path):
    flags = ["--model_name_or_path", "DATA/vit", *IMAGES, "--label_fraction", "0.5"]
    together = finetune(*flags, "--seeds", "3", "8")
    assert "eval_accuracy_ci95" in results(together)
    inside = load_file(together / "seed-8" / "model.safetensors")
    alone = finetune(*flags, "--seed", "8", "--overwrite_output_dir")
    for name, value in load_file(alone / "model.safetensors").items():
        assert torch.equal(value, inside[name]), name


@pytest.mark.parametrize("seeds", [["1"], ["1", "1"]])
def test_seeds__that_are_not_several(seeds, finetune):
    with pytest.raises(ValueError, match="must be two or more, all different"):
        finetune("--model_name_or_path", "DATA/vit", *IMAGES, "--seeds", *seeds)


def test_seeds__are_not_resumed_from_one_checkpoint(finetune, data):
    flags = ["--model_name_or_path", "DATA/vit", *IMAGES, "--seeds", "1", "2"]
    with pytest.raises(ValueError, match="With 'true' each resumes from its own"):
        finetune(*flags, "--resume_from_checkpoint", str(data / "vit"))


def test_sound__pieces_of_a_clip_bear_its_number(finetune):
    out = finetune("--model_name_or_path", "DATA/wav2vec2", *SOUND, "--max_duration_in_seconds", "0.2")
    ids = [row["id"] for row in predictions(out)]
    assert len(ids) == 2 * len(set(ids)) == 24
    assert all(Path(row["path"]).parent.name == row["label"] for row in predictions(out))


def test_rows__of_small_classes_are_held_out_and_what_lacks_is_said(finetune, tmp_path, caplog):
    table = {"text": sentences(60), "label": [f"c{i % 20:02}" for i in range(60)]}
    pandas.DataFrame(table).to_csv(tmp_path / "small.csv", index=False)
    out = finetune(*TEXT, str(tmp_path / "small.csv"), "--knn", "--validation_split_percentage", "5")
    labels = [row["label"] for row in predictions(out)]
    assert len(labels) == len(set(labels)) == 10
    assert "10 of 60 training rows are held out" in caplog.text
    assert "The validation data have 10 rows" in caplog.text
    assert "10 of 20 classes have no validation row" in caplog.text


def test_knn__a_rare_class_does_not_make_one_neighbour_decide(finetune, tmp_path, caplog):
    labels = ["rare" if i in (7, 8) else CLASSES[i % 2] for i in range(60)]
    pandas.DataFrame({"text": sentences(60), "label": labels}).to_csv(tmp_path / "rare.csv", index=False)
    out = finetune(*TEXT, str(tmp_path / "rare.csv"), "--knn")
    assert "The 13 nearest of 40 training rows vote" in caplog.text
    votes = {round(13 * row["probability"], 3) for row in predictions(out)}
    assert votes <= set(range(1, 14))
    assert votes != {13}


def test_tokenizer__is_trained_on_rows_that_are_not_held_out(finetune, data, monkeypatch):
    seen: list[str] = []

    def trained(rows: Dataset, size: int) -> Any:
        seen.extend(rows["text"])
        return train_tokenizer(seen, size)

    monkeypatch.setattr("modeling_data2vec_generic.modalities.text.modality.tokenizer_trained_on", trained)
    encoder = "--model_type bert --train_tokenizer --tokenizer_vocab_size 300 --from_scratch".split()
    sizes = "--config_overrides=hidden_size=16,num_hidden_layers=1,num_attention_heads=2,intermediate_size=16"
    out = finetune(*encoder, sizes, "--train_file", "DATA/text.csv")
    texts = pandas.read_csv(data / "text.csv")["text"].tolist()
    held_out = {row["id"] for row in predictions(out)}
    assert seen == [text for number, text in enumerate(texts) if number not in held_out]


# --- where the encoder comes from


def test_encoder__that_is_new_has_nothing_to_fine_tune(finetune):
    flags = ["--model_type", "vit", "--config_overrides", "hidden_size=32,num_hidden_layers=1,num_attention_heads=2"]
    with pytest.raises(ValueError, match=r"no weights to fine-tune: .* with --from_scratch"):
        finetune(*flags, *IMAGES)
    assert "eval_accuracy" in results(finetune(*flags, *IMAGES, "--from_scratch"))


@pytest.mark.parametrize("source", ["pretrained", "pretrained/encoder"])
def test_encoder__of_pretraining_is_loaded_to_the_bit(source, finetune, data, caplog):
    out = finetune("--model_name_or_path", f"DATA/{source}", *IMAGES, "--learning_rate", "0")
    before = AutoModel.from_pretrained(data / "pretrained" / "encoder").state_dict()
    after = AutoModelForImageClassification.from_pretrained(out).vit.state_dict()
    assert len(after) == 38
    assert all(torch.equal(before[name], value) for name, value in after.items())
    assert "38 weights are loaded into vit; 2 are new (classifier.bias, classifier.weight)" in caplog.text


def test_from_scratch__has_none_of_the_weights(finetune, data):
    out = finetune("--model_name_or_path", "DATA/vit", *IMAGES, "--learning_rate", "0", "--from_scratch")
    name = "embeddings.patch_embeddings.projection.weight"
    before = AutoModel.from_pretrained(data / "vit").get_parameter(name)
    after = AutoModelForImageClassification.from_pretrained(out).vit.get_parameter(name)
    assert not torch.isclose(before, after).any()


def test_own_head__pools_all_positions_and_loads_by_the_auto_class(finetune):
    out = finetune("--model_name_or_path", "DATA/vit", *IMAGES, "--pooling", "mean")
    model = AutoModelForImageClassification.from_pretrained(out)
    assert isinstance(model, Data2VecGenericForSequenceClassification)
    assert (out / "classification_data2vec_generic.py").is_file()
    pixels = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        expected = model.classifier(model.encoder(pixels).last_hidden_state.mean(1))
        torch.testing.assert_close(model(pixel_values=pixels).logits, expected)
    classify = pipeline("image-classification", model=str(out))
    assert {entry["label"] for entry in classify(pictures(1)[0])} == set(CLASSES)


def test_own_head__padding_has_no_part_in_the_mean():
    torch.manual_seed(0)
    config = Data2VecGenericConfig(encoder_config=tiny_encoder("bert").config, num_labels=2)
    model = Data2VecGenericForSequenceClassification(config).eval()
    tokens = torch.arange(5, 11).view(1, 6)
    padded = torch.cat([tokens, torch.zeros(1, 3, dtype=torch.int64)], dim=1)
    mask = (torch.arange(9) < 6).long().unsqueeze(0)
    with torch.no_grad():
        short = model(input_ids=tokens, attention_mask=torch.ones(1, 6, dtype=torch.int64)).logits
        torch.testing.assert_close(model(input_ids=padded, attention_mask=mask).logits, short)


# --- what is trained, and on what


def test_freeze_encoder_steps__the_head_alone_moves(finetune, data):
    out = finetune("--model_name_or_path", "DATA/vit", *IMAGES, "--freeze_encoder_steps", "2")
    before = AutoModel.from_pretrained(data / "vit").state_dict()
    model = AutoModelForImageClassification.from_pretrained(out)
    assert all(torch.equal(before[name], value) for name, value in model.vit.state_dict().items())


def test_layer_decay__reaches_the_optimizer_and_spares_norms_and_biases(finetune, monkeypatch):
    seen = {}
    made = FinetuningTrainer.create_optimizer

    def recorded(self, model=None):
        optimizer = made(self, model)
        names = {parameter: name for name, parameter in self.model.named_parameters()}
        for group in optimizer.param_groups:
            seen.update({names[parameter]: (group["lr"], group["weight_decay"]) for parameter in group["params"]})
        return optimizer

    monkeypatch.setattr(FinetuningTrainer, "create_optimizer", recorded)
    flags = ["--learning_rate", "0.1", "--layer_decay", "0.5", "--weight_decay", "0.3"]
    finetune("--model_name_or_path", "DATA/vit", *IMAGES, *flags)
    expected = {
        "classifier.weight": (0.1, 0.3),
        "classifier.bias": (0.1, 0.0),
        "vit.layernorm.weight": (0.1, 0.0),
        "vit.layers.1.mlp.fc1.weight": (0.05, 0.3),
        "vit.layers.0.mlp.fc1.weight": (0.025, 0.3),
        "vit.layers.0.mlp.fc1.bias": (0.025, 0.0),
        "vit.embeddings.patch_embeddings.projection.weight": (0.0125, 0.3),
    }
    assert {name: seen[name] for name in expected} == {name: pytest.approx(pair) for name, pair in expected.items()}
    assert len(seen) == 40


def test_accumulation__of_two_halves_is_the_whole_batch(finetune, tmp_path):
    flags = ["--model_name_or_path", "DATA/vit", *IMAGES, "--learning_rate", "1e-2", "--mixup", "0", "--cutmix", "0"]
    # Else clipping or Adam would make the same step of any multiple of a gradient.
    flags += ["--adam_epsilon", "1", "--max_grad_norm", "0"]
    whole = load_file(finetune(*flags, "--per_device_train_batch_size", "8") / "model.safetensors")
    halves = [*flags, "--gradient_accumulation_steps", "2", "--overwrite_output_dir"]
    parts = load_file(finetune(*halves) / "model.safetensors")
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, rtol=1e-4, atol=1e-6)


def test_groups__stay_together(finetune, data):
    out = finetune(*TEXT, "DATA/grouped.csv", "--group_column_name", "book")
    books = pandas.read_csv(data / "grouped.csv")["book"]
    held_out = {row["id"] for row in predictions(out)}
    assert not {books[i] for i in held_out} & {books[i] for i in range(60) if i not in held_out}


def test_resumed__run_ends_where_an_uninterrupted_one_does(finetune, tmp_path):
    flags = [
        "--model_name_or_path",
        "DATA/vit",
        *IMAGES,
        "--freeze_encoder_steps",
        "1",
        "--tri_stage",
        "0.2",
        "0.4",
        "0.4",
    ]
    whole = finetune(*flags, "--save_strategy", "steps", "--save_steps", "3", steps=6)
    expected = load_file(whole / "model.safetensors")
    for path in (whole / "model.safetensors", whole / "checkpoint-6" / "model.safetensors"):
        path.unlink()
    resumed = finetune(*flags, "--resume_from_checkpoint", str(whole / "checkpoint-3"), steps=6)
    after = load_file(resumed / "model.safetensors")
    assert all(torch.equal(value, after[name]) for name, value in expected.items())


# --- errors


@pytest.fixture
def fails(finetune, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Run the script, which must fail before it trains, and return the message."""

    def trained(*args: object, **kwargs: object) -> None:
        pytest.fail("the run went on to train")

    monkeypatch.setattr(Trainer, "train", trained)

    def message(*flags: str) -> str:
        with pytest.raises(ValueError, match=r"\w") as caught:
            finetune(*flags)
        return str(caught.value)

    return message


VIT = ["--model_name_or_path", "DATA/vit"]
PAIR = ["--text_pair_column_name", "book", "--label_column_name", "label"]


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        ([*TEXT, "DATA/unlabelled.csv"], ["label_column_name='label'", "text, kind"]),
        ([*TEXT, "DATA/text.csv", "--label_column_name", "sort"], ["'sort'", "text, label"]),
        (
            [*TEXT, "DATA/text.csv", "--validation_file", "DATA/other.csv"],
            ["1 classes that the training data lack", "four"],
        ),
        (
            [*TEXT, "DATA/text.csv", "--text_pair_column_name", "other"],
            ["text_pair_column_name='other'", "text, label"],
        ),
        ([*TEXT, "DATA/text.csv", "--text_pair_column_name", "text"], ["'text' already", "name another"]),
        (
            [*TEXT, "DATA/text.csv", "--max_train_samples", "2"],
            ["classes have no training row", "--max_train_samples"],
        ),
        ([*TEXT, "DATA/blank.csv"], ["1 of 4 classes have no training row (four)"]),
        ([*TEXT, "DATA/text.csv", "--class_weights", "1,2"], ["class_weights='1,2'", "3 classes"]),
        ([*TEXT, "DATA/text.csv", "--class_weights", "1,0,nan"], ["class_weights='1,0,nan'", "a number above 0"]),
        ([*TEXT, "DATA/text.csv", "--label_smoothing_factor", "1.5"], ["label_smoothing_factor=1.5", "[0, 1)"]),
        ([*TEXT, "DATA/several.jsonl", "--class_weights", "balanced"], ["class_weights='balanced' can't be used"]),
        ([*TEXT, "DATA/text.csv", "--problem_type", "ranking"], ["problem_type='ranking'", "regression"]),
        ([*TEXT, "DATA/text.csv", "--problem_type", "regression"], ["regression needs numbers"]),
        ([*TEXT, "DATA/numbers.csv", "--labels_per_class", "3"], ["labels_per_class is for one class per row"]),
        ([*TEXT, "DATA/grouped.csv", "--group_column_name", "page"], ["group_column_name='page'", "book"]),
        ([*TEXT, "DATA/text.csv", "--task", "sentiment"], ["task='sentiment'", "text-classification"]),
        ([*TEXT, "DATA/text.csv", "--validation_split_percentage", "0"], ["no validation rows"]),
        ([*TEXT, "DATA/text.csv", "--layer_decay", "0"], ["layer_decay=0.0"]),
        ([*TEXT, "DATA/text.csv", "--prediction_loss_only"], ["prediction_loss_only=True", "metrics"]),
        ([*TEXT, "DATA/numbers.csv", "--max_eval_samples", "2"], ["2 of the validation samples", "at least 3"]),
        ([*TEXT, "DATA/text.csv", "--max_eval_samples", "1"], ["1 of the validation samples", "at least 2"]),
        ([*TEXT, "DATA/text.csv", "--drop_path", "0.1"], ["drop_path=0.1", "no drop path"]),
        ([*TEXT, "DATA/text.csv", "--freeze_convolutions"], ["--freeze_convolutions false"]),
        ([*TEXT, "DATA/text.csv", "--knn", "--compare"], ["--knn and --compare"]),
        ([*TEXT, "DATA/text.csv", "--tri_stage", "0.5", "0.6", "0.1"], ["tri_stage=", "sum to 1"]),
        ([*TEXT, "DATA/text.csv", "--mixup", "0.5"], ["mixup=0.5 is for image-classification, video-classification,"]),
        ([*TEXT, "DATA/text.csv", "--do_lower_case", "false"], ["do_lower_case=False is for ctc, not text-"]),
        ([*TEXT, "DATA/text.csv", "--streaming"], ["--streaming is for pre-training"]),
        ([*VIT, "--train_dir", "DATA/one_class"], ["of one class (in)"]),
        ([*VIT, "--train_dir", "DATA/broken_class", "--linear_probe"], ["1 of 4 classes", "no training row (four)"]),
        ([*VIT, *SOUND], ["A vit encoder reads pixel_values, and these data give input_values"]),
        ([*VIT, *IMAGES, "--task", "audio-classification"], ["holds no sound"]),
        (
            [*TEXT, "DATA/letters.csv", "--text_column_name", "text", *PAIR, "--task", "token-classification"],
            ["text_pair_column_name='book'", "for text-classification, not token-classification"],
        ),
        (
            [*TEXT, "DATA/text.csv", "--model_name_or_path", "DATA/mixed", "--processor_name", "DATA/bert"],
            ["No weight of", "bert"],
        ),
    ],
)
def test_input__that_cannot_be_used(flags, parts, fails):
    found = fails(*flags)
    assert all(part in found for part in parts), found
