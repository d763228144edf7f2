"""--bf16 and --fp16 through the script: what is computed in half precision and what never is."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ..examples.test_published_recipes import EXAMPLES, data_flags, narrow, read
from ..tiny import from_scratch, image_folder, run, sound_folder


@pytest.fixture(scope="module")
def flags(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("images") / "train"
    return [*from_scratch("vit"), "--train_dir", str(image_folder(folder)), "--save_strategy", "steps"]


def floats(path: Path) -> set[torch.dtype]:
    return {tensor.dtype for tensor in load_file(path).values() if tensor.is_floating_point()}


def test_bf16__gives_nearly_the_losses_of_float32_and_checkpoints_in_float32(flags, tmp_path):
    single = run(*flags, "--save_steps", "4", output_dir=tmp_path / "single", steps=4)
    half = run(*flags, "--save_steps", "4", "--bf16", "true", output_dir=tmp_path / "half", steps=4)
    losses = [[entry["loss"] for entry in t.state.log_history if "loss" in entry] for t in (half, single)]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)
    assert losses[0] != losses[1]  # or nothing was computed in half precision
    for file in ("model.safetensors", "checkpoint-4/model.safetensors", "encoder/model.safetensors"):
        assert floats(tmp_path / "half" / file) == {torch.float32}
    assert half.teacher_updates == 4
    distance = [
        (mine - its).abs().max().item()
        for mine, its in zip(half.model.teacher.parameters(), single.model.teacher.parameters(), strict=True)
    ]
    assert max(distance) < 1e-3


def test_fp16__on_a_cpu_is_one_clear_error(flags, tmp_path):
    with pytest.raises(ValueError, match=r"fp16=True needs an accelerator, and this run is on the CPU. Use --bf16"):
        run(*flags, "--fp16", "true", output_dir=tmp_path / "out")


BASE_RECIPES = {  # and positions of a full sample
    "vision/data2vec_base.json": 196,
    "vision/data2vec2_base.json": 196,
    "text/data2vec_base.json": 512,
    "text/data2vec2_base.json": 512,
    "speech/data2vec_base.json": 900,
    "speech/data2vec2_base.json": 900,
    "video/moving_digits_data2vec2.json": 144,
    "series/osu_leaf_data2vec2.json": 18,
    "protein/proteins.json": 128,
}


@pytest.mark.parametrize("name", BASE_RECIPES)
def test_bf16__base_recipes_take_two_steps_at_full_length(name, tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    recipe = read(name)
    data, (_, sizes, *others) = data_flags(recipe, tmp_path), narrow(recipe)
    if recipe["modality"] == "speech":
        clips = sound_folder(tmp_path / "long", 2, labelled=False, seconds=18.0)  # 18 s and 19.8 s
        data = [f"--{split}_dir={clips}" for split in ("train", "validation")]
        sizes += ",conv_pos_kernel_size=3"  # five positional convolutions are not to be larger than two blocks
    if name.startswith("protein"):
        (tmp_path / "long.fasta").write_text("".join(f">{i}\n{'ACDEFGHIKLMNPQRSTVWY' * 30}\n" for i in range(8)))
        data = [f"--{split}_file={tmp_path / 'long.fasta'}" for split in ("train", "validation")]
    flags = [*data, "--config_overrides", f"{sizes},num_hidden_layers=2", *others, "--average_top_k_layers", "2"]
    flags += ["--gradient_accumulation_steps", "1", "--reference_batch_size", "4", "--dataloader_num_workers", "0"]
    flags += ["--eval_strategy", "no", "--per_device_train_batch_size", "1", "--num_masks", "2", "--bf16"]
    trainer = run(str(EXAMPLES / name), *flags, output_dir=tmp_path / "out", steps=2)
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(losses) == trainer.teacher_updates == 2
    assert torch.tensor(losses).isfinite().all()
    batch = trainer.data_collator([trainer.train_dataset[row] for row in range(len(trainer.train_dataset))])
    assert batch["mask"].shape[-1] >= BASE_RECIPES[name]
