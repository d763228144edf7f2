"""The papers' recipes hold the papers' numbers, and every recipe takes a step."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from modeling_data2vec_generic.masking.sampler import MaskSampler
from modeling_data2vec_generic.modalities.presets import mask_settings, objective_config
from modeling_data2vec_generic.runs import pretraining
from modeling_data2vec_generic.training.encoders import new_encoder_config

from ..tiny import (
    image_folder,
    image_parquet,
    protein_file,
    run,
    series_parquet,
    sound_folder,
    text_file,
    video_parquet,
)

EXAMPLES = Path(__file__).parents[2] / "examples"
RECIPES = sorted(path.relative_to(EXAMPLES).as_posix() for path in EXAMPLES.glob("*/*.json"))


@dataclass(frozen=True)
class Published:
    """What the paper and its YAML file say about a run; the README beside each recipe names the sources."""

    blocks: int
    width: int
    top_blocks: int  # K
    masks: int  # M
    teacher_embeddings: str
    norms: tuple[list[str], list[str]]  # of each block, of their mean
    loss: tuple[float, float | None, float]  # beta, scale, weight of CLS
    ema: tuple[float, float, int | None]  # from, to, updates in between
    mask: tuple[str, float, int | None, float | None]  # strategy, ratio, length, adjust
    masked: tuple[int, int]  # so many of so many positions
    predictor: tuple | str  # dim, kernel, layers, groups, residual, projection layers
    learning_rate: float
    warmup: int
    length: int  # updates; epochs where the paper counts them
    optimizer: tuple[float, float, float, float]  # weight decay, betas, clip
    batch: int  # samples


VIT_2 = {
    "masks": 16,
    "teacher_embeddings": "ema",
    "norms": (["instance"], ["layer"]),
    "warmup": 50040,
    "optimizer": (0.05, 0.9, 0.95, 4.0),
}
AUDIO_2 = {"teacher_embeddings": "copy", "norms": (["instance"], []), "loss": (0.0, None, 0.0)}
VISION_1 = {
    "top_blocks": 6,
    "masks": 1,
    "teacher_embeddings": "copy",
    "norms": ([], ["layer"]),
    "loss": (2.0, None, 0.0),
    "mask": ("block", 0.6123, None, None),
    "masked": (120, 196),
    "predictor": "linear",
    "length": 800,
    "optimizer": (0.05, 0.9, 0.999, 3.0),
}
PUBLISHED = {
    "vision/data2vec2_base.json": Published(
        **VIT_2,
        blocks=12,  # 2 of the prenet, 10 others
        width=768,
        top_blocks=10,
        loss=(0.0, None, 0.01 * 16 * 16),  # `cls_loss` times the rows of one process's batch
        ema=(0.9998, 0.99999, 100_000),
        mask=("inverse_block", 0.8, 3, 0.07),
        masked=(157, 196),
        predictor=(768, 3, 6, 16, True, 1),
        learning_rate=1e-3,
        length=375_300,
        batch=512,
    ),
    "vision/data2vec2_large.json": Published(
        **VIT_2,
        blocks=24,
        width=1024,
        top_blocks=18,
        loss=(0.0, None, 0.01 * 8 * 16),  # `cls_loss` times the rows of one process's batch
        ema=(0.9998, 0.99999, 150_000),
        mask=("inverse_block", 0.75, 3, 0.1),
        masked=(147, 196),
        predictor=(1024, 5, 3, 16, True, 1),
        learning_rate=4e-4,
        length=375_300,
        batch=512,
    ),
    "vision/data2vec2_huge.json": Published(
        **VIT_2,
        blocks=32,
        width=1280,
        top_blocks=24,
        loss=(0.0, None, 0.01 * 8 * 16),  # `cls_loss` times the rows of one process's batch
        ema=(0.9998, 1.0, 300_000),
        mask=("inverse_block", 0.75, 3, 0.1),
        masked=(192, 256),
        predictor=(1024, 5, 3, 16, True, 1),
        learning_rate=4e-4,
        length=500_000,
        batch=256,
    ),
    "speech/data2vec2_base.json": Published(
        **AUDIO_2,
        blocks=12,
        width=768,
        top_blocks=8,
        masks=8,
        ema=(0.999, 0.99999, 75_000),
        mask=("block", 0.5, 5, 0.05),
        masked=(250, 500),
        predictor=(384, 7, 4, 16, True, 1),
        learning_rate=7.5e-4,
        warmup=8_000,
        length=400_000,
        optimizer=(0.01, 0.9, 0.98, 0.0),
        batch=40,
    ),
    "speech/data2vec2_large.json": Published(
        **AUDIO_2,
        blocks=24,  # 8 of the prenet, 16 others
        width=1024,
        top_blocks=16,
        masks=12,
        ema=(0.9997, 1.0, 300_000),
        mask=("block", 0.55, 5, 0.1),
        masked=(275, 500),
        predictor=(768, 7, 4, 16, True, 1),
        learning_rate=4e-4,
        warmup=10_000,
        length=600_000,
        optimizer=(0.01, 0.9, 0.98, 1.0),
        batch=48,
    ),
    "text/data2vec2_base.json": Published(
        blocks=12,
        width=768,
        top_blocks=12,
        masks=8,
        teacher_embeddings="copy",
        norms=(["instance"], []),
        loss=(0.0, 1.0, 0.0),
        ema=(0.9999, 0.99999, 100_000),
        mask=("random", 0.48, None, None),
        masked=(246, 512),
        predictor=(768, 9, 5, 1, False, 2),
        learning_rate=2e-4,
        warmup=4_000,
        length=1_000_000,
        optimizer=(0.01, 0.9, 0.98, 1.0),
        batch=64,
    ),
    "vision/data2vec_base.json": Published(
        **VISION_1,
        blocks=12,
        width=768,
        ema=(0.999, 0.9998, 500_000),
        learning_rate=2e-3,
        warmup=6_250,
        batch=2048,
    ),
    "vision/data2vec_large.json": Published(
        **VISION_1,
        blocks=24,
        width=1024,
        ema=(0.9998, 0.9998, None),
        learning_rate=1e-3,
        warmup=24_960,
        batch=4096,
    ),
    "speech/data2vec_base.json": Published(
        blocks=12,
        width=768,
        top_blocks=8,
        masks=1,
        teacher_embeddings="copy",
        norms=(["instance"], []),
        loss=(0.0, None, 0.0),
        ema=(0.999, 0.9999, 30_000),
        mask=("span", 0.65, 10, None),
        masked=(325, 500),  # in spans that overlap
        predictor="linear",
        learning_rate=5e-4,
        warmup=12_000,
        length=400_000,
        optimizer=(0.01, 0.9, 0.98, 0.0),
        batch=320,
    ),
    "text/data2vec_base.json": Published(
        blocks=12,
        width=768,
        top_blocks=10,
        masks=1,
        teacher_embeddings="copy",
        norms=(["layer"], []),
        loss=(4.0, 1.0, 0.0),
        ema=(0.999, 0.9999, 300_000),
        mask=("random", 0.15, None, None),
        masked=(77, 512),
        predictor="mlp",
        learning_rate=2e-4,
        warmup=10_000,
        length=1_000_000,
        optimizer=(0.01, 0.9, 0.98, 5.0),
        batch=256,
    ),
}
OBJECTIVE_SETTINGS = {
    "teacher_embeddings",
    "average_top_k_layers",
    "target_source",
    "target_layer_norms",
    "target_final_norms",
    "predictor",
    "loss_beta",
    "mask_strategy",
    "mask_ratio",
}
OBJECTIVE_SETTINGS_2 = OBJECTIVE_SETTINGS | {
    "student_input",
    "num_masks",
    "decoder_dim",
    "decoder_kernel_size",
    "decoder_layers",
    "decoder_groups",
    "decoder_residual",
    "decoder_projection_layers",
    "mask_noise_std",
    "cls_loss_weight",
}


def read(name: str) -> dict[str, Any]:
    return json.loads((EXAMPLES / name).read_text(encoding="utf-8"))


def resolved(name: str, positions: int) -> Published:
    """The values that the script takes from a recipe."""
    model, data, mask, objective, training = pretraining.parse([str(EXAMPLES / name)])
    config = objective_config(objective, new_encoder_config(model), data.modality)
    drawn = mask_settings(mask, objective.objective, data.modality)
    sampler = MaskSampler(**{key.removeprefix("mask_"): value for key, value in drawn.items()})
    decoder = tuple(
        getattr(config, f"decoder_{field}")
        for field in ("dim", "kernel_size", "layers", "groups", "residual", "projection_layers")
    )
    return Published(
        blocks=config.encoder_config.num_hidden_layers,
        width=config.encoder_config.hidden_size,
        top_blocks=config.average_top_k_layers,
        masks=config.num_masks,
        teacher_embeddings=config.teacher_embeddings,
        norms=(config.target_layer_norms, config.target_final_norms),
        loss=(config.loss_beta, config.loss_scale, config.cls_loss_weight),
        ema=(training.ema_decay, training.ema_end_decay, training.ema_anneal_steps),
        mask=(sampler.strategy, sampler.ratio, sampler.length, drawn.get("mask_adjust")),
        masked=(sampler.count(positions), positions),
        predictor=decoder if config.predictor == "conv" else config.predictor,
        learning_rate=training.learning_rate,
        warmup=training.warmup_steps,
        length=training.max_steps if training.max_steps > 0 else training.num_train_epochs,
        optimizer=(training.weight_decay, training.adam_beta1, training.adam_beta2, training.max_grad_norm),
        batch=training.reference_batch_size,
    )


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_recipe__holds_the_papers_numbers(name):
    assert resolved(name, PUBLISHED[name].masked[1]) == PUBLISHED[name]


def test_published_recipes__are_all_in_the_table():
    assert {name for name in RECIPES if "/data2vec" in name} == set(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_recipe__is_written_for_the_batch_it_runs_with(name):
    recipe = read(name)
    batch = recipe["per_device_train_batch_size"] * recipe["gradient_accumulation_steps"]
    assert recipe["reference_batch_size"] == batch


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_recipe__spells_the_objective_out(name):
    recipe = read(name)
    expected = OBJECTIVE_SETTINGS_2 if recipe["objective"] == "data2vec2" else OBJECTIVE_SETTINGS
    assert expected <= set(recipe)


def data_flags(recipe: dict[str, Any], folder: Path) -> list[str]:
    """Tiny data in place of the recipe's own; built-in data stay, but few of them."""
    if "dataset_name" in recipe:
        return ["--max_train_samples", "32", "--max_eval_samples", "8"]
    splits = {"train": folder / "train", "validation": folder / "validation"}
    tables = {"series": series_parquet, "video": video_parquet}
    if recipe["modality"] in tables:
        files = {split: tables[recipe["modality"]](path.with_suffix(".parquet")) for split, path in splits.items()}
    elif recipe.get("train_file", "").endswith(".fasta"):
        files = {split: protein_file(path.with_suffix(".fasta")) for split, path in splits.items()}
    elif recipe["modality"] == "text":
        files = {split: text_file(path.with_suffix(".parquet"), 72) for split, path in splits.items()}
    elif recipe["modality"] == "vision" and "train_file" in recipe:
        files = {split: image_parquet(path.with_suffix(".parquet")) for split, path in splits.items()}
    elif recipe["modality"] == "vision":
        files = {split: image_folder(path, 4) for split, path in splits.items()}
    else:
        files = {split: sound_folder(path, 4, seconds=2.0) for split, path in splits.items()}
    kind = "dir" if files["train"].is_dir() else "file"
    flags = [flag for split, path in files.items() for flag in (f"--{split}_{kind}", str(path))]
    if recipe["modality"] == "vision" and kind == "file":
        flags += ["--image_column_name", "picture", "--label_column_name", "kind"]
    return flags


