"""Exports of an encoder: each is loaded as its users load it, and computes what the encoder computes."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch.nn.functional import normalize
from transformers import (
    AutoFeatureExtractor,
    AutoModel,
    AutoTokenizer,
    PreTrainedModel,
    ViTImageProcessorPil,
    Wav2Vec2FeatureExtractor,
)

from modeling_data2vec_generic import Data2VecGenericConfig, Data2VecGenericForPreTraining, export
from modeling_data2vec_generic.commands import export as command
from modeling_data2vec_generic.exporting import graphs
from modeling_data2vec_generic.modalities.text.tokenizer import train_tokenizer
from modeling_data2vec_generic.versions import AutoImageProcessor

from ..tiny import WORDS, tiny_encoder

SENTENCES = ["rain and sun", "a seed sprouts in the light of rain until it opens"]


def processor_for(model_type: str) -> Any:
    if model_type == "vit":
        return ViTImageProcessorPil(size={"height": 16, "width": 16}, image_mean=[0.1] * 3)
    if model_type == "wav2vec2":
        return Wav2Vec2FeatureExtractor(return_attention_mask=True)
    return train_tokenizer([" ".join(WORDS)] * 3, 300)


def pretrained(folder: Path, model_type: str = "vit", dtype: torch.dtype = torch.float32) -> Any:
    """A pre-training run's model, whose teacher has moved, in a folder with its processor."""
    processor = processor_for(model_type)
    sizes = {"vocab_size": len(processor), "pad_token_id": processor.pad_token_id} if model_type == "bert" else {}
    encoder = tiny_encoder(model_type, num_hidden_layers=1, **sizes)
    model = Data2VecGenericForPreTraining(Data2VecGenericConfig(), encoder=encoder).to(dtype)
    with torch.no_grad():
        for parameter in model.teacher.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return model.eval()


def plain(folder: Path, model_type: str) -> PreTrainedModel:
    """An encoder in a folder with its processor, as `encoder/` of an output directory is."""
    encoder = pretrained(folder / "run", model_type).encoder
    encoder.save_pretrained(folder / "encoder")
    processor_for(model_type).save_pretrained(folder / "encoder")
    return encoder


# --- for transformers


