"""What can be done with converted data2vec 2.0 encoders: loading, further pre-training, fine-tuning, the command."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pandas
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import AutoConfig, AutoModel, AutoModelForCTC, PreTrainedTokenizerFast, pipeline

import run_finetune
from modeling_data2vec_generic import Data2Vec2AudioConfig, Data2Vec2AudioForCTC
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


def fine_tuned(folder: Path, monkeypatch: pytest.MonkeyPatch, *flags: str) -> dict[str, float]:
    """The results of a short run, which is saved in `folder / "out"`."""
    monkeypatch.setattr("modeling_data2vec_generic.reporting.finetuning.find_spec", lambda name: None)  # no figures
    run_finetune.main([*run_flags(folder / "out", 2), "--validation_split_percentage", "34", *flags])
    return json.loads((folder / "out" / "all_results.json").read_text())


def test_vision_encoder__is_fine_tuned(folder, tmp_path, monkeypatch):
    results = fine_tuned(tmp_path, monkeypatch, *data_flags("v2_image", folder))
    assert 0 <= results["eval_accuracy"] <= 1


def test_sound_encoder__learns_to_recognise_speech(folder, tmp_path, monkeypatch):
    clips = sorted(sound_folder(folder / "spoken", seconds=0.04).rglob("*.*"))
    rows = {"audio": [str(clip) for clip in clips], "text": [clip.parent.name for clip in clips]}
    pandas.DataFrame(rows).to_csv(tmp_path / "spoken.csv", index=False)
    flags = ["--task", "ctc", "--model_name_or_path", str(folder / "v2_audio")]
    results = fine_tuned(tmp_path, monkeypatch, *flags, "--train_file", str(tmp_path / "spoken.csv"))
    assert results["eval_loss"] > 0
    assert type(AutoModelForCTC.from_pretrained(tmp_path / "out")) is Data2Vec2AudioForCTC


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
@pytest.mark.parametrize(
    ("name", "loader", "end"),
    [("v1_audio", "Data2VecAudioForCTC", ")"), ("v2_audio", "AutoModelForCTC", ", trust_remote_code=True)")],
)
def test_command__names_the_class_of_a_fine_tuned_model(name, loader, end, tmp_path, capsys):
    weights = {key: weight for key, weight in weights_of(name).items() if "_ema" not in key}
    weights = {f"w2v_encoder.w2v_model.{key}": weight for key, weight in weights.items()}
    weights |= {"w2v_encoder.proj.weight": torch.randn(7, 32), "w2v_encoder.proj.bias": torch.randn(7)}
    console.main(["convert", str(write(tmp_path, name, weights)), str(tmp_path / "out")])
    words = capsys.readouterr().out
    assert f"from transformers import {loader}\n" in words
    assert f'model = {loader}.from_pretrained("{tmp_path / "out"}"{end}\n' in words


@pytest.fixture
def recogniser() -> Data2Vec2AudioForCTC:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    frames = {"conv_dim": (8, 8), "conv_kernel": (10, 3), "conv_stride": (5, 2), "num_feat_extract_layers": 2}
    positions = {"num_conv_pos_embeddings": 1, "num_conv_pos_embedding_groups": 2, "conv_pos_kernel_size": 3}
    return Data2Vec2AudioForCTC(Data2Vec2AudioConfig(**sizes, **frames, **positions, vocab_size=6, final_dropout=0.0))


@pytest.mark.fast
def test_ctc__has_the_loss_of_each_clip(recogniser):
    """The probability of a transcript is the sum over all ways to spell it, here by listing them."""
    sound, real = torch.randn(2, 40), torch.ones(2, 40).long()
    real[1, 30:] = 0  # 3 frames and 2
    output = recogniser.eval()(sound, real, labels=torch.tensor([[2, 5], [4, -100]]))
    probabilities = output.logits.softmax(-1)

    def likelihood(row: int, frames: int, text: list[int]) -> Tensor:
        ways = itertools.product(range(6), repeat=frames)
        spelled = [way for way in ways if [c for c, _ in itertools.groupby(way) if c != 0] == text]
        chances = [torch.stack([probabilities[row, t, c] for t, c in enumerate(way)]).prod() for way in spelled]
        return torch.stack(chances).sum()

    expected = -likelihood(0, 3, [2, 5]).log() - likelihood(1, 2, [4]).log()
    assert output.logits.shape == (2, 3, 6)
    assert output.loss.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.fast
def test_ctc__masks_frames_and_channels_in_training_only(recogniser, monkeypatch):
    recogniser.config.update({"mask_time_prob": 1.0, "mask_time_length": 2, "mask_feature_prob": 0.9})
    recogniser.config.update({"mask_feature_length": 2, "hidden_dropout": 0.0, "attention_dropout": 0.0})
    seen: list[Tensor] = []
    recogniser.data2vec2.positional_convolution.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    recogniser.eval()(torch.randn(1, 400))
    recogniser.train()(torch.randn(1, 400))
    shares = [(hidden == 0).float().mean().item() for hidden in seen]
    assert shares[0] == 0
    assert shares[1] > 0.5
    recogniser.config.apply_spec_augment = False  # pre-training has masks of its own
    recogniser(torch.randn(1, 400))
    assert not (seen[2] == 0).any()