def narrow(recipe: dict[str, Any]) -> list[str]:
    """The recipe's encoder and decoder at a width of 16; depth, patches, kernels and groups stay."""
    sizes = "hidden_size=16,num_attention_heads=2,intermediate_size=32"
    if recipe["modality"] == "series":
        sizes = "d_model=16,num_attention_heads=2,ffn_dim=32"
    if recipe["modality"] == "speech":
        sizes += ",conv_dim=[8,8,8,8,8,8,8],num_conv_pos_embedding_groups=2"
    flags = ["--config_overrides", f"{recipe['config_overrides']},{sizes}"]  # the last of a name counts
    if recipe["objective"] == "data2vec2":
        flags += ["--decoder_dim", "16"]
    return flags + (["--tokenizer_vocab_size", "300"] if recipe.get("train_tokenizer") else [])


@pytest.mark.parametrize("name", [name for name in RECIPES if "model_name_or_path" not in read(name)])
def test_recipe__takes_a_step_at_reduced_width(name, tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    recipe = read(name)
    flags = [*data_flags(recipe, tmp_path), *narrow(recipe), "--gradient_accumulation_steps", "1"]
    # The batch is tiny, but what is logged shall be the recipe's own schedule.
    flags += ["--per_device_train_batch_size", "2", "--reference_batch_size", "2"]
    # Health is measured, on two samples, before the step and at the evaluation after it.
    flags += ["--dataloader_num_workers", "0", "--eval_strategy", "steps", "--eval_steps", "100"]
    monkeypatch.setattr("modeling_data2vec_generic.training.monitoring.health.SAMPLES", 2)
    trainer = run(str(EXAMPLES / name), *flags, output_dir=tmp_path / "out", steps=1)
    logged = next(entry for entry in trainer.state.log_history if "loss" in entry)
    assert math.isfinite(logged["loss"])
    assert trainer.teacher_updates == 1
    assert recipe["ema_decay"] <= logged["ema_decay"] <= recipe["ema_end_decay"]
    model = trainer.model
    assert len(model.layout.blocks) == model.encoder.config.num_hidden_layers >= model.config.average_top_k_layers
    assert next(iter(trainer.get_train_dataloader()))["mask"].shape[1] == recipe.get("num_masks", 1)
    if name not in PUBLISHED:
        return
    count, positions = PUBLISHED[name].masked
    if recipe["modality"] == "speech":  # clips differ in length; spans overlap, blocks are cut to an exact count
        least = 0.5 * count / positions if recipe["mask_strategy"] == "span" else count / positions - 0.01
        assert least <= logged["mask_ratio"] <= count / positions + 1e-6
    else:  # a sequence's two special tokens are never masked
        allowed = 1 / positions if recipe["modality"] == "text" else 0
        assert logged["mask_ratio"] == pytest.approx(count / positions, abs=allowed + 1e-6)
