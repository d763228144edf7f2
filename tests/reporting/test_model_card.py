"""Model cards: what the Hub reads of them, and what people read."""

import dataclasses
import re
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard

from modeling_data2vec_generic.finetuning.tasks import TASKS
from modeling_data2vec_generic.hub.card import hub_card
from modeling_data2vec_generic.reporting.card_sections import duration, table
from modeling_data2vec_generic.reporting.model_card import encoder_card, model_card, write_model_cards
from modeling_data2vec_generic.reporting.provenance import Setting
from modeling_data2vec_generic.reporting.run_summary import RunSummary

pytestmark = pytest.mark.fast

SETTINGS = [
    Setting("objective", "data2vec2", "recipe digits.json", "objective"),
    Setting("learning_rate", 0.001, "command line", "training"),
    Setting("weight_decay", 0.05, "flag", "training"),
    Setting("seed", 42, "default of transformers", "training"),
]
PRETRAINED = RunSummary(
    name="digits",
    model_type="vit",
    modality="vision",
    num_parameters=1_234_567,
    sources=["digits"],
    train_rows=1437,
    eval_rows=360,
    steps=300,
    samples=38_400,
    epochs=26.7,
    seconds=3725.0,
    hardware="a CPU with 8 cores",
    settings=SETTINGS,
    results={
        "eval_loss": 0.123456,
        "eval_effective_rank": 8.5,
        "init_knn_accuracy": 0.4,
        "eval_knn_accuracy": 0.8,
        "init_linear_accuracy": 0.75,
        "eval_linear_accuracy": 0.91,
        "eval_runtime": 3.0,
    },
    health="healthy",
    health_reason="targets' spread 0.7",
    figures=[("figures/loss.png", "The loss.")],
    versions={"torch": "2.13"},
)
FINETUNED = dataclasses.replace(
    PRETRAINED,
    begun_from="someone/vit-digits",
    base_model="someone/vit-digits",
    datasets=["someone/digits"],
    sources=["someone/digits"],
    results={"eval_accuracy": 0.95, "eval_f1": 0.94, "eval_loss": 0.3, "eval_samples_per_second": 100.0},
    task="image-classification",
    auto_class="AutoModelForImageClassification",
    processor_class="AutoImageProcessor",
    main_metric="accuracy",
    labels=["0", "1"],
    comparison="| | accuracy |\n|---|---|\n| from scratch | 0.5 |",
)
OUT = Path("output/digits")


def head(card):
    """What the Hub reads, by YAML's own parser."""
    return yaml.safe_load(card.split("---\n")[1])


def code_of(card):
    return re.findall(r"```python\n(.+?)```", card, re.DOTALL)


@pytest.mark.parametrize("summary", [PRETRAINED, FINETUNED], ids=["pretrained", "finetuned"])
def test_head__is_read_by_huggingface_hub_as_it_was_written(summary):
    card = model_card(summary, OUT)
    data = ModelCard(card).data  # it raises an error for a model-index that is not valid
    assert data.to_dict() == head(card) | {"model-index": data.to_dict()["model-index"]}
    for name in ("license", "library_name", "pipeline_tag", "base_model"):
        assert isinstance(head(card).get(name, ""), str)
    for name in ("tags", "datasets", "metrics", "language"):
        assert all(isinstance(item, str) for item in head(card).get(name, []))


def test_head__of_an_encoder():
    found = head(model_card(PRETRAINED, OUT))
    (model,) = found.pop("model-index")
    assert found == {
        "library_name": "transformers",
        "pipeline_tag": "image-feature-extraction",
        "metrics": ["accuracy"],
        "tags": ["data2vec", "self-supervised", "arxiv:2212.07525", "vision", "vit"],
    }
    (result,) = model["results"]
    assert result["task"]["type"] == "image-classification"
    assert result["dataset"] == {"name": "digits", "type": "digits", "split": "validation"}
    assert [(metric["type"], metric["value"], metric["name"]) for metric in result["metrics"]] == [
        ("accuracy", 0.91, "accuracy of a linear classifier"),
        ("accuracy", 0.8, "accuracy of nearest neighbours"),
    ]


