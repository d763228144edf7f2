"""Runs on time series, proteins and video from end to end: training, evaluation, report, and loading the result."""

import copy
import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel, AutoTokenizer, EsmTokenizer, Trainer

import run_pretraining
from modeling_data2vec_generic import Data2VecGenericForPreTraining
from modeling_data2vec_generic.training.monitoring.verdict import STATES
from modeling_data2vec_generic.versions import AutoImageProcessor

from ..tiny import image_parquet, protein_file, run, run_flags, series_parquet, text_file, video_parquet

BLOCKS = "hidden_size=16,num_hidden_layers=2,num_attention_heads=2,intermediate_size=32"
ENCODERS = {
    "patchtst": "d_model=16,num_hidden_layers=2,num_attention_heads=2,ffn_dim=32,patch_length=7,patch_stride=7",
    "esm": f"{BLOCKS},max_position_embeddings=40,position_embedding_type=rotary",
    "videomae": f"{BLOCKS},image_size=16,patch_size=4,num_frames=4,tubelet_size=2",
}
GROUPED = "--train_sampling_strategy group_by_length"
DATA2VEC2 = "--objective data2vec2 --num_masks 3 --decoder_groups 2"


def series(folder: Path) -> list[str]:
    return files(folder, series_parquet, "parquet")


def proteins(folder: Path) -> list[str]:
    return [*files(folder, protein_file, "fasta"), "--line_by_line", "--max_seq_length", "24"]


def video(folder: Path) -> list[str]:
    return files(folder, video_parquet, "parquet")


def files(folder: Path, write: Callable[[Path], Path], ending: str) -> list[str]:
    train, validation = (write(folder / f"{split}.{ending}") for split in ("train", "validation"))
    return ["--train_file", str(train), "--validation_file", str(validation)]


@dataclass(frozen=True)
class Case:
    model_type: str
    source: Callable[[Path], list[str]]
    labels: bool
    processor: frozenset[str]
    flags: str = ""


TOKENIZER = frozenset({"vocab.txt", "tokenizer_config.json"})
IMAGES = frozenset({"preprocessor_config.json"})
CASES = {
    "series": Case("patchtst", series, True, frozenset(), GROUPED),
    "series, data2vec2": Case("patchtst", series, True, frozenset(), DATA2VEC2),
    "proteins": Case("esm", proteins, False, TOKENIZER, GROUPED),
    "proteins, data2vec2": Case(
        "esm", proteins, False, TOKENIZER, f"{DATA2VEC2} --decoder_groups 1 --max_tokens_per_batch 96"
    ),
    "video": Case("videomae", video, True, IMAGES, GROUPED),
    "video, data2vec2": Case("videomae", video, True, IMAGES, f"{DATA2VEC2} --mask_length 2"),
}


pytestmark = pytest.mark.usefixtures("own_cache")


def encoder_flags(model_type: str) -> list[str]:
    return ["--model_type", model_type, "--config_overrides", ENCODERS[model_type]]


@dataclass(frozen=True)
class Finished:
    case: Case
    output_dir: Path
    trainer: Any

    @property
    def inputs(self) -> dict[str, torch.Tensor]:
        return self.trainer.data_collator.plain([self.trainer.eval_dataset[i] for i in (0, 1)])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Finished]:
    """The finished run of a case. Each case is run only once."""
    runs: dict[str, Finished] = {}

    def get(name: str) -> Finished:
        if name not in runs:
            case, folder = CASES[name], tmp_path_factory.mktemp("run")
            flags = [*encoder_flags(case.model_type), *case.source(folder), *case.flags.split()]
            runs[name] = Finished(case, folder / "out", run(*flags, output_dir=folder / "out", figures=True))
        return runs[name]

    return get


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.fast) if "data2vec2" in name else name for name in CASES]
)
def test_run__trains_student_and_teacher(name, finished):
    trainer = finished(name).trainer
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(losses) == 2
    assert all(math.isfinite(loss) and loss > 0 for loss in losses)
    student, teacher = trainer.model.encoder.state_dict(), trainer.model.teacher.state_dict()
    assert any(not torch.equal(student[key], teacher[key]) for key in student)


@pytest.mark.parametrize("name", CASES)
def test_run__every_weight_that_may_train_gets_a_gradient(name, finished):
    trainer = finished(name).trainer
    model = copy.deepcopy(trainer.model).train()  # a forward pass changes the statistics of PatchTST's batch norm
    model(**next(iter(trainer.get_train_dataloader()))).loss.backward()
    assert [key for key, weight in model.named_parameters() if weight.requires_grad and weight.grad is None] == []


@pytest.mark.parametrize("name", CASES)
def test_run__leaves_results_figures_and_card(name, finished):
    done = finished(name)
    results = json.loads((done.output_dir / "all_results.json").read_text())
    assert results.pop("health") in STATES
    assert all(math.isfinite(value) for value in results.values())
    assert results["eval_effective_rank"] >= 1
    probe = {f"{when}_{what}_accuracy" for when in ("init", "eval") for what in ("knn", "linear")}
    assert probe & set(results) == (probe if done.case.labels else set())
    figures = {"curves", "masks", "features_pca", "neighbours", "feature_map"}
    assert {path.stem for path in (done.output_dir / "figures").iterdir()} == figures
    card = (done.output_dir / "README.md").read_text()
    assert f"A `{done.case.model_type}` encoder" in card
    code = re.search(r"```python\n(.+?)\nfeatures = ", card, re.DOTALL)[1]
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["encoder"].config.model_type == done.case.model_type


