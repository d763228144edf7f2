"""--bf16 and --fp16 through the script: what is computed in half precision and what never is."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ..tiny import from_scratch, image_folder, run


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
