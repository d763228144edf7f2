"""Bad input raises one clear error before training, which says what to do."""

import json
import re
import shutil
from pathlib import Path

import pytest
from transformers import Trainer

import run_pretraining
from modeling_data2vec_generic.modalities.text.tokenizer import train_tokenizer

from ..tiny import (
    from_scratch,
    image_folder,
    image_parquet,
    run_flags,
    sentences,
    sound_folder,
    text_file,
    tiny_encoder,
)

pytestmark = [pytest.mark.fast, pytest.mark.usefixtures("own_cache")]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Makes good data of every kind, a tokenizer without mask token, and encoders."""
    folder = tmp_path_factory.mktemp("data")
    image_folder(folder / "images")
    sound_folder(folder / "sound")
    image_parquet(folder / "images.parquet")
    for ending in ("txt", "csv"):
        text_file(folder / f"text.{ending}")
    tokenizer = train_tokenizer(sentences(40), 300)
    tokenizer.save_pretrained(folder / "tokenizer")
    tokenizer.mask_token = None
    tokenizer.save_pretrained(folder / "maskless")
    tiny_encoder("vit").save_pretrained(folder / "vit")
    tiny_encoder("bert", vocab_size=280).save_pretrained(folder / "bert")
    (folder / "no_data").mkdir()
    (folder / "notes").mkdir()
    (folder / "notes" / "notes.md").write_text("nothing to see or hear")
    (folder / "empty.txt").write_text("")
    (folder / "blank.txt").write_text("\n \n\n")
    (folder / "header.csv").write_text("text,label\n")
    return folder


@pytest.fixture
def fails(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Runs the script, which must fail before it trains, and returns the message."""

    def trained(*args: object, **kwargs: object) -> None:
        pytest.fail("the run went on to train")

    monkeypatch.setattr(Trainer, "train", trained)

    def message(*flags: str, output_dir: Path = tmp_path / "out") -> str:
        in_place = [flag.replace("DATA", str(data)) for flag in flags]
        with pytest.raises(ValueError, match=r"\w") as caught:
            run_pretraining.main([*run_flags(output_dir, 2), *in_place])
        return str(caught.value)

    return message


IMAGES = "--train_dir DATA/images".split()
SOUND = "--train_dir DATA/sound".split()
TEXT = "--train_file DATA/text.txt --max_seq_length 16".split()
TOKENIZER = "--train_tokenizer --tokenizer_vocab_size 300".split()


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        ("--train_dir DATA/no_data", ["holds no images or sound", "no files at all", "--train_file"]),
        ("--train_dir DATA/notes", ["holds no images or sound", "1 .md", "--train_file"]),
        ("--train_dir DATA/notes --modality vision", ["holds no images", ".png", "1 .md"]),
        ("--train_dir DATA/sound --modality vision", ["holds no images", ".wav"]),
        ("--train_dir DATA/nowhere", ["is not a folder", "nowhere"]),
        ("", ["No training data", "--dataset_name", "--train_file", "--train_dir"]),
        ("--train_dir DATA/images --dataset_name digits", ["several sources of training data", "--dataset_weights"]),
        ("--train_file DATA/images.parquet --image_column_name photo", ["photo", "picture, kind"]),
        ("--train_file DATA/images.parquet --label_column_name species", ["species", "picture, kind"]),
    ],
)
def test_data_of_images__that_are_not_there(flags, parts, fails):
    found = fails(*from_scratch("vit"), *flags.split())
    assert all(part in found for part in parts), found