@pytest.mark.fast
@pytest.mark.parametrize("weights", ["student", "teacher"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_transformers__the_weights_of_student_or_teacher(weights, dtype, tmp_path):
    model = pretrained(tmp_path / "checkpoint-5", dtype=dtype)
    expected = {"student": model.encoder, "teacher": model.teacher}[weights].state_dict()
    done = export(tmp_path / "checkpoint-5", tmp_path / "new" / "out", weights=weights)
    assert (done.folder, done.model_type) == (tmp_path / "new" / "out", "vit")
    loaded = AutoModel.from_pretrained(done.folder)
    assert type(loaded) is type(model.encoder)
    assert loaded.state_dict().keys() == expected.keys()
    assert all(torch.equal(weight, expected[name]) for name, weight in loaded.state_dict().items())
    assert loaded.dtype == dtype
    assert not [path.name for path in done.folder.iterdir() if path.suffix == ".py"]


@pytest.mark.fast
@pytest.mark.parametrize(
    ("model_type", "auto_class", "options"),
    [
        ("vit", AutoImageProcessor, {"backend": "pil"}),
        ("wav2vec2", AutoFeatureExtractor, {}),
        ("bert", AutoTokenizer, {}),
    ],
)
def test_transformers__with_the_processor(model_type, auto_class, options, tmp_path):
    pretrained(tmp_path / "run", model_type)
    done = export(str(tmp_path / "run"), str(tmp_path / "out"))
    saved, loaded = processor_for(model_type), auto_class.from_pretrained(done.folder, **options)
    if model_type == "bert":
        assert loaded(SENTENCES)["input_ids"] == saved(SENTENCES)["input_ids"]
    else:
        assert list(loaded.image_mean) == [0.1] * 3 if model_type == "vit" else loaded.return_attention_mask


@pytest.mark.fast
def test_transformers__a_plain_encoder_stays_what_it_is(tmp_path):
    expected = plain(tmp_path, "bert").state_dict()
    (tmp_path / "out").mkdir()  # an empty folder is a new one
    loaded = AutoModel.from_pretrained(export(tmp_path / "encoder", tmp_path / "out").folder)
    assert all(torch.equal(weight, expected[name]) for name, weight in loaded.state_dict().items())


@pytest.mark.fast
def test_export__refuses_what_it_cannot_write(tmp_path):
    plain(tmp_path, "vit")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").touch()
    for model, output, settings, message in (
        ("encoder", "out", {"weights": "teacher"}, r"has no teacher: it holds \['ViTModel'\]\. Name the output dir"),
        ("encoder", "out", {"weights": "both"}, "weights='both' is not one of student, teacher"),
        (
            "encoder",
            "out",
            {"format": "gguf"},
            "format='gguf' is not one of transformers, sentence-transformers, onnx",
        ),
        ("encoder", "full", {}, "full' exists and is not empty: name a new folder"),
        (
            "encoder",
            "out",
            {"format": "sentence-transformers"},
            "embeds text, and this vit encoder reads pixel_values",
        ),
        ("nowhere", "out", {}, "nowhere' is not a folder, and cannot be loaded from the Hub"),
        ("full", "out", {}, "full' cannot be loaded as an encoder"),
    ):
        with pytest.raises(ValueError, match=message):
            export(tmp_path / model, tmp_path / output, **settings)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["encoder", "full", "run"]  # nothing half written


@pytest.mark.fast
def test_export__refuses_weights_of_another_model(tmp_path):
    """Otherwise new, random weights would be exported."""
    plain(tmp_path, "vit")
    save_file({"layers.0.weight": torch.ones(2, 2)}, tmp_path / "encoder" / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"No weight of '.*encoder' fits .*, a vit .*layers\.0\.weight"):
        export(tmp_path / "encoder", tmp_path / "out")
    assert not (tmp_path / "out").exists()


# --- for sentence-transformers


@pytest.mark.fast
@pytest.mark.parametrize(
    ("pooling", "normalised", "modules"),
    [("mean", False, ["Transformer", "Pooling"]), ("cls", True, ["Transformer", "Pooling", "Normalize"])],
)
def test_sentence_transformers__says_how_vectors_are_made(pooling, normalised, modules, tmp_path):
    plain(tmp_path, "bert")
    settings = {"format": "sentence-transformers", "pooling": pooling, "normalize": normalised}
    folder = export(tmp_path / "encoder", tmp_path / "out", **settings).folder
    entries = json.loads((folder / "modules.json").read_text())
    assert [entry["type"] for entry in entries] == [f"sentence_transformers.models.{name}" for name in modules]
    assert [(folder / entry["path"]).is_dir() for entry in entries] == [True] * len(modules)
    pools = json.loads((folder / "1_Pooling" / "config.json").read_text())
    assert pools["word_embedding_dimension"] == 16
    assert [pools["pooling_mode_cls_token"], pools["pooling_mode_mean_tokens"]] == [
        pooling == "cls",
        pooling == "mean",
    ]
    assert json.loads((folder / "sentence_bert_config.json").read_text())["max_seq_length"] == 40


@pytest.mark.fast
def test_sentence_transformers__refuses_another_pooling(tmp_path):
    plain(tmp_path, "bert")
    with pytest.raises(ValueError, match="pooling='tokens' is not one of mean, cls"):
        export(tmp_path / "encoder", tmp_path / "out", format="sentence-transformers", pooling="tokens")


@pytest.mark.skipif(find_spec("sentence_transformers") is None, reason="sentence-transformers is not installed")
@pytest.mark.parametrize(("pooling", "normalised"), [("mean", False), ("mean", True), ("cls", False)])
def test_sentence_transformers__computes_the_vectors(pooling, normalised, tmp_path):
    from sentence_transformers import SentenceTransformer

    encoder, tokenizer = plain(tmp_path, "bert"), processor_for("bert")
    settings = {"format": "sentence-transformers", "pooling": pooling, "normalize": normalised}
    model = SentenceTransformer(str(export(tmp_path / "encoder", tmp_path / "out", **settings).folder), device="cpu")
    inputs = tokenizer(SENTENCES, padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = encoder(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).last_hidden_state
    real = inputs["attention_mask"].unsqueeze(-1)
    expected = (hidden * real).sum(1) / real.sum(1) if pooling == "mean" else hidden[:, 0]
    expected = normalize(expected, dim=-1) if normalised else expected
    torch.testing.assert_close(torch.from_numpy(model.encode(SENTENCES)), expected, rtol=1e-5, atol=1e-6)
    assert model.max_seq_length == 40


# --- graphs


def inputs_for(model_type: str, names: tuple[str, ...]) -> dict[str, torch.Tensor]:
    """Five samples, of another length than any that the graph was made with."""
    shape = {"bert": (5, 33), "vit": (5, 3, 16, 16), "wav2vec2": (5, 3000)}[model_type]
    values = torch.randint(5, 60, shape) if model_type == "bert" else torch.randn(shape)
    mask = torch.ones(shape[:2], dtype=torch.long)
    mask[0, -shape[1] // 3 :] = 0
    return {name: mask if name == "attention_mask" else values for name in names}


def check_graph(format: str, model_type: str, run: Any, folder: Path) -> None:
    encoder = plain(folder, model_type).eval()
    done = export(folder / "encoder", folder / "out", format=format)
    assert done.inputs == (("pixel_values",) if model_type == "vit" else (encoder.main_input_name, "attention_mask"))
    assert (done.folder / "config.json").is_file()
    inputs = inputs_for(model_type, done.inputs)
    with torch.no_grad():
        expected = encoder(**inputs).last_hidden_state
        found = run(done.file, inputs)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("model_type", ["bert", "vit"])
def test_torch__the_program_computes_what_the_encoder_does(model_type, tmp_path):
    def run(file: Path, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.export.load(file).module()(*inputs.values())

    check_graph("torch", model_type, run, tmp_path)


@pytest.mark.skipif(find_spec("onnxruntime") is None or find_spec("onnxscript") is None, reason="not installed")
@pytest.mark.parametrize("model_type", ["bert", "vit", "wav2vec2"])
def test_onnx__the_file_computes_what_the_encoder_does(model_type, tmp_path):
    import onnxruntime

    def run(file: Path, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        (output,) = session.run(["last_hidden_state"], {name: value.numpy() for name, value in inputs.items()})
        return torch.from_numpy(output)

    check_graph("onnx", model_type, run, tmp_path)


@pytest.mark.fast
def test_onnx__names_the_packages_that_are_missing(tmp_path, monkeypatch):
    plain(tmp_path, "vit")
    monkeypatch.setattr(graphs, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"by onnx and onnxscript, which is not installed.*generic\[export\]"):
        export(tmp_path / "encoder", tmp_path / "out", format="onnx")
    assert not (tmp_path / "out").exists()


@pytest.mark.fast
def test_graph__that_cannot_be_made_or_computes_something_else(tmp_path, monkeypatch):
    plain(tmp_path, "vit")

    class Wrong:
        def module(self) -> Any:
            return lambda values: values.new_zeros(len(values), 17, 16)

    monkeypatch.setattr(torch.export, "export", lambda *args, **kwargs: None)
    monkeypatch.setattr(torch.export, "save", lambda program, path: path.touch())
    monkeypatch.setattr(torch.export, "load", lambda path: Wrong())
    with pytest.raises(ValueError, match=r"No graph can be made of this vit encoder \(AssertionError: Tensor-likes"):
        export(tmp_path / "encoder", tmp_path / "out", format="torch")

    def fail(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("data-dependent branch")

    monkeypatch.setattr(torch.export, "export", fail)
    with pytest.raises(ValueError, match=r"RuntimeError: data-dependent branch\)\. Not every encoder can be traced"):
        export(tmp_path / "encoder", tmp_path / "out", format="torch")
    assert not (tmp_path / "out").exists()


# --- the command


@pytest.mark.fast
def test_command__says_how_to_load_what_it_wrote(tmp_path, capsys):
    model = pretrained(tmp_path / "run")
    command.main([str(tmp_path / "run"), str(tmp_path / "out"), "--weights", "teacher"])
    printed = capsys.readouterr().out
    assert f"The vit encoder is in {tmp_path / 'out'}. Load it with:" in printed
    scope: dict[str, Any] = {}
    exec("\n".join(line.strip() for line in printed.splitlines()[1:]), scope)
    name = "embeddings.cls_token"
    assert torch.equal(scope["model"].get_parameter(name), model.teacher.get_parameter(name))
