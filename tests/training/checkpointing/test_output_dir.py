"""Whose output directory is it."""

import errno
import os
from pathlib import Path

import pytest

from modeling_data2vec_generic import Data2VecTrainingArguments
from modeling_data2vec_generic.training.checkpointing.output_dir import claim, resumed_checkpoint

pytestmark = pytest.mark.fast


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A directory with two checkpoints and a finished model."""
    for step in (9, 10):
        (tmp_path / "out" / f"checkpoint-{step}").mkdir(parents=True)
    (tmp_path / "out" / "config.json").write_text("{}")
    return tmp_path / "out"


def arguments(folder: Path, **flags: object) -> Data2VecTrainingArguments:
    return Data2VecTrainingArguments(output_dir=str(folder), **flags)


@pytest.mark.parametrize("wanted", [None, "false", "False"])
def test_resumed__is_none_unless_asked_for(wanted, out):
    assert resumed_checkpoint(arguments(out, resume_from_checkpoint=wanted)) is None


@pytest.mark.parametrize("wanted", ["true", "True"])
def test_resumed__true_is_the_last_checkpoint_by_number(wanted, out):
    assert resumed_checkpoint(arguments(out, resume_from_checkpoint=wanted)) == str(out / "checkpoint-10")


def test_resumed__a_folder_is_taken_as_it_is(out):
    wanted = str(out / "checkpoint-9")
    assert resumed_checkpoint(arguments(out, resume_from_checkpoint=wanted)) == wanted


def test_resumed__the_last_checkpoint_of_a_folder_that_holds_some(out):
    assert resumed_checkpoint(arguments(out.parent / "other", resume_from_checkpoint=str(out))) == str(
        out / "checkpoint-10"
    )


def test_resumed__a_checkpoint_by_another_name(out):
    moved = (out / "checkpoint-10").rename(out.parent / "best")
    (moved / "trainer_state.json").write_text("{}")
    assert resumed_checkpoint(arguments(out, resume_from_checkpoint=str(moved))) == str(moved)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "neither is a checkpoint .* nor holds any"),
        (
            ["config.json", "trainer_state.json", "all_results.json"],
            "finished run that kept no checkpoint.*--model_name",
        ),
    ],
)
def test_resumed__a_folder_without_a_checkpoint(files, message, tmp_path):
    for name in files:
        (tmp_path / name).write_text("{}")
    with pytest.raises(ValueError, match=message):
        resumed_checkpoint(arguments(tmp_path, resume_from_checkpoint=str(tmp_path)))


def test_claim__refuses_what_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"output_dir '.*out' cannot be written \(Not a directory\)\. Name another"):
        claim(arguments(tmp_path / "file" / "out"))

    def read_only(*args: object, **kwargs: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("modeling_data2vec_generic.errors.TemporaryFile", read_only)
    with pytest.raises(ValueError, match=r"output_dir '.*new' cannot be written \(Read-only file system\)"):
        claim(arguments(tmp_path / "new"))


@pytest.mark.parametrize("name", ["empty", "absent"])
def test_resumed__true_starts_a_run_that_has_no_checkpoint_yet(name, tmp_path, caplog):
    (tmp_path / "empty").mkdir()
    wanted = arguments(tmp_path / name, resume_from_checkpoint="true")
    assert resumed_checkpoint(wanted) is None
    with caplog.at_level("INFO", logger="modeling_data2vec_generic"):
        claim(wanted)
    assert f"{name} holds no checkpoint to resume from yet: starting from the beginning" in caplog.text


def test_claim__true_does_not_start_over_a_finished_run_without_checkpoints(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="It has no checkpoint to resume, start anew with --overwrite_output_dir"):
        claim(arguments(tmp_path, resume_from_checkpoint="true"))


def test_resumed__a_folder_that_is_not_there(out):
    with pytest.raises(ValueError, match=r"checkpoint-11' is no folder.*'true'"):
        resumed_checkpoint(arguments(out, resume_from_checkpoint=str(out / "checkpoint-11")))


def test_claim__takes_an_empty_or_new_directory(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    for folder in (tmp_path, tmp_path / "new"):
        claim(arguments(folder))
    assert (tmp_path / "notes.txt").exists()


@pytest.mark.parametrize(
    ("trace", "way_out"),
    [
        ("checkpoint-5", "--resume_from_checkpoint true"),
        ("config.json", "no checkpoint"),
        ("trainer_state.json", "no"),
    ],
)
def test_claim__refuses_what_holds_a_run(trace, way_out, tmp_path):
    (tmp_path / trace).mkdir()
    with pytest.raises(ValueError, match=rf"already holds a run \({trace}\).*{way_out}.*anew"):
        claim(arguments(tmp_path))


def test_claim__lets_a_run_be_resumed(out):
    claim(arguments(out, resume_from_checkpoint="true"))
    assert len(list(out.glob("checkpoint-*"))) == 2


def test_claim__clears_old_checkpoints_if_told_to_overwrite(out):
    claim(arguments(out, overwrite_output_dir=True))
    assert not list(out.glob("checkpoint-*"))


def test_claim__refuses_a_file(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(ValueError, match="is a file. Name a folder"):
        claim(arguments(tmp_path / "out"))