@pytest.mark.parametrize("folder", ["no_data", "notes", "images"])
def test_data_of_sound__that_are_not_there(folder, fails):
    found = fails(*from_scratch("wav2vec2"), "--train_dir", f"DATA/{folder}", "--modality", "speech")
    assert "holds no sound" in found
    assert ".wav" in found


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        ("--train_file DATA/empty.txt", ["empty.txt", "is empty (0 bytes)"]),
        ("--train_file DATA/blank.txt", ["blank.txt", "holds no text"]),
        ("--train_file DATA/header.csv", ["header.csv", "no rows"]),
        ("--train_file DATA/nowhere.txt", ["nowhere.txt", "is not a file"]),
        ("--dataset_name DATA/text.txt", ["text.txt' cannot be loaded", "a file is for --train_file"]),
        ("--dataset_name DATA/text.txt --streaming", ["text.txt' cannot be loaded", "a file is for --train_file"]),
        ("--train_file DATA/text.csv --text_column_name body", ["'body'", "text, label"]),
    ],
)
def test_data_of_text__that_are_not_there(flags, parts, fails):
    found = fails(*from_scratch("bert"), *TOKENIZER, "--max_seq_length", "16", *flags.split())
    assert all(part in found for part in parts), found


def test_data__more_than_a_tenth_of_it_corrupt(fails, tmp_path):
    folder = image_folder(tmp_path / "images", 18, labelled=False)
    for name in ("000.png", "002.png"):
        (folder / name).write_bytes((folder / name).read_bytes()[:60])
    flags = [*from_scratch("vit"), "--train_dir", str(folder), "--validation_split_percentage", "0"]
    found = fails(*flags)
    assert "2 of 18 train images are bad" in found
    assert "000.png" in found
    assert "--max_bad_fraction" in found


def test_data__sound_cut_off(fails, tmp_path):
    folder = sound_folder(tmp_path / "sound", 9, labelled=False)
    for path in sorted(folder.iterdir())[:2]:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    flags = [*from_scratch("wav2vec2"), "--train_dir", str(folder), "--validation_split_percentage", "0"]
    found = fails(*flags)
    assert "2 of 9 train sounds are bad" in found
    assert "truncated" in found


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        ("--model_type vitt", ["model_type='vitt'", "Did you mean vit"]),
        ("--model_type vit --model_name_or_path DATA/vit", ["Exactly one of", "2 are given"]),
        ("--config_overrides hidden_size=16", ["Exactly one of", "0 are given", "--model_type vit"]),
        ("--model_type vit --config_overrides hiden_size=16", ["hiden_size", "Did you mean hidden_size"]),
        ("--model_type vit --config_overrides hidden_size", ["'hidden_size'", "name=value"]),
        ("--model_name_or_path DATA/vit --config_overrides hidden_size=8", ["config_overrides", "--config_name"]),
        (
            "--model_type vit --config_overrides hidden_size=16,num_attention_heads=2,image_size=16,patch_size=5",
            ["patch_size=5", "image_size=16"],
        ),
    ],
)
def test_encoder__that_cannot_be_made(flags, parts, fails):
    found = fails(*IMAGES, *flags.split())
    assert all(part in found for part in parts), found


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        ("--average_top_k_layers 3", ["average_top_k_layers=3", "2 blocks", "1 to 2"]),
        ("--average_top_k_layers 0", ["average_top_k_layers=0", "at least 1"]),
        ("--objective data2vec3", ["objective='data2vec3'", "'data2vec', 'data2vec2'"]),
        ("--student_input visible", ["student_input='visible'", "predictor='linear'", "predictor='conv'"]),
        ("--student_input visibel", ["student_input='visibel'", "'mask_token', 'visible'"]),
        ("--predictor tree", ["predictor='tree'", "'linear', 'mlp', 'conv'"]),
        ("--target_layer_norms group", ["target_layer_norms", "group", "instance"]),
        ("--predictor conv --decoder_groups 7", ["decoder_groups=7", "must divide", "16"]),
        ("--mask_ratio 0", ["mask_ratio=0.0", "nothing or everything"]),
        ("--mask_ratio 1", ["mask_ratio=1.0", "nothing or everything"]),
        ("--mask_ratio 0.05", ["mask_ratio=0.05", "16 positions", "0 would be masked"]),
        ("--mask_strategy random --mask_ratio 0.99", ["mask_ratio=0.99", "16 would be masked"]),
        ("--mask_strategy inverse_block", ["inverse_block", "needs mask_length"]),
        ("--ema_decay 0.9 --ema_end_decay 0.8", ["ema_decay=0.9 is above ema_end_decay=0.8"]),
        ("--num_masks 0", ["num_masks=0", "at least 1"]),
    ],
)
def test_objective__that_makes_no_sense(flags, parts, fails):
    found = fails(*from_scratch("vit"), *IMAGES, *flags.split())
    assert all(part in found for part in parts), found


