"""Runs that push to a Hub on the loopback interface: what can be loaded from there, and what a failure leaves."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import run_finetune
import run_pretraining
from modeling_data2vec_generic.commands import console

from ..loopback_hub import TOKEN, Repo
from ..tiny import from_scratch, image_folder, run, run_flags, text_file

IN_NEW_PROCESS = """
import sys

sys.modules["modeling_data2vec_generic"] = None  # as where it is not installed
import PIL.Image
from huggingface_hub import hf_hub_download
from transformers import AutoModel, AutoModelForPreTraining, AutoTokenizer, pipeline

images, texts, earlier = sys.argv[1:]
assert len(pipeline(model=images)("image.png")[0]) == 17
assert len(pipeline("feature-extraction", model=texts)("a seed")[0]) > 2
AutoTokenizer.from_pretrained(texts)
AutoModel.from_pretrained(texts, revision=earlier)
AutoModelForPreTraining.from_pretrained(texts, subfolder="pretraining", trust_remote_code=True, revision=earlier)

names = {"images": PIL.Image.open("image.png").convert("RGB")}
with open(hf_hub_download(images, "README.md")) as card:
    for code in card.read().split("```python")[1:]:
        exec(code.partition("```")[0], names)
assert names["features"].shape[:2] == (1, 17)
assert names["model"].teacher.config.model_type == "vit"
"""


@pytest.fixture
def images(tmp_path):
    """Flags of a run on images, which is pushed."""
    folder = image_folder(tmp_path / "data")
    return ["--train_dir", str(folder), *from_scratch("vit"), "--push_to_hub", "--hub_private_repo"]


@pytest.fixture
def texts(tmp_path):
    """Flags of a run on texts, which is pushed after each of its two steps."""
    tokenizer = ["--train_tokenizer", "--tokenizer_vocab_size", "300", "--max_seq_length", "16"]
    saves = ["--save_strategy", "steps", "--save_steps", "1", "--hub_always_push"]
    file = str(text_file(tmp_path / "text.txt"))
    return ["--train_file", file, *tokenizer, *from_scratch("bert"), *saves, "--push_to_hub"]


def test_runs__can_be_loaded_by_id_in_a_new_process(hub, tmp_path, images, texts):
    run(*images, output_dir=tmp_path / "images")
    run(*texts, output_dir=tmp_path / "texts")
    pictures, words = hub.repos["tester/images"], hub.repos["tester/texts"]
    assert (pictures.private, words.private) == (True, False)
    assert pictures.titles == ["End of training"]
    assert words.titles == ["Training in progress, step 1", "Training in progress, step 2", "End of training"]
    top = {path for path in pictures.files if "/" not in path}
    assert top == {"README.md", "config.json", "model.safetensors", "preprocessor_config.json"}
    assert "## Results" in pictures.files["README.md"].decode()  # the card of the run, not a short one

    next((tmp_path / "data").rglob("*.png")).rename(tmp_path / "image.png")
    environment = {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HOME": str(tmp_path / "home")}
    environment |= {"HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
    done = subprocess.run(
        [sys.executable, "-c", IN_NEW_PROCESS, "tester/images", "tester/texts", words.commits[1].ident],
        env=os.environ | environment,
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "custom code" not in done.stdout  # what transformers asks for leave to run


def test_failed_push__at_the_end_loses_nothing_and_says_how_to_push_again(hub, tmp_path, images, monkeypatch):
    out = tmp_path / "out"
    hub.broken_uploads = 100
    with pytest.raises(SystemExit, match=rf"tester/out was not pushed: .*Everything is saved in {out}") as caught:
        run(*images, output_dir=out)
    assert hub.repos["tester/out"].titles == []
    for saved in ("README.md", "model.safetensors", "encoder/model.safetensors", "all_results.json"):
        assert (out / saved).is_file()
    hub.broken_uploads = 0
    again = str(caught.value.code).split("`")[-2]
    assert again == f"data2vec push {out} --hub_model_id tester/out"
    console.main(again.split()[1:])
    assert {"README.md", "model.safetensors", "pretraining/model.safetensors"} < set(hub.repos["tester/out"].files)


def test_access__is_refused_before_anything_is_read_or_deleted(hub, tmp_path):
    hub.repos["google/vit"] = Repo(writable=False)
    (tmp_path / "out" / "checkpoint-1").mkdir(parents=True)
    pushed = ["--overwrite_output_dir", "--push_to_hub", "--hub_model_id", "google/vit"]
    with pytest.raises(ValueError, match="'google/vit' can't be written to"):
        run_pretraining.main(
            [*run_flags(tmp_path / "out", 2), "--train_dir", "not_there", *from_scratch("vit"), *pushed]
        )
    assert (tmp_path / "out" / "checkpoint-1").is_dir()


def finetune(folder: Path, *flags: str) -> None:
    data = ["--train_dir", str(folder / "data"), "--validation_split_percentage", "34"]
    run_finetune.main([*run_flags(folder / "out", 1), *data, *from_scratch("vit"), "--push_to_hub", *flags])


def test_finetuned_model__is_at_the_top(hub, tmp_path):
    image_folder(tmp_path / "data")
    finetune(tmp_path, "--from_scratch")
    files = hub.repos["tester/out"].files
    assert {"README.md", "config.json", "model.safetensors", "preprocessor_config.json"} < set(files)
    assert {path.partition("/")[0] for path in files if "/" in path} == {"figures"}
    assert "predictions.jsonl" not in files


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--compare"], "for one model.*data2vec push"),
        (["--from_scratch", "--seeds", "0", "1"], "for one model"),
        (["--knn"], "--knn trains no model"),
    ],
)
def test_finetuning__of_no_or_of_several_models_is_not_pushed(hub, tmp_path, flags, message):
    with pytest.raises(ValueError, match=message):
        finetune(tmp_path, *flags)
    assert hub.requests == []
