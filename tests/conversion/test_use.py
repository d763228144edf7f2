"""What can be done with converted data2vec 2.0 encoders: loading, further pre-training, fine-tuning, the command."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast, pipeline

import run_finetune
from modeling_data2vec_generic.commands import console
from modeling_data2vec_generic.conversion.converting import convert

from ..reference import load
from ..tiny import WORDS, image_folder, run, run_flags, sound_folder, text_file
from .written import source_of, weights_of, write

NAMES = ["v2_text", "v2_image", "v2_audio"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the three encoders, converted, under their names, and a tokenizer."""
    folder = tmp_path_factory.mktemp("converted")
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    words = {word: i for i, word in enumerate([*special, *dict.fromkeys(WORDS)])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    names = dict(zip(("bos_token", "pad_token", "eos_token", "unk_token", "mask_token"), special, strict=True))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder / "tokenizer")
    for name in NAMES:
        processor = str(folder / "tokenizer") if name == "v2_text" else None
        convert(write(folder, name), folder / name, processor_name=processor)
    return folder


WITHOUT_THE_PACKAGE = """
import sys
sys.modules["modeling_data2vec_generic"] = None  # importing it fails, as where it is not installed
import torch
from transformers import AutoModel
for name in sys.argv[2:]:
    model = AutoModel.from_pretrained(f"{sys.argv[1]}/{name}", trust_remote_code=True).eval()
    torch.save(model(torch.load(f"{name}.in")).last_hidden_state, f"{name}.out")
"""


def test_encoders__load_with_their_code_where_the_package_is_not_installed(folder, tmp_path):
    for name in NAMES:
        torch.save(source_of(name), tmp_path / f"{name}.in")
    process = subprocess.run(
        [sys.executable, "-c", WITHOUT_THE_PACKAGE, str(folder), *NAMES],
        cwd=tmp_path,
        env=os.environ | {"HF_MODULES_CACHE": str(tmp_path / "modules"), "PYTHONPATH": ""},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    for name in NAMES:
        model = AutoModel.from_pretrained(folder / name).eval()
        assert torch.equal(torch.load(tmp_path / f"{name}.out"), model(source_of(name)).last_hidden_state)


def data_flags(name: str, folder: Path) -> list[str]:
    """Flags that name an encoder, and data for it."""
    flags = ["--model_name_or_path", str(folder / name)]
    if name == "v2_text":
        return [*flags, "--train_file", str(text_file(folder / "text.parquet")), "--max_seq_length", "16"]
    if name == "v2_image":
        return [*flags, "--train_dir", str(image_folder(folder / "images"))]
    return [*flags, "--train_dir", str(sound_folder(folder / "sounds", seconds=0.04))]


@pytest.mark.parametrize("name", ["v2_text", "v2_audio"])
def test_encoders__are_pre_trained_further(name, folder, tmp_path):
    flags = ["--objective", "data2vec2", "--num_masks", "2", "--decoder_dim", "16", "--decoder_groups", "4"]
    trainer = run(*data_flags(name, folder), *flags, output_dir=tmp_path / "out")
    assert trainer.model.config.student_input == "visible"
    before = AutoModel.from_pretrained(folder / name).state_dict()
    after = AutoModel.from_pretrained(tmp_path / "out" / "encoder").state_dict()
    assert after.keys() == before.keys()
    assert not torch.equal(
        after["blocks.0.attention.self.query.weight"], before["blocks.0.attention.self.query.weight"]
    )
    assert (tmp_path / "out" / "encoder" / "data2vec2_encoders_data2vec_generic.py").is_file()


@pytest.mark.parametrize("name", ["v2_image", "v2_audio"])
def test_encoders__are_fine_tuned(name, folder, tmp_path, monkeypatch):
    monkeypatch.setattr("modeling_data2vec_generic.reporting.finetuning.find_spec", lambda name: None)  # no figures
    flags = [*run_flags(tmp_path / "out", 2), "--validation_split_percentage", "34"]
    run_finetune.main([*flags, *data_flags(name, folder)])
    metrics = json.loads((tmp_path / "out" / "all_results.json").read_text())
    assert 0 <= metrics["eval_accuracy"] <= 1


def test_vision_encoder__works_in_a_pipeline(folder):
    from PIL import Image

    extract = pipeline("image-feature-extraction", model=str(folder / "v2_image"))
    features = torch.tensor(extract(Image.new("RGB", (60, 50), "red")))
    assert features.shape == (1, 37, 32)


@pytest.mark.fast
def test_states__are_those_of_all_blocks(tmp_path):
    model = convert(write(tmp_path, "v2_image"), tmp_path / "out").model.eval()
    output = model(source_of("v2_image"), output_hidden_states=True)
    assert len(output.hidden_states) == 1 + 2 + 4  # what the first block reads, prenet, main blocks
    assert torch.equal(output.hidden_states[-1], output.last_hidden_state)
    assert model(source_of("v2_image")).hidden_states is None


@pytest.mark.fast
def test_model_types__make_new_encoders():
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    for kind in ("text", "vision", "audio"):
        config = AutoConfig.for_model(f"data2vec2-{kind}", **sizes)
        model = AutoModel.from_config(config)
        assert all(bool(weight.isfinite().all()) for weight in model.state_dict().values())
    assert "embeddings.token_type_embeddings.weight" not in model.state_dict()


@pytest.mark.fast
def test_command__says_what_it_did_and_how_to_load_it(tmp_path, capsys):
    console.main(["convert", str(write(tmp_path, "v2_text")), str(tmp_path / "out"), "--weights", "teacher"])
    words = capsys.readouterr().out
    assert words.startswith("fairseq data2vec 2.0 (text): Data2Vec2TextModel with 0.0 million parameters is in ")
    assert "Left out, since the model has no place for it: modality_encoders.TEXT.decoder.blocks.*.*.bias (5)" in words
    line = next(line for line in words.splitlines() if "from_pretrained" in line)
    assert line.strip() == f'model = AutoModel.from_pretrained("{tmp_path / "out"}", trust_remote_code=True)'
    loaded = AutoModel.from_pretrained(tmp_path / "out").state_dict()
    teacher = load("v2_text")[1]["teacher/0.norm1.weight"]
    assert torch.equal(loaded["blocks.0.attention.output.LayerNorm.weight"], teacher)


@pytest.mark.fast
def test_command__names_the_class_of_a_fine_tuned_model(tmp_path, capsys):
    weights = {key: weight for key, weight in weights_of("v1_audio").items() if "_ema" not in key}
    weights = {f"w2v_encoder.w2v_model.{key}": weight for key, weight in weights.items()}
    weights |= {"w2v_encoder.proj.weight": torch.randn(7, 32), "w2v_encoder.proj.bias": torch.randn(7)}
    console.main(["convert", str(write(tmp_path, "v1_audio", weights)), str(tmp_path / "out")])
    assert f'model = Data2VecAudioForCTC.from_pretrained("{tmp_path / "out"}")' in capsys.readouterr().out
