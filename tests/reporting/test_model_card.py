import pytest
import yaml

from modeling_data2vec_generic.reporting.model_card import RunSummary, model_card, table, write_model_card

pytestmark = pytest.mark.fast


def summary(tmp_path, **changes):
    values = {
        "name": "digits",
        "model_type": "vit",
        "modality": "vision",
        "num_parameters": 1_234_567,
        "data": {"dataset_name": "digits", "training samples": 1437, "train_dir": None},
        "objective": {"average_top_k_layers": 3, "target_layer_norms": ["instance"]},
        "training": {"learning_rate": 0.001, "max_steps": 300},
        "results": {"eval_loss": 0.123456, "init_knn_accuracy": 0.4, "eval_knn_accuracy": 0.8, "epoch": 3.0},
        "figures": [tmp_path / "figures" / "loss.png", tmp_path / "figures" / "mask.png"],
    }
    return RunSummary(**(values | changes))


def header(card):
    _, front, _ = card.split("---\n", 2)
    return yaml.safe_load(front)


@pytest.mark.parametrize(
    ("modality", "processor", "pipeline_tag"),
    [
        ("vision", "AutoImageProcessor", "image-feature-extraction"),
        ("text", "AutoTokenizer", "feature-extraction"),
        ("speech", "AutoFeatureExtractor", "feature-extraction"),
        ("video", "AutoImageProcessor", "feature-extraction"),
    ],
)
def test_model_card__loads_with_the_processor_of_its_modality(modality, processor, pipeline_tag, tmp_path):
    card = model_card(summary(tmp_path, modality=modality), tmp_path)
    assert header(card) == {
        "library_name": "transformers",
        "pipeline_tag": pipeline_tag,
        "tags": ["data2vec", "self-supervised", modality, "vit"],
    }
    code = card.split("```python\n")[1].split("```")[0]
    compile(code, "card", "exec")
    assert f'{processor}.from_pretrained("{tmp_path}/encoder")' in code


def test_model_card__of_series_loads_no_processor(tmp_path):
    card = model_card(summary(tmp_path, modality="series"), tmp_path)
    code = card.split("```python\n")[1].split("```")[0]
    compile(code, "card", "exec")
    assert "rocessor" not in code
    assert "encoder(past_values=series)" in code


def test_model_card__tells_settings_and_results(tmp_path):
    card = model_card(summary(tmp_path), tmp_path)
    for line in (
        "| dataset_name | digits |",
        "| training samples | 1437 |",
        "| average_top_k_layers | 3 |",
        "| learning_rate | 0.001 |",
        "| validation loss | 0.1235 |",
        "| nearest-neighbour accuracy before training | 0.4 |",
        "| nearest-neighbour accuracy | 0.8 |",
    ):
        assert line in card.splitlines()
    assert "train_dir" not in card
    assert "1,234,567 parameters" in card


def test_model_card__links_figures_by_their_place_in_the_directory(tmp_path):
    card = model_card(summary(tmp_path), tmp_path)
    assert "](figures/loss.png)" in card
    assert f"({tmp_path}" not in card


def test_table__a_bar_in_a_value_does_not_end_the_cell():
    assert table(("a", "b"), {"file": "x|y\nz"}).splitlines()[-1] == r"| file | x\|y z |"


def test_write_model_card__leaves_a_readme(tmp_path):
    path = write_model_card(tmp_path, summary(tmp_path))
    assert path == tmp_path / "README.md"
    assert path.read_text(encoding="utf-8") == model_card(summary(tmp_path), tmp_path)