def test_head__of_a_finetuned_model():
    found = head(model_card(FINETUNED, OUT))
    (result,) = found.pop("model-index")[0]["results"]
    assert found == {
        "base_model": "someone/vit-digits",
        "datasets": ["someone/digits"],
        "library_name": "transformers",
        "pipeline_tag": "image-classification",
        "metrics": ["accuracy", "f1"],
        "tags": ["data2vec", "image-classification", "vision", "vit"],
    }
    assert result["dataset"]["type"] == "someone/digits"
    assert {metric["type"]: metric["value"] for metric in result["metrics"]} == {"accuracy": 0.95, "f1": 0.94}


def test_head__without_labels_has_no_results():
    found = head(model_card(dataclasses.replace(PRETRAINED, results={"eval_loss": 0.5}), OUT))
    assert "model-index" not in found
    assert "metrics" not in found


def test_license_and_language__are_those_asked_for():
    card = model_card(dataclasses.replace(PRETRAINED, license="apache-2.0", language=["en", "de"]), OUT)
    assert head(card)["license"] == "apache-2.0"
    assert head(card)["language"] == ["en", "de"]
    assert "No licence" not in card


def test_license__that_is_not_chosen_is_marked():
    card = model_card(PRETRAINED, OUT)
    assert "license" not in head(card)
    assert "**No licence has been chosen for this model**" in card


@pytest.mark.parametrize(
    ("modality", "processor", "pipeline_tag"),
    [
        ("vision", "AutoImageProcessor", "image-feature-extraction"),
        ("text", "AutoTokenizer", "feature-extraction"),
        ("speech", "AutoFeatureExtractor", "feature-extraction"),
        ("video", "AutoImageProcessor", "feature-extraction"),
        ("series", None, "feature-extraction"),
    ],
)
def test_code__loads_the_processor_of_the_modality(modality, processor, pipeline_tag):
    card = model_card(dataclasses.replace(PRETRAINED, modality=modality), OUT)
    assert head(card)["pipeline_tag"] == pipeline_tag
    for code in code_of(card):
        compile(code, "card", "exec")
    if processor is None:
        assert "rocessor" not in code_of(card)[0]
    else:
        assert f'{processor}.from_pretrained("output/digits/encoder")' in code_of(card)[0]


def test_code__loads_models_from_where_the_card_lies():
    encoder, whole = code_of(model_card(PRETRAINED, OUT))
    assert 'AutoModel.from_pretrained("output/digits/encoder")' in encoder
    assert 'from_pretrained("output/digits", trust' in whole
    (encoder,) = code_of(encoder_card(PRETRAINED, OUT))
    assert 'AutoModel.from_pretrained("output/digits/encoder")' in encoder


@pytest.mark.parametrize(("summary", "content"), [(PRETRAINED, "both"), (PRETRAINED, "encoder"), (FINETUNED, None)])
def test_code__of_the_card_for_the_hub_loads_by_id(summary, content):
    card = hub_card(model_card(summary, OUT), "someone/digits-vit", content)
    code = code_of(card)
    assert len(code) == (1 if content == "encoder" else 2)
    assert all('"someone/digits-vit"' in block and "output/" not in block for block in code)
    assert ModelCard(card).data.to_dict() == ModelCard(model_card(summary, OUT)).data.to_dict()


@pytest.mark.parametrize("task", TASKS)
def test_code__of_finetuned_models_can_be_compiled(task):
    summary = dataclasses.replace(FINETUNED, task=task, modality=TASKS[task].modality_name)
    code = code_of(model_card(summary, OUT))
    for block in code:
        compile(block, "card", "exec")
    assert len(code) == (1 if TASKS[task].pipeline_tag is None else 2)
    assert all('"output/digits"' in block for block in code)


def test_text__of_speech_recognition_does_not_speak_of_ctc():
    card = model_card(dataclasses.replace(FINETUNED, task="ctc", modality="speech"), OUT)
    assert "parameters for automatic speech recognition, made of" in card