def test_mask_strategy__that_is_unknown_is_refused_by_the_parser(fails):
    message = fails(*from_scratch("vit"), *IMAGES, "--mask_strategy", "stripes")
    assert message.startswith("--mask_strategy: invalid choice: 'stripes'")
    assert all(strategy in message for strategy in ("random", "span", "block", "inverse_block"))


def test_mask__span_as_long_as_the_sequence(fails):
    flags = [*from_scratch("bert"), *TEXT, *TOKENIZER, "--mask_strategy", "span", "--mask_length", "14"]
    found = fails(*flags)
    assert "a span of 14 leaves nothing visible" in found


def test_lines__too_short_for_the_mask_are_bad_before_training(fails):
    flags = [*from_scratch("bert"), *TOKENIZER, "--train_file", "DATA/text.csv", "--line_by_line"]
    found = fails(*flags, "--max_seq_length", "30", "--mask_strategy", "span", "--mask_length", "12")
    assert "max_bad_fraction" in found
    assert "too short" in found


# --- text


def test_tokenizer__is_missing(fails):
    found = fails(*from_scratch("bert"), *TEXT)
    assert "--processor_name" in found
    assert "--train_tokenizer" in found


def test_tokenizer__of_an_encoder_that_came_without_one(fails):
    found = fails("--model_name_or_path", "DATA/bert", *TEXT)
    assert "--processor_name" in found
    assert "tokenizer" in found


def test_tokenizer__has_no_mask_token(fails):
    found = fails(*from_scratch("bert"), *TEXT, "--processor_name", "DATA/maskless")
    assert re.search("maskless has no mask token", found)
    assert "--train_tokenizer" in found


def test_tokenizer__is_larger_than_the_encoders_vocabulary(fails):
    found = fails("--model_name_or_path", "DATA/bert", *TEXT, "--processor_name", "DATA/tokenizer")
    assert "300 tokens" in found
    assert "280" in found
    assert "--processor_name" in found


@pytest.mark.parametrize(("model_type", "limit"), [("bert", 40), ("roberta", 39)])
def test_sequence__is_longer_than_the_positions(model_type, limit, fails):
    flags = [*from_scratch(model_type), "--train_file", "DATA/text.txt", *TOKENIZER]
    found = fails(*flags, "--max_seq_length", "50")
    assert f"Sequences of 50 tokens are longer than the {limit} positions" in found
    assert f"--max_seq_length to at most {limit}" in found


def test_sequence__is_too_short_for_its_special_tokens(fails):
    found = fails(*from_scratch("bert"), "--train_file", "DATA/text.txt", *TOKENIZER, "--max_seq_length", "3")
    assert "max_seq_length=3 is too short" in found


# --- encoders that cannot read the data


@pytest.mark.parametrize(
    ("model_type", "source", "given"),
    [
        ("bert", IMAGES, "pixel_values"),
        ("wav2vec2", IMAGES, "pixel_values"),
        ("vit", SOUND, "input_values"),
        ("bert", SOUND, "input_values"),
        ("vit", [*TEXT, *TOKENIZER], "input_ids"),
        ("wav2vec2", [*TEXT, *TOKENIZER], "input_ids"),
    ],
)
def test_modality__does_not_fit_the_backbone(model_type, source, given, fails):
    found = fails(*from_scratch(model_type), *source)
    assert f"A {model_type} encoder reads" in found
    assert f"these data give {given}. Choose e.g." in found
    assert "--modality" in found


def test_modality__text_for_an_encoder_of_images_in_a_folder(fails):
    found = fails("--model_name_or_path", "DATA/vit", *TEXT, *TOKENIZER)
    assert "A vit encoder reads pixel_values, and these data give input_ids" in found


