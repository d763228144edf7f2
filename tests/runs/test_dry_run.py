"""Dry runs: what they print, and what they leave behind."""

import re
from contextlib import redirect_stdout
from io import StringIO

import pytest

import run_finetune
import run_pretraining
from modeling_data2vec_generic.runs import dry_run, pretraining
from tests.tiny import from_scratch, image_folder, run, run_flags, text_file, tiny_encoder


def pretrain(folder, *flags, steps=40):
    """What a dry run into folder/out prints, on tiny images."""
    if not (folder / "images").exists():
        image_folder(folder / "images")
    source = ["--train_dir", str(folder / "images"), "--validation_split_percentage", "20"]
    with redirect_stdout(StringIO()) as printed:
        run_pretraining.main([*run_flags(folder / "out", steps), *from_scratch("vit"), *source, *flags, "--use_cpu"])
    return printed.getvalue()


def value(text, name):
    """What stands beside a name."""
    return re.search(rf"^  {re.escape(name)} +(.*)$", text, re.MULTILINE)[1]


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The folder of a dry run, and what it has printed."""
    folder = tmp_path_factory.mktemp("dry")
    flags = ["--objective", "data2vec2", "--num_masks", "3", "--eval_strategy", "steps", "--eval_steps", "10"]
    return folder, pretrain(folder, "--dry_run", *flags)


@pytest.mark.fast
def test_dry_run__tells_settings_tokens_parameters_and_cost(done):
    printed = done[1]
    for name, expected in {
        "num_masks": r"3 +flag",
        "student_input": r"visible +objective data2vec2",
        "input": r"pixel_values, 3 x 16 x 16 per sample",
        "positions": r"4 x 4 = 16 patches, and 1 in front",
        "masks": r"3 per sample",
        "masked": r"13 patches per mask, 81%",  # inverse blocks mask 16 - int(16 * .2)
        "visible": r"3 patches per mask; the student reads visible ones alone",
        "batch": r"4 samples per step \(4 on a device\)",
        "steps": r"40, 10 times all 14 samples",  # in steps of 4, 4, 4 and 2
        "time of the run": r"about .+ seconds for them, without 4 evaluations and what comes before and after",
    }.items():
        assert re.match(expected, value(printed, name)), name
    assert "seed" not in printed.split("Data")[0]  # a default
    assert re.search(r"^  train +.*image", printed, re.MULTILINE)
    encoder = sum(weight.numel() for weight in tiny_encoder("vit").parameters())
    assert value(printed, "student (the encoder)") == value(printed, "teacher") == f"{encoder:,}"


def test_dry_run__leaves_a_picture_and_lets_a_run_begin(done):
    folder = done[0]
    left = [path for path in (folder / "out").rglob("*") if path.is_file()]
    assert left == [folder / "out" / "dry_run" / "masks.png"]
    run(*from_scratch("vit"), "--train_dir", str(folder / "images"), output_dir=folder / "out", steps=1)
    assert (folder / "out" / "encoder" / "config.json").is_file()


@pytest.mark.fast
def test_dry_run__keeps_the_run_that_is_there(tmp_path):
    checkpoint = tmp_path / "out" / "checkpoint-7"
    checkpoint.mkdir(parents=True)
    assert "it holds a run already (checkpoint-7)" in pretrain(tmp_path, "--dry_run")
    assert checkpoint.is_dir()


@pytest.mark.fast
def test_dry_run__all__has_defaults_and_the_configuration(tmp_path):
    printed = pretrain(tmp_path, "--dry_run", "all", "--hub_token", "hf_secret")
    assert re.match(r"42 +default of transformers", value(printed, "seed"))
    assert re.match(r"0.1 +default", value(printed, "max_bad_fraction"))
    assert value(printed, "num_hidden_layers") == "2"
    assert "hf_secret" not in printed


@pytest.mark.fast
def test_dry_run__of_text_tells_the_lengths(capsys, tmp_path):
    flags = [
        "--train_file",
        str(text_file(tmp_path / "a.txt")),
        "--train_tokenizer",
        "--line_by_line",
        "--max_seq_length",
        "16",
    ]
    run_pretraining.main([*run_flags(tmp_path / "out", 5), *from_scratch("bert"), *flags, "--dry_run"])
    printed = capsys.readouterr().out
    assert re.match(r"\d+ to \d+ \(mean [\d.]+\) tokens", value(printed, "positions"))
    assert "masks.png" in value(printed, "masks") or "1 per sample" in value(printed, "masks")


@pytest.mark.fast
def test_take_steps__measures_the_time_between_steps(tmp_path, monkeypatch):
    """By a clock that stands still but for the steps: 10 s for the first one, 2 s for each other."""
    times = iter([100.0, 110.0, 112.0, 114.0])
    clock = type("Clock", (), {"perf_counter": staticmethod(lambda: next(times))})
    monkeypatch.setattr(dry_run, "time", clock)
    printed = pretrain(tmp_path, "--dry_run", steps=1800)
    assert "2 s, 2 samples per second (the mean of 2 steps, after one that warmed up" in printed
    assert "about 1 hour for them" in printed


def test_pretrain__returns_the_estimates_of_a_dry_run(tmp_path):
    overrides = from_scratch("vit")[-1]
    dry = pretraining.pretrain(
        train_dir=str(image_folder(tmp_path / "images")),
        model_type="vit",
        config_overrides=overrides,
        output_dir=str(tmp_path / "out"),
        max_steps=2,
        per_device_train_batch_size=4,
        use_cpu=True,
        dry_run=True,
    )
    assert dry.metrics["steps"] == 2
    assert dry.metrics["estimated_seconds"] == pytest.approx(2 * dry.metrics["seconds_per_step"])
    assert not dry.encoder_dir.exists()


@pytest.mark.parametrize(("method", "expected"), [("--from_scratch", "12"), ("--knn", None)])
def test_dry_run__of_fine_tuning(method, expected, capsys, tmp_path):
    flags = [*run_flags(tmp_path / "out", 12), *from_scratch("vit"), "--train_dir", str(image_folder(tmp_path / "a"))]
    run_finetune.main([*flags, method, "--dry_run"])
    printed = capsys.readouterr().out
    assert re.match(r"0.7 +default of image-classification", value(printed, "mixup"))
    assert ("with its head" in printed) == (expected is not None)
    if expected is not None:
        assert value(printed, "steps").startswith(expected)
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


@pytest.mark.fast
def test_dry_run__with_an_unknown_value_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="dry_run='some' is unknown"):
        pretraining.parse(["--output_dir", str(tmp_path), "--model_type", "vit", "--dry_run", "some"])
