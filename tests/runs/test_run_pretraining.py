"""Runs from end to end: backbones, sources, the files that a run leaves, and how these are loaded again."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModel,
    AutoModelForPreTraining,
    AutoTokenizer,
    ViTImageProcessorPil,
    Wav2Vec2FeatureExtractor,
)

import run_pretraining
from modeling_data2vec_generic import Data2VecGenericForPreTraining, Data2VecGenericModel
from modeling_data2vec_generic.runs import pretraining
from modeling_data2vec_generic.training.arguments import ObjectiveArguments
from modeling_data2vec_generic.training.monitoring.speed import MEASURED
from modeling_data2vec_generic.training.monitoring.verdict import STATES
from modeling_data2vec_generic.versions import CHECKPOINTING_NAMES, AutoImageProcessor

from ..tiny import (
    BACKBONES,
    from_scratch,
    image_folder,
    image_parquet,
    run,
    run_flags,
    sound_folder,
    text_file,
    tiny_encoder,
)

EXAMPLES = Path(__file__).parents[2] / "examples"
RECIPES = sorted(EXAMPLES.glob("*/*.json"))
TOKENIZER = ["--train_tokenizer", "--tokenizer_vocab_size", "300", "--max_seq_length", "16"]
GROUPED = ["--train_sampling_strategy", "group_by_length"]
HELD_OUT = ["--validation_split_percentage", "34"]


def images_by_class(folder: Path) -> list[str]:
    return ["--train_dir", str(image_folder(folder / "train")), *HELD_OUT]


def images_in_one_folder(folder: Path) -> list[str]:
    return ["--train_dir", str(image_folder(folder / "train", labelled=False)), *HELD_OUT]


def images_in_parquet(folder: Path) -> list[str]:
    files = [str(image_parquet(folder / f"{split}.parquet")) for split in ("train", "validation")]
    columns = ["--image_column_name", "picture", "--label_column_name", "kind"]
    return ["--train_file", files[0], "--validation_file", files[1], *columns, *GROUPED]


def sound_by_class(folder: Path) -> list[str]:
    return ["--train_dir", str(sound_folder(folder / "train")), "--mask_length", "4", *HELD_OUT, *GROUPED]


def sound_in_one_folder(folder: Path) -> list[str]:
    train, validation = (str(sound_folder(folder / split, labelled=False)) for split in ("train", "validation"))
    return ["--train_dir", train, "--validation_dir", validation, "--max_tokens_per_batch", "300"]


def packed_txt(folder: Path) -> list[str]:
    return ["--train_file", str(text_file(folder / "text.txt")), *HELD_OUT, *TOKENIZER]


def packed_jsonl(folder: Path) -> list[str]:
    file = text_file(folder / "text.jsonl", column="body")
    return ["--train_file", str(file), "--text_column_name", "body", *HELD_OUT, *TOKENIZER, *GROUPED]


def lines_of_csv(folder: Path) -> list[str]:
    files = [str(text_file(folder / f"{split}.csv")) for split in ("train", "validation")]
    return ["--train_file", files[0], "--validation_file", files[1], "--line_by_line", *TOKENIZER]


def lines_of_parquet(folder: Path) -> list[str]:
    file = text_file(folder / "text.parquet")
    return ["--train_file", str(file), "--line_by_line", "--mask_ratio", "0.4", *HELD_OUT, *TOKENIZER, *GROUPED]


@dataclass(frozen=True)
class Case:
    model_type: str
    source: Callable[[Path], list[str]]
    labels: bool
    steps: int = 2


CASES = {
    "vit": Case("vit", images_by_class, labels=True, steps=4),
    "beit": Case("beit", images_in_one_folder, labels=False),
    "data2vec-vision": Case("data2vec-vision", images_in_parquet, labels=True),
    "bert": Case("bert", packed_txt, labels=False),
    "bert-jsonl": Case("bert", packed_jsonl, labels=True),
    "roberta": Case("roberta", lines_of_csv, labels=True),
    "roberta-parquet": Case("roberta", lines_of_parquet, labels=True),
    "wav2vec2": Case("wav2vec2", sound_by_class, labels=True),
    "data2vec-audio": Case("data2vec-audio", sound_in_one_folder, labels=False),
}
LABELLED = [name for name, case in CASES.items() if case.labels]
PROCESSOR_FILES = {
    "vision": {"preprocessor_config.json"},
    "text": {"tokenizer.json", "tokenizer_config.json"},
    "speech": {"preprocessor_config.json"},
}


@dataclass(frozen=True)
class Finished:
    case: Case
    output_dir: Path
    trainer: Any
    inputs: dict[str, torch.Tensor]  # of two samples, without masks

    @property
    def modality(self) -> str:
        return BACKBONES[self.case.model_type][0]

    @property
    def results(self) -> dict[str, float]:
        return json.loads((self.output_dir / "all_results.json").read_text())

    def outputs(self, model: torch.nn.Module) -> torch.Tensor:
        with torch.no_grad():
            return model.eval()(**self.inputs).last_hidden_state


pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Finished]:
    """The finished run of a case. Each case is run only once."""
    runs: dict[str, Finished] = {}

    def get(name: str) -> Finished:
        if name not in runs:
            case, folder = CASES[name], tmp_path_factory.mktemp(name)
            flags = from_scratch(case.model_type) + case.source(folder)
            trainer = run(*flags, output_dir=folder / "out", steps=case.steps, figures=True)
            rows = [trainer.eval_dataset[i] for i in (0, 1)]
            runs[name] = Finished(case, folder / "out", trainer, trainer.data_collator.plain(rows))
        return runs[name]

    return get


def assert_equal(one: torch.Tensor, other: torch.Tensor) -> None:
    """Compares bit by bit. The message has the largest difference, not the tensors."""
    assert one.shape == other.shape
    assert (one - other).abs().max().item() == 0


def assert_same_weights(one: torch.nn.Module, other: torch.nn.Module) -> None:
    expected = other.state_dict()
    assert set(one.state_dict()) == set(expected)
    assert [name for name, tensor in one.state_dict().items() if not torch.equal(tensor, expected[name])] == []


# --- training


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.fast) if name in ("vit", "bert", "wav2vec2") else name for name in CASES],
)
def test_run__trains_student_and_teacher(name, finished):
    done = finished(name)
    losses = [entry["loss"] for entry in done.trainer.state.log_history if "loss" in entry]
    assert len(losses) == done.case.steps
    assert all(math.isfinite(loss) and loss > 0 for loss in losses)
    assert done.trainer.teacher_updates == done.case.steps
    student, teacher = done.trainer.model.encoder.state_dict(), done.trainer.model.teacher.state_dict()
    assert any(not torch.equal(student[key], teacher[key]) for key in student)


@pytest.mark.parametrize("name", CASES)
def test_run__every_weight_that_may_train_gets_a_gradient_in_each_step(name, finished):
    model = finished(name).trainer.model
    batch = next(iter(finished(name).trainer.get_train_dataloader()))
    model.train()(**batch).loss.backward()
    lacking = [key for key, weight in model.named_parameters() if weight.requires_grad and weight.grad is None]
    model.zero_grad()
    assert lacking == []


@pytest.mark.parametrize("name", LABELLED)
def test_run__probe_tells_more_labels_than_chance_where_inputs_show_them(name, finished):
    done = finished(name)
    for key in ("init_linear_accuracy", "eval_linear_accuracy"):
        # The class of images and sound is their brightness and pitch; the labels of text are random.
        assert done.results[key] > 0.5 if done.modality != "text" else 0 <= done.results[key] <= 1


@pytest.mark.parametrize(
    "flags",
    [
        f"--{CHECKPOINTING_NAMES[0]} true",
        "--dataloader_num_workers 2 --dataloader_persistent_workers true",
        "--per_device_train_batch_size 2 --gradient_accumulation_steps 2",
    ],
)
def test_run__computes_the_same_losses_however_it_is_run(flags, finished, tmp_path):
    expected = finished("vit")
    trainer = run(
        *from_scratch("vit"), *images_by_class(tmp_path), *flags.split(), output_dir=tmp_path / "out", steps=4
    )
    for key in ("loss", "mask_ratio"):
        losses = [[e[key] for e in t.state.log_history if key in e] for t in (trainer, expected.trainer)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-4), key
    assert len(losses[0]) == 4  # the last ones in the second epoch, so that new masks have to reach the workers


@pytest.mark.parametrize("name", ["vit", "roberta", "wav2vec2"])
def test_run__data2vec2_trains_too(name, finished, tmp_path):
    flags = [*CASES[name].source(tmp_path), "--objective", "data2vec2", "--num_masks", "3", "--decoder_groups", "2"]
    flags += ["--mask_length", "2"] if name != "roberta" else ["--decoder_groups", "1"]
    trainer = run(*from_scratch(name), *flags, output_dir=tmp_path / "out")
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(losses) == 2
    assert all(math.isfinite(loss) for loss in losses)
    loaded = Data2VecGenericForPreTraining.from_pretrained(tmp_path / "out")
    assert_same_weights(loaded, trainer.model)
    assert trainer.model.config.num_masks == 3


@pytest.mark.parametrize("name", ["vit", "bert", "wav2vec2"])
def test_run__in_mixed_precision_keeps_weights_and_results_whole(name, tmp_path):
    trainer = run(*from_scratch(name), *CASES[name].source(tmp_path), "--bf16", "true", output_dir=tmp_path / "out")
    assert {weight.dtype for weight in trainer.model.parameters()} == {torch.float32}
    results = json.loads((tmp_path / "out" / "all_results.json").read_text())
    assert results.pop("health") in STATES
    assert all(math.isfinite(value) for value in results.values())


def test_run__without_validation_data_leaves_evaluation_out(tmp_path):
    flags = ["--train_dir", str(image_folder(tmp_path / "train")), "--validation_split_percentage", "0"]
    run(*from_scratch("vit"), *flags, output_dir=tmp_path / "out")
    results = json.loads((tmp_path / "out" / "all_results.json").read_text())
    assert "train_loss" in results
    assert not [key for key in results if key.startswith(("eval", "init"))]
    assert (tmp_path / "out" / "README.md").is_file()
    assert (tmp_path / "out" / "encoder" / "model.safetensors").is_file()


def test_run__keeps_the_best_checkpoint_by_a_metric_of_the_probe(tmp_path):
    flags = (
        "--eval_strategy steps --eval_steps 1 --save_strategy steps --save_steps 1 --save_total_limit 5 "
        "--load_best_model_at_end true --metric_for_best_model eval_knn_accuracy --learning_rate 0.05"
    )
    steps = ["--train_dir", str(image_folder(tmp_path / "train", 36)), *HELD_OUT, *flags.split()]
    trainer = run(*from_scratch("vit"), *steps, output_dir=tmp_path / "out", steps=4)
    scores = [entry["eval_knn_accuracy"] for entry in trainer.state.log_history if "eval_knn_accuracy" in entry]
    assert len(scores) == 4 + 1  # one for each step, and one for the best model at the end
    assert trainer.state.best_metric == max(scores[:4]) == scores[4]
    best = tmp_path / "out" / f"checkpoint-{trainer.state.best_global_step}"
    assert trainer.state.best_global_step == 1 + scores.index(max(scores[:4]))
    assert_same_weights(trainer.model, Data2VecGenericForPreTraining.from_pretrained(best))
    assert_same_weights(AutoModel.from_pretrained(tmp_path / "out" / "encoder"), trainer.model.encoder)
    results = json.loads((tmp_path / "out" / "all_results.json").read_text())
    assert results["eval_knn_accuracy"] == trainer.state.best_metric


def test_run__resumes_its_last_checkpoint_as_if_it_had_never_stopped(tmp_path):
    data = ["--train_dir", str(image_folder(tmp_path / "train")), "--save_strategy", "steps", "--save_steps", "2"]
    whole = run(*from_scratch("vit"), *data, output_dir=tmp_path / "whole", steps=4)
    # As after a crash, the output directory has a checkpoint and nothing else.
    (tmp_path / "cut").mkdir()
    (tmp_path / "whole" / "checkpoint-2").rename(tmp_path / "cut" / "checkpoint-2")
    flags = [*from_scratch("vit"), *data, "--resume_from_checkpoint", "true"]
    resumed = run(*flags, output_dir=tmp_path / "cut", steps=4)
    assert_same_weights(resumed.model, whole.model)
    results = [json.loads((tmp_path / name / "all_results.json").read_text()) for name in ("whole", "cut")]
    timeless = [{key: value for key, value in r.items() if not key.endswith(MEASURED)} for r in results]
    for result in timeless:
        result.pop("train_loss")
    assert timeless[0] == timeless[1]
    assert timeless[0]["init_knn_accuracy"] >= 0


def test_run__starts_over_an_old_run_with_the_flag(tmp_path):
    data = ["--train_dir", str(image_folder(tmp_path / "train")), "--save_strategy", "steps", "--save_steps", "2"]
    run(*from_scratch("vit"), *data, output_dir=tmp_path / "out", steps=4)
    again = run(*from_scratch("vit"), *data, "--overwrite_output_dir", output_dir=tmp_path / "out", steps=2)
    assert again.state.global_step == 2
    assert [path.name for path in (tmp_path / "out").glob("checkpoint-*")] == ["checkpoint-2"]


# --- the files that a run leaves

OBJECTIVE_FIELDS = [field.name for field in fields(ObjectiveArguments) if field.name != "objective"]


@pytest.mark.parametrize("name", CASES)
def test_output_directory__is_complete(name, finished):
    done = finished(name)
    found = {path.relative_to(done.output_dir).as_posix() for path in done.output_dir.rglob("*") if path.is_file()}
    processor = PROCESSOR_FILES[done.modality]
    code = {f"{part}_data2vec_generic.py" for part in ("configuration", "modeling", "backbone", "quirks", "objective")}
    figures = {"curves", "masks", "features_pca", "neighbours"}
    expected = {"config.json", "model.safetensors", "README.md", "all_results.json", "trainer_state.json"}
    expected |= code | processor | {f"figures/{figure}.png" for figure in figures}
    expected |= {f"encoder/{file}" for file in {"config.json", "model.safetensors"} | processor}
    assert expected <= found
    assert not [file for file in found if file.startswith("encoder/") and file.endswith(".py")]


@pytest.mark.parametrize("name", CASES)
def test_all_results__hold_every_figure(name, finished):
    results = dict(finished(name).results)
    assert results.pop("health") in STATES
    expected = {"train_loss", "eval_loss", "eval_target_std", "eval_prediction_std", "eval_effective_rank"}
    probe = {f"{when}_{what}_accuracy" for when in ("init", "eval") for what in ("knn", "linear")}
    assert expected <= set(results)
    assert probe & set(results) == (probe if finished(name).case.labels else set())
    assert all(math.isfinite(value) for value in results.values())


@pytest.mark.parametrize("name", CASES)
def test_model_card__names_backbone_and_results(name, finished):
    done = finished(name)
    card = (done.output_dir / "README.md").read_text(encoding="utf-8")
    assert done.case.model_type in card
    assert "figures/curves.png" in card
    assert "AutoModel" in card


@pytest.mark.parametrize("name", CASES)
def test_full_model__loads_student_teacher_and_predictor_exactly(name, finished):
    done = finished(name)
    loaded = Data2VecGenericForPreTraining.from_pretrained(done.output_dir)
    assert_same_weights(loaded, done.trainer.model)
    for name in OBJECTIVE_FIELDS:
        assert getattr(loaded.config, name) == getattr(done.trainer.model.config, name), name
    for model in (loaded, loaded.train()):
        assert not any(weight.requires_grad for weight in model.teacher.parameters())
        assert not any(module.training for module in model.teacher.modules())
    assert_equal(done.outputs(loaded.encoder), done.outputs(done.trainer.model.encoder))
    assert_equal(done.outputs(loaded.teacher), done.outputs(done.trainer.model.teacher))


@pytest.mark.parametrize("name", ["vit", "bert", "wav2vec2"])
def test_full_model__loads_with_auto_classes_once_the_package_is_imported(name, finished):
    done = finished(name)
    model = AutoModel.from_pretrained(done.output_dir)
    assert type(model) is Data2VecGenericModel
    assert_equal(done.outputs(model), done.outputs(done.trainer.model.encoder))
    pretrained = AutoModelForPreTraining.from_pretrained(done.output_dir)
    assert type(pretrained) is Data2VecGenericForPreTraining
    assert_same_weights(pretrained, done.trainer.model)


WITHOUT_THE_PACKAGE = """
import sys
sys.modules["modeling_data2vec_generic"] = None  # importing it now fails, as if it were not installed
import torch
from transformers import AutoFeatureExtractor, AutoImageProcessor, AutoModel, AutoModelForPreTraining, AutoTokenizer

