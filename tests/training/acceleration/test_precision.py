"""What is computed in half precision and what never is: --bf16 and --fp16, --bf16_full_eval and --fp16_full_eval."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.utils.data import default_collate
from transformers import TrainerCallback, set_seed

from modeling_data2vec_generic import (
    Data2VecGenericConfig,
    Data2VecGenericForPreTraining,
    Data2VecTrainer,
    Data2VecTrainingArguments,
)

from ...examples.test_published_recipes import EXAMPLES, data_flags, narrow, read
from ...tiny import from_scratch, image_folder, run, sound_folder, tiny_encoder
from .. import small_runs


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


@pytest.mark.fast
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
    flags += ["--eval_strategy", "steps", "--eval_steps", "100"]  # after the last step only
    flags += ["--per_device_train_batch_size", "1", "--num_masks", "2", "--bf16"]
    trainer = run(str(EXAMPLES / name), *flags, output_dir=tmp_path / "out", steps=2)
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(losses) == trainer.teacher_updates == 2
    assert torch.tensor(losses).isfinite().all()
    batch = trainer.data_collator([trainer.train_dataset[row] for row in range(len(trainer.train_dataset))])
    assert batch["mask"].shape[-1] >= BASE_RECIPES[name]


# --- the half-precision copy of the teacher


def test_teacher_half_copy__leaves_runs_checkpoints_and_resuming_as_they_are(tmp_path):
    used = []

    class Notes(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            copy = kwargs["model"].teacher_copy
            used.append(None if copy is None else {tensor.dtype for tensor in copy._copies})

    def half_run(name: str, **flags: Any) -> Any:
        best = {"load_best_model_at_end": True, "eval_strategy": "steps", "eval_steps": 2, "max_steps": 4}
        return small_runs.trainer(tmp_path / name, bf16=True, callbacks=[Notes()], **best | flags)

    plain = half_run("plain", teacher_half_copy=False)
    plain.train()
    rng = torch.get_rng_state()
    copied = half_run("copied")
    copied.train()
    small_runs.assert_same_run(copied, plain, rng)
    assert used == [None] * 4 + [{torch.bfloat16}] * 4
    assert copied.model.teacher_copy is None
    resumed = half_run("resumed", seed=1)
    resumed.train(resume_from_checkpoint=str(tmp_path / "plain/checkpoint-2"))
    small_runs.assert_same_run(resumed, plain, rng)


# --- evaluation in half precision

LENGTHS = {"pixel_values": (3, 16, 16), "input_values": (3000,)}
POSITIONS = {"pixel_values": 16, "input_values": 8}


def new_trainer(output_dir: Path, model_type: str, **flags: Any) -> Data2VecTrainer:
    set_seed(0)
    model = Data2VecGenericForPreTraining(Data2VecGenericConfig(), tiny_encoder(model_type))
    name = model.main_input_name
    generator = torch.Generator().manual_seed(0)
    rows = [
        {name: torch.randn(LENGTHS[name], generator=generator), "mask": torch.arange(POSITIONS[name])[None] < 3}
        for _ in range(8)
    ]
    defaults = {"max_steps": 2, "learning_rate": 0.01, "ema_decay": 0.5, "ema_end_decay": 0.5, "save_strategy": "no"}
    defaults |= {"report_to": "none", "disable_tqdm": True, "use_cpu": True, "logging_steps": 1}
    return Data2VecTrainer(
        model=model,
        args=Data2VecTrainingArguments(output_dir=str(output_dir), **defaults | flags),
        train_dataset=rows,
        eval_dataset=rows,
        data_collator=default_collate,
    )


# wav2vec2 does not round its inputs by itself.
@pytest.mark.parametrize(("model_type", "flag"), [("vit", "bf16_full_eval"), ("wav2vec2", "fp16_full_eval")])
def test_full_eval__rounds_nothing_that_is_saved_or_trained(model_type, flag, tmp_path):
    plain = new_trainer(tmp_path / "plain", model_type)
    rounding = new_trainer(tmp_path / "run", model_type, **{flag: True})
    losses = []
    for trainer in (plain, rounding):
        trainer.evaluate()  # before training too
        trainer.train()
        losses.append(trainer.evaluate()["eval_loss"])
        trainer.save_model()
        trainer.save_encoder()
        trainer.train()  # goes on from there
    assert losses[0] == pytest.approx(losses[1], rel=0.05)
    assert losses[0] != losses[1]  # or nothing was computed in half precision
    for file in ("model.safetensors", "encoder/model.safetensors"):
        saved, expected = (load_file(tmp_path / folder / file) for folder in ("run", "plain"))
        assert {name for name in saved if not torch.equal(saved[name], expected[name])} == set()
        assert {tensor.dtype for tensor in saved.values() if tensor.is_floating_point()} == {torch.float32}
    weights, expected = rounding.model.state_dict(), plain.model.state_dict()
    assert [name for name in weights if not torch.equal(weights[name], expected[name])] == []