def test_modality__is_unknown(fails):
    found = fails(*from_scratch("vit"), *IMAGES, "--modality", "smell")
    assert "modality='smell'" in found
    assert "text, vision, speech" in found


# --- output directory


@pytest.fixture
def held(tmp_path: Path) -> Path:
    """The output directory of a finished run."""
    folder = tmp_path / "held"
    (folder / "checkpoint-2").mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({}))
    return folder


def test_output_directory__holds_a_run(fails, held):
    found = fails(*from_scratch("vit"), *IMAGES, output_dir=held)
    assert str(held) in found
    assert "already holds a run (checkpoint-2, config.json)" in found
    assert "--resume_from_checkpoint true" in found
    assert "--overwrite_output_dir" in found


def test_output_directory__checkpoint_to_resume_is_not_there(fails):
    found = fails(*from_scratch("vit"), *IMAGES, "--resume_from_checkpoint", "DATA/checkpoint-9")
    assert "checkpoint-9" in found
    assert "is no folder" in found


def test_output_directory__is_a_file(fails, tmp_path):
    (tmp_path / "file").write_text("")
    found = fails(*from_scratch("vit"), *IMAGES, output_dir=tmp_path / "file")
    assert "is a file" in found


def test_error__leaves_no_trace_that_would_stand_in_the_way_of_the_next_try(fails, tmp_path):
    fails(*from_scratch("vit"), *IMAGES, "--average_top_k_layers", "3")
    assert not [path for path in (tmp_path / "out").rglob("*") if path.name in ("config.json", "trainer_state.json")]


# --- malicious input


@pytest.mark.parametrize(
    "content", [b"[]", b"5", b"{", b'{"a":\xff}', b"[" * 100_000, b'{"max_steps": 1' + b"0" * 5000 + b"}"]
)
def test_recipe__that_is_damaged_is_named(content, tmp_path):
    (tmp_path / "recipe.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"The recipe .*recipe\.json (is not valid JSON|holds a (list|int) where)"):
        run_pretraining.main([str(tmp_path / "recipe.json")])


CODE = "import pathlib\npathlib.Path({path!r}).touch()\n"


@pytest.mark.parametrize(
    ("file", "auto_map"),
    [
        ("preprocessor_config.json", {"AutoImageProcessor": "code.Code", "AutoProcessor": "code.Code"}),
        ("config.json", {"AutoConfig": "code.Code", "AutoModel": "code.Code"}),
    ],
)
def test_code__that_comes_with_an_encoder_is_not_run_unless_told_to(file, auto_map, fails, data, tmp_path):
    folder = shutil.copytree(data / "vit", tmp_path / "vit")
    settings = {"image_processor_type": "Unknown"} | json.loads((data / "vit" / "config.json").read_text())
    (folder / file).write_text(json.dumps(settings | {"auto_map": auto_map, "model_type": "unknown"}))
    (folder / "code.py").write_text(CODE.format(path=str(tmp_path / "ran")))
    found = fails("--model_name_or_path", str(folder), *IMAGES)
    assert "trust_remote_code" in found
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("hidden_size", 10**9),
        ("hidden_size", -1),
        ("num_hidden_layers", 10**9),
        ("image_size", "x"),
        ("patch_size", 0),
    ],
)
def test_encoder__of_a_damaged_configuration_is_named(field, value, fails, data, tmp_path):
    folder = shutil.copytree(data / "vit", tmp_path / "vit")
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {field: value}))
    assert f"model_name_or_path={str(folder)!r} cannot be loaded" in fails(
        "--model_name_or_path", str(folder), *IMAGES
    )


@pytest.mark.parametrize(
    "settings",
    ["hidden_size=1000000000", "num_hidden_layers=100000000", "hidden_size=-16", "hidden_size=x", "patch_size=0"],
)
def test_encoder__from_scratch_that_is_too_large_or_impossible(settings, fails):
    assert "configuration" in fails("--model_type", "vit", "--config_overrides", settings, *IMAGES)
