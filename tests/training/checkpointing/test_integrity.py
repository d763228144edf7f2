"""A checkpoint that was damaged, or tampered with, is refused by name, and nothing in it runs."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from modeling_data2vec_generic.training.checkpointing.integrity import check_checkpoint

from ...tiny import from_scratch, image_folder, run
from ...traps import WritesFile


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of images and the output of a run with a checkpoint."""
    folder = tmp_path_factory.mktemp("run")
    image_folder(folder / "images")
    run(*flags(folder), output_dir=folder / "out", steps=1)
    return folder


def flags(folder: Path) -> list[str]:
    saved = ["--save_strategy", "steps", "--save_steps", "1", "--validation_split_percentage", "0"]
    return [*from_scratch("vit"), "--train_dir", str(folder / "images"), *saved]


@pytest.fixture
def checkpoint(source: Path, tmp_path: Path) -> Path:
    return shutil.copytree(source / "out" / "checkpoint-1", tmp_path / "checkpoint-1")


PICKLES = ("optimizer.pt", "scheduler.pt", "rng_state.pth")
TENSORS = ("model.safetensors", "teacher.safetensors")


def test_check__of_what_a_run_left(checkpoint):
    assert {*PICKLES, *TENSORS, "trainer_state.json"} <= {path.name for path in checkpoint.iterdir()}
    check_checkpoint(checkpoint)


@pytest.mark.parametrize("name", PICKLES)
def test_check__a_pickle_that_would_run_code_is_refused(name, checkpoint, tmp_path):
    torch.save({"state": WritesFile(tmp_path / "written")}, checkpoint / name)
    with pytest.raises(ValueError, match=rf"{name}' is damaged or not what Trainer wrote \(UnpicklingError"):
        check_checkpoint(checkpoint)
    assert not (tmp_path / "written").exists()


def test_check__weights_that_are_a_pickle_are_refused(checkpoint, tmp_path):
    (checkpoint / "model.safetensors").unlink()
    torch.save({"weight": WritesFile(tmp_path / "written")}, checkpoint / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"checkpoint-1' holds its weights as pytorch_model\.bin, a pickle"):
        check_checkpoint(checkpoint)
    assert not (tmp_path / "written").exists()


@pytest.mark.parametrize("name", [*PICKLES, *TENSORS])
@pytest.mark.parametrize("damage", ["cut off", "a header of 2^60 bytes", "empty", "text"])
def test_check__a_damaged_file_is_named(name, damage, checkpoint):
    path = checkpoint / name
    whole = path.read_bytes()
    path.write_bytes(
        {
            "cut off": whole[: len(whole) // 2],
            "a header of 2^60 bytes": (1 << 60).to_bytes(8, "little") + whole[8:],
            "empty": b"",
            "text": b"hello",
        }[damage]
    )
    with pytest.raises(ValueError, match=rf"{name}' is damaged .*Resume from an earlier checkpoint"):
        check_checkpoint(checkpoint)


def with_field(name, value):
    return lambda state: json.dumps(state | {name: value})


@pytest.mark.parametrize(
    "damage",
    [
        lambda state: "{",
        lambda state: "[]",
        lambda state: "5",
        lambda state: "[" * 100_000,
        lambda state: json.dumps(state)[:-20],
        with_field("global_step", "1"),
        with_field("global_step", -1),
        with_field("global_step", None),
        with_field("global_step", float("nan")),
        with_field("global_step", 10**400),
        with_field("max_steps", []),
        with_field("log_history", 5),
        with_field("log_history", [5]),
        with_field("log_history", [{"loss": 1.0}]),
        with_field("unknown", 5),
    ],
)
def test_check__a_damaged_state_is_named(damage, checkpoint):
    path = checkpoint / "trainer_state.json"
    path.write_text(damage(json.loads(path.read_text())))
    with pytest.raises(ValueError, match=r"trainer_state\.json' is damaged"):
        check_checkpoint(checkpoint)


def test_resume__reads_no_pickled_arguments(source, checkpoint, tmp_path):
    torch.save(WritesFile(tmp_path / "written"), checkpoint / "training_args.bin")
    resumed = run(
        *flags(source), "--resume_from_checkpoint", str(checkpoint), output_dir=tmp_path / "resumed", steps=2
    )
    assert resumed.state.global_step == 2
    assert not (tmp_path / "written").exists()


def test_resume__checks_first(source, checkpoint, tmp_path):
    torch.save({"state": WritesFile(tmp_path / "written")}, checkpoint / "optimizer.pt")
    again = [*flags(source), "--resume_from_checkpoint", str(checkpoint)]
    with pytest.raises(ValueError, match=r"optimizer\.pt' is damaged"):
        run(*again, output_dir=tmp_path / "resumed", steps=2)
    assert not (tmp_path / "written").exists()