@pytest.mark.parametrize("name", ["series", "video"])
def test_run__probe_tells_labels_that_inputs_show(name, finished):
    results = json.loads((finished(name).output_dir / "all_results.json").read_text())
    assert results["eval_linear_accuracy"] > 0.5


@pytest.mark.parametrize("name", CASES)
def test_run__encoder_loads_without_the_package(name, finished):
    done = finished(name)
    folder = done.output_dir / "encoder"
    files = {"config.json", "model.safetensors", "README.md"} | done.case.processor
    assert {path.name for path in folder.iterdir()} == files
    with torch.no_grad():
        expected = done.trainer.model.encoder.eval()(**done.inputs).last_hidden_state
        loaded = AutoModel.from_pretrained(folder).eval()(**done.inputs).last_hidden_state
    assert torch.equal(loaded, expected)


@pytest.mark.parametrize("name", CASES)
def test_run__whole_model_loads_for_further_training(name, finished):
    done = finished(name)
    loaded = Data2VecGenericForPreTraining.from_pretrained(done.output_dir).state_dict()
    expected = done.trainer.model.state_dict()
    assert [key for key in expected if not torch.equal(loaded[key], expected[key])] == []


def test_run__goes_on_with_a_saved_encoder_and_its_processor(finished, tmp_path):
    for name in ("series", "proteins", "video"):
        encoder, flags = finished(name).output_dir / "encoder", CASES[name].source(tmp_path)
        trainer = run("--model_name_or_path", str(encoder), *flags, output_dir=tmp_path / name, steps=1)
        assert trainer.state.global_step == 1


def test_run__processors_are_those_of_the_type(finished):
    tokenizer = AutoTokenizer.from_pretrained(finished("proteins").output_dir / "encoder")
    assert isinstance(tokenizer, EsmTokenizer)
    assert tokenizer.model_max_length == 24
    processor = AutoImageProcessor.from_pretrained(finished("video").output_dir / "encoder", backend="pil")
    pixels = processor(list(finished("video").trainer.eval_dataset[0]["video"]), return_tensors="pt")
    torch.testing.assert_close(pixels["pixel_values"], finished("video").inputs["pixel_values"][:1])


def test_run__encoder_is_made_for_the_data(finished):
    config = finished("series").trainer.model.encoder.config
    assert (config.context_length, config.num_input_channels) == (63, 2)
    config = finished("proteins").trainer.model.encoder.config
    assert (config.vocab_size, config.pad_token_id, config.mask_token_id) == (33, 1, 32)


# --- bad input


@pytest.fixture
def fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Runs the script, which must fail before it trains, and returns the message."""

    def trained(*args: object, **kwargs: object) -> None:
        pytest.fail("the run went on to train")

    monkeypatch.setattr(Trainer, "train", trained)

    def message(*flags: str) -> str:
        with pytest.raises(ValueError, match=r"\w") as caught:
            run_pretraining.main([*run_flags(tmp_path / "out", 2), *flags])
        return str(caught.value)

    return message


@pytest.mark.parametrize(
    ("name", "flags", "parts"),
    [
        ("series", "--student_input visible --predictor conv", ["student_input='visible'", "patchtst", "mask_token"]),
        ("series", "--mask_strategy span --mask_length 9", ["a span of 9 leaves nothing visible"]),
        (
            "series",
            "--config_overrides context_length=64",
            ["18 of 18", "too short (63 values, the encoder reads 64)"],
        ),
        ("series", "--config_overrides num_input_channels=3", ["2 channels, the encoder reads 3"]),
        (
            "series",
            f"--model_type vit --config_overrides {BLOCKS},image_size=16",
            ["A vit encoder reads pixel_values", "past_values", "patchtst"],
        ),
        ("proteins", f"--max_seq_length 39 --config_overrides {BLOCKS},max_position_embeddings=40", ["at most 38"]),
        ("proteins", "--model_type bert", ["--processor_name", "--train_tokenizer"]),
        (
            "video",
            f"--config_overrides {BLOCKS},image_size=16,patch_size=4,num_frames=16",
            ["9 of 9", "too short (8 frames, the encoder reads 16)"],
        ),
        ("video", f"--model_type vit --config_overrides {BLOCKS},image_size=16", ["A vit encoder has no num_frames"]),
    ],
)
def test_run__that_makes_no_sense(name, flags, parts, fails, tmp_path):
    case = CASES[name]
    found = fails(*encoder_flags(case.model_type), *case.source(tmp_path), *flags.split())
    assert all(part in found for part in parts), found


def test_run__images_for_an_encoder_of_clips(fails, tmp_path):
    images = str(image_parquet(tmp_path / "images.parquet"))
    found = fails(*encoder_flags("videomae"), "--train_file", images)
    assert "A videomae encoder reads clips of 4 frames, and these data are images" in found


def test_run__text_for_an_encoder_of_series(fails, tmp_path):
    text = ["--train_file", str(text_file(tmp_path / "text.csv")), "--train_tokenizer", "--max_seq_length", "16"]
    found = fails(*encoder_flags("patchtst"), *text, "--tokenizer_vocab_size", "300")
    assert "A patchtst encoder reads past_values, and these data give input_ids" in found