def test_code__of_a_finetuned_model_with_own_code_says_so():
    card = model_card(dataclasses.replace(FINETUNED, has_own_code=True), OUT)
    assert all("trust_remote_code=True" in block for block in code_of(card))
    assert "Read it first" in card
    assert "trust_remote_code" not in model_card(FINETUNED, OUT)


def test_text__tells_what_was_trained_on_what_for_how_long():
    card = model_card(PRETRAINED, OUT)
    for words in (
        "A `vit` encoder of 1,234,567 parameters",
        "[data2vec 2.0](https://arxiv.org/abs/2212.07525) on 1,437 images of `digits`",
        "300 optimizer steps read 38,400 images, which is 26.7 times all 1,437 that there are",
        "They took 1 hour 2 minutes, evaluations included, on a CPU with 8 cores.",
        "new, random weights",
        "healthy when it was last looked at: targets' spread 0.7.",
        "| accuracy of a linear classifier | 75.0% | 91.0% |",
        "| loss per masked position | – | 0.1235 |",
        "| `learning_rate` | 0.001 | command line |",
    ):
        assert words in card


def test_text__of_a_finetuned_model():
    card = model_card(FINETUNED, OUT)
    for words in (
        "A `vit` model of 1,234,567 parameters for image classification, made of the "
        "encoder [someone/vit-digits](https://huggingface.co/someone/vit-digits)",
        "Its 2 classes are `0`, `1`.",
        "| accuracy | 0.95 |",
        "| from scratch | 0.5 |",
    ):
        assert words in card
    scratch = model_card(dataclasses.replace(FINETUNED, method="from_scratch"), OUT)
    assert "trained from new weights" in scratch


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"health": "collapsed"}, "**The model has collapsed**"),
        ({"health": "too early"}, "whether it was healthy is not known"),
        ({"health": ""}, "The health of the run was not measured."),
        (
            {"results": {"init_linear_accuracy": 0.9, "eval_linear_accuracy": 0.8}},
            "**The probe finds its features worse",
        ),
        ({"results": {"eval_loss": 1.0}}, "was not measured, since there were no labelled validation data"),
        ({"results": {}}, "Nothing was measured on held-out data"),
        ({"source_rows": 1437}, "on 1,437 images of `digits`"),
        ({"source_rows": 20, "modality": "text"}, "on 1,437 sequences, made of 20 rows of `digits`"),
        ({"epochs": 0.25}, "which is 25.0% of all 1,437 that there are."),
        ({"train_rows": None, "epochs": None}, "read 38,400 images. They took"),
    ],
)
def test_text__says_what_is_wrong_or_not_known(changes, words):
    assert words in model_card(dataclasses.replace(PRETRAINED, **changes), OUT)


def test_settings__most_telling_ones_are_shown_and_all_are_folded_away():
    open_part, folded = model_card(PRETRAINED, OUT).split("<details>")
    assert "`learning_rate`" in open_part
    assert "`weight_decay`" not in open_part
    assert "| `weight_decay` | 0.05 | flag |" in folded
    assert "| `seed` | 42 | default of transformers |" in folded
    assert "torch 2.13" in folded


def test_figures__are_linked_where_they_are():
    assert "![The loss.](figures/loss.png)\n\nThe loss." in model_card(PRETRAINED, OUT)
    assert "figures/" not in encoder_card(PRETRAINED, OUT)


def test_write_model_cards__leaves_one_beside_each_model(tmp_path):
    (tmp_path / "encoder").mkdir()
    write_model_cards(tmp_path, PRETRAINED)
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == model_card(PRETRAINED, tmp_path)
    assert (tmp_path / "encoder" / "README.md").read_text(encoding="utf-8") == encoder_card(PRETRAINED, tmp_path)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.52, "0.5 seconds"),
        (9.96, "10 seconds"),
        (61, "1 minute 1 second"),
        (3600, "1 hour"),
        (7384, "2 hours 3 minutes"),
        (200_000, "2 days 7 hours"),
        (86_430, "1 day"),
    ],
)
def test_duration__is_in_words(seconds, words):
    assert duration(seconds) == words


def test_table__a_bar_in_a_value_does_not_end_the_cell():
    assert table(("a", "b"), [("file", "x|y\nz")]).splitlines()[-1] == r"| file | x\|y z |"