processors = {"vision": AutoImageProcessor, "text": AutoTokenizer, "speech": AutoFeatureExtractor}
for line in sys.stdin:
    modality, folder, inputs, results = line.rstrip().split("\\t")
    inputs = torch.load(inputs)
    models = {"encoder": AutoModel.from_pretrained(folder + "/encoder")}
    models["full"] = AutoModel.from_pretrained(folder, trust_remote_code=True)
    pretraining = AutoModelForPreTraining.from_pretrained(folder, trust_remote_code=True)
    models["student"], models["teacher"] = pretraining.encoder, pretraining.teacher
    processors[modality].from_pretrained(folder + "/encoder")
    with torch.no_grad():
        outputs = {name: model.eval()(**inputs).last_hidden_state for name, model in models.items()}
    torch.save((type(models["encoder"]).__name__, outputs), results)
"""


def test_encoder_and_full_model__load_where_the_package_is_not_installed(finished, tmp_path):
    runs = {name: finished(name) for name in ("vit", "beit", "data2vec-vision", "bert", "roberta")}
    runs |= {name: finished(name) for name in ("wav2vec2", "data2vec-audio")}
    lines = []
    for name, done in runs.items():
        torch.save(done.inputs, tmp_path / f"{name}.inputs")
        line = (done.modality, done.output_dir, tmp_path / f"{name}.inputs", tmp_path / f"{name}.outputs")
        lines.append("\t".join(map(str, line)))
    environment = os.environ | {"HF_MODULES_CACHE": str(tmp_path / "modules"), "PYTHONPATH": ""}
    process = subprocess.run(
        [sys.executable, "-c", WITHOUT_THE_PACKAGE],
        input="\n".join(lines),
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    for name, done in runs.items():
        class_name, outputs = torch.load(tmp_path / f"{name}.outputs")
        assert class_name == type(done.trainer.model.encoder).__name__
        student, teacher = (done.outputs(model) for model in (done.trainer.model.encoder, done.trainer.model.teacher))
        for key, expected in {"encoder": student, "full": student, "student": student, "teacher": teacher}.items():
            assert_equal(outputs[key], expected)


# --- continuing from an encoder

NEW_PROCESSOR = {
    "vision": ViTImageProcessorPil(size={"height": 16, "width": 16}, image_mean=[0.1] * 3, image_std=[0.3] * 3),
    "speech": Wav2Vec2FeatureExtractor(sampling_rate=8000, return_attention_mask=True, do_normalize=False),
}
AUTO_PROCESSOR = {"vision": AutoImageProcessor, "text": AutoTokenizer, "speech": AutoFeatureExtractor}
CONTINUED = {"vision": "vit", "text": "bert", "speech": "wav2vec2"}


def continued(source: Path, data: list[str], output_dir: Path) -> Any:
    """Takes one step with a learning rate of zero, which does not change the loaded weights."""
    flags = ["--model_name_or_path", str(source), *data, "--learning_rate", "0", "--weight_decay", "0"]
    return run(*flags, output_dir=output_dir, steps=1)


@pytest.mark.parametrize("name", ["vit", "bert", "wav2vec2"])
@pytest.mark.parametrize("part", ["", "encoder"])
def test_run__goes_on_from_what_a_run_left(name, part, finished, tmp_path):
    first = finished(name)
    data = [flag for flag in first.case.source(tmp_path) if flag not in ("--train_tokenizer",)]
    if "--tokenizer_vocab_size" in data:
        data = data[: data.index("--tokenizer_vocab_size")] + data[data.index("--tokenizer_vocab_size") + 2 :]
    trainer = continued(first.output_dir / part, data, tmp_path / "out")
    assert_same_weights(trainer.model.encoder, first.trainer.model.encoder)
    assert_same_weights(trainer.model.teacher, first.trainer.model.encoder)
    assert_equal(
        first.outputs(AutoModel.from_pretrained(tmp_path / "out" / "encoder")), first.outputs(trainer.model.encoder)
    )
    auto = AUTO_PROCESSOR[first.modality]
    mine, its = (auto.from_pretrained(folder / "encoder") for folder in (tmp_path / "out", first.output_dir))
    if first.modality == "text":
        assert mine.get_vocab() == its.get_vocab()
    else:
        assert mine.to_dict() == its.to_dict()


@pytest.mark.parametrize("modality", ["vision", "speech"])
def test_run__goes_on_from_an_encoder_with_its_processor(modality, tmp_path):
    encoder = tiny_encoder(CONTINUED[modality])
    encoder.save_pretrained(tmp_path / "start")
    NEW_PROCESSOR[modality].save_pretrained(tmp_path / "start")
    data = (images_by_class if modality == "vision" else sound_by_class)(tmp_path)
    trainer = continued(tmp_path / "start", data, tmp_path / "out")
    assert_same_weights(trainer.model.encoder, encoder)
    saved = AUTO_PROCESSOR[modality].from_pretrained(tmp_path / "out" / "encoder")
    field = "image_mean" if modality == "vision" else "sampling_rate"
    assert getattr(saved, field) == getattr(NEW_PROCESSOR[modality], field)


@pytest.mark.parametrize("modality", ["vision", "speech"])
def test_run__makes_a_processor_for_an_encoder_that_has_none(modality, tmp_path, caplog):
    encoder = tiny_encoder(CONTINUED[modality])
    encoder.save_pretrained(tmp_path / "start")
    data = (images_by_class if modality == "vision" else sound_by_class)(tmp_path)
    trainer = continued(tmp_path / "start", data, tmp_path / "out")
    assert_same_weights(trainer.model.encoder, encoder)
    assert "holds no processor" in caplog.text
    saved = AUTO_PROCESSOR[modality].from_pretrained(tmp_path / "out" / "encoder")
    if modality == "vision":
        assert (saved.size["height"], saved.size["width"]) == (16, 16)
    else:
        assert saved.sampling_rate == 16000


def test_run__takes_the_tokenizer_that_processor_name_points_to(finished, tmp_path):
    first = finished("bert")
    vocabulary = len(first.trainer.processing_class)
    tiny_encoder("bert", vocab_size=vocabulary).save_pretrained(tmp_path / "start")
    data = ["--train_file", str(text_file(tmp_path / "text.txt")), "--max_seq_length", "16"]
    trainer = continued(tmp_path / "start", [*data, "--processor_name", str(first.output_dir)], tmp_path / "out")
    assert trainer.processing_class.get_vocab() == first.trainer.processing_class.get_vocab()


def test_run__config_name_gives_a_new_encoder_of_that_configuration(finished, tmp_path):
    source = finished("vit").output_dir / "encoder"
    flags = ["--config_name", str(source), "--config_overrides", "num_hidden_layers=3", *images_by_class(tmp_path)]
    run(*flags, output_dir=tmp_path / "out", steps=1)
    expected, found = (AutoConfig.from_pretrained(folder) for folder in (source, tmp_path / "out" / "encoder"))
    assert (found.num_hidden_layers, found.hidden_size) == (3, expected.hidden_size)


# --- recipes

GROUPS = pretraining.ARGUMENTS


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_recipe__is_parsed_to_the_values_it_holds(path):
    parsed = pretraining.parse([str(path)])
    values = {field.name: getattr(group, field.name) for group in parsed for field in fields(group)}
    for name, value in json.loads(path.read_text()).items():
        assert values[name] in (value, [value]), name  # sources are lists, also of one


def test_recipe__is_overridden_by_flags():
    recipe = str(EXAMPLES / "vision" / "digits.json")
    _, _, mask, objective, training = pretraining.parse(
        [
            recipe,
            "--mask_ratio",
            "0.3",
            "--average_top_k_layers",
            "2",
            "--max_steps",
            "7",
            "--target_layer_norms",
            "none",
        ]
    )
    assert (mask.mask_ratio, objective.average_top_k_layers, training.max_steps) == (0.3, 2, 7)
    assert objective.target_layer_norms == []
    assert training.learning_rate == json.loads(Path(recipe).read_text())["learning_rate"]


def test_recipe__runs_on_built_in_data_by_its_name_alone(tmp_path):
    sizes = "image_size=8,patch_size=2,hidden_size=16,num_hidden_layers=3,num_attention_heads=2,intermediate_size=32"
    flags = [
        "--config_overrides",
        sizes,
        "--max_train_samples",
        "100",
        "--max_eval_samples",
        "50",
        "--warmup_steps",
        "1",
    ]
    trainer = run(str(EXAMPLES / "vision" / "digits.json"), *flags, output_dir=tmp_path / "out", steps=2)
    assert trainer.state.global_step == 2
    assert len(trainer.train_dataset) == 100
    assert trainer.initial_metrics()["init_knn_accuracy"] > 0.2


def vision_data(folder: Path) -> list[str]:
    return ["--train_dir", str(image_folder(folder / "train", 8))]


def text_data(folder: Path) -> list[str]:
    return ["--train_file", str(text_file(folder / "text.txt", 200)), "--tokenizer_vocab_size", "300"]


def speech_data(folder: Path) -> list[str]:
    return ["--train_dir", str(sound_folder(folder / "train", 8, seconds=2.0))]


@pytest.mark.parametrize(
    ("modality", "data", "sizes", "masked"),
    [
        ("vision", vision_data, "", (120 / 196, 120 / 196)),
        ("text", text_data, "", (77 / 512, 77 / 512)),
        ("speech", speech_data, ",conv_dim=[8,8,8,8,8,8,8],num_conv_pos_embedding_groups=2", (0.35, 0.65)),
    ],
)
def test_base_recipe__takes_a_step_at_reduced_width(modality, data, sizes, masked, tmp_path):
    recipe = EXAMPLES / modality / "data2vec_base.json"
    narrow = (
        ",hidden_size=16,num_attention_heads=2,intermediate_size=32" + sizes
    )  # if a name is given twice, the last one counts
    flags = ["--config_overrides", json.loads(recipe.read_text())["config_overrides"] + narrow, *data(tmp_path)]
    flags += ["--gradient_accumulation_steps", "1", "--dataloader_num_workers", "0", *HELD_OUT]
    flags += ["--reference_batch_size", "4"]  # the batch size of this run, so that the schedule is not rescaled
    trainer = run(str(recipe), *flags, output_dir=tmp_path / "out", steps=1)
    assert trainer.teacher_updates == 1
    logged = next(entry for entry in trainer.state.log_history if "loss" in entry)
    assert math.isfinite(logged["loss"])
    assert masked[0] - 1e-6 <= logged["mask_ratio"] <= masked[1] + 1e-6
    assert logged["ema_decay"] == pytest.approx(0.999, abs=1e-4)
    assert len(trainer.model.layout.blocks) == 12


def test_recipe__that_is_absent_or_broken_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"no recipe .*nowhere\.json"):
        run_pretraining.main([str(tmp_path / "nowhere.json")])
    (tmp_path / "broken.json").write_text('{"max_steps": 3,}')
    with pytest.raises(ValueError, match=r"broken\.json is not valid JSON: .*line 1"):
        run_pretraining.main([str(tmp_path / "broken.json"), *run_flags(tmp_path / "out", 1)])
