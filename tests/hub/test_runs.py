"""Runs that push, against a Hub on the loopback interface: what is there, when, and what a failure leaves."""

import os
import subprocess
import sys
from pathlib import Path

from ..loopback_hub import TOKEN
from ..tiny import from_scratch, image_folder, run, text_file

IN_NEW_PROCESS = """
import sys

sys.modules["modeling_data2vec_generic"] = None  # as where it is not installed
from transformers import AutoImageProcessor, AutoModel, AutoModelForPreTraining, AutoTokenizer, pipeline

images, texts, earlier = sys.argv[1:]
assert AutoModel.from_pretrained(images).config.model_type == "vit"
AutoImageProcessor.from_pretrained(images)
assert len(pipeline(model=images)("image.png")[0]) == 17
assert len(pipeline("feature-extraction", model=texts)("a seed")[0]) > 2
AutoTokenizer.from_pretrained(texts)
for name, revision in ((images, None), (texts, None), (texts, earlier)):
    whole = AutoModelForPreTraining.from_pretrained(
        name, subfolder="pretraining", trust_remote_code=True, revision=revision
    )
    assert hasattr(whole, "teacher")
AutoModel.from_pretrained(texts, revision=earlier)
"""


def images(tmp_path: Path) -> list[str]:
    folder = image_folder(tmp_path / "images")
    return ["--train_dir", str(folder), *from_scratch("vit"), "--push_to_hub", "--hub_private_repo"]


def texts(tmp_path: Path) -> list[str]:
    file = text_file(tmp_path / "text.txt")
    tokenizer = ["--train_tokenizer", "--tokenizer_vocab_size", "300", "--max_seq_length", "16"]
    return ["--train_file", str(file), *tokenizer, *from_scratch("bert"), "--push_to_hub"]


def test_runs__can_be_loaded_by_id_in_a_new_process(hub, tmp_path):
    run(*images(tmp_path), output_dir=tmp_path / "images-out")
    saves = ["--save_strategy", "steps", "--save_steps", "1", "--save_total_limit", "1", "--hub_always_push"]
    run(*texts(tmp_path), *saves, output_dir=tmp_path / "texts-out")
    pictures, words = hub.repos["tester/images-out"], hub.repos["tester/texts-out"]
    assert (pictures.private, words.private) == (True, False)
    assert pictures.titles == ["End of training"]
    assert {"README.md", "config.json", "model.safetensors", "preprocessor_config.json"} < set(pictures.files)
    assert "pretraining/model.safetensors" in pictures.files
    assert not [name for name in pictures.files if name.endswith(".bin") or name.partition("/")[0].endswith(".py")]
    card = pictures.files["README.md"].decode()
    assert 'AutoModel.from_pretrained("tester/images-out")' in card
    assert 'from_pretrained("tester/images-out", subfolder="pretraining", trust_remote_code=True)' in card
    assert str(tmp_path / "images-out") not in card.split("```")[1]
    assert words.titles == ["Training in progress, step 1", "Training in progress, step 2", "End of training"]
    assert "step 1 of 2" in words.commits[1].files["README.md"].decode()
    assert not (tmp_path / "texts-out" / "_hub").exists()
    environment = os.environ | {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HOME": str(tmp_path / "home")}
    environment |= {"HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
    next((tmp_path / "images").rglob("*.png")).rename(tmp_path / "image.png")
    arguments = ["tester/images-out", "tester/texts-out", words.commits[1].ident]
    done = subprocess.run(
        [sys.executable, "-c", IN_NEW_PROCESS, *arguments],
        env=environment,
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "remote code" not in done.stdout  # what transformers asks for leave to run
