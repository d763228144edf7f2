"""From flags to an encoder."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModel, BertConfig, PreTrainedModel, T5EncoderModel, Wav2Vec2Config

from modeling_data2vec_generic import Data2VecGenericConfig, Data2VecGenericForPreTraining
from modeling_data2vec_generic.training.arguments import ModelArguments
from modeling_data2vec_generic.training.encoders import (
    load_encoder,
    new_encoder,
    new_encoder_config,
    parse_overrides,
    save_encoder,
)

from ..tiny import run, text_file, tiny_encoder
from ..tiny_encoders import TINY


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, {}),
        ("", {}),
        ("hidden_size=96", {"hidden_size": 96}),
        ("layer_norm_eps=1e-6,hidden_act=gelu", {"layer_norm_eps": 1e-6, "hidden_act": "gelu"}),
        (
            "conv_dim=[8,8],conv_stride=(5, 2), patch_size=4",
            {"conv_dim": [8, 8], "conv_stride": (5, 2), "patch_size": 4},
        ),
        ("a=True,b=false,c=none,d=None", {"a": True, "b": False, "c": None, "d": None}),
        ("hidden_size=8,hidden_size=16", {"hidden_size": 16}),
    ],
)
def test_overrides__are_python_literals_or_words(text, expected):
    assert parse_overrides(text) == expected


def test_overrides__need_a_value():
    with pytest.raises(ValueError, match="'hidden_size' where name=value is expected"):
        parse_overrides("hidden_size,num_hidden_layers=2")


def test_new_config__overrides_win_over_what_the_data_ask_for():
    arguments = ModelArguments(model_type="bert", config_overrides="vocab_size=500,hidden_size=24")
    config = new_encoder_config(arguments, {"vocab_size": 300, "pad_token_id": 7})
    assert type(config) is BertConfig
    assert (config.vocab_size, config.pad_token_id, config.hidden_size) == (500, 7, 24)
    assert config.intermediate_size == BertConfig().intermediate_size


def test_new_config__derives_what_follows_from_overridden_fields():
    overrides = "conv_dim=[8,8,8],conv_kernel=[20,8,3],conv_stride=[20,8,2]"
    config = new_encoder_config(ModelArguments(model_type="wav2vec2", config_overrides=overrides))
    assert config.num_feat_extract_layers == 3
    assert list(config.conv_stride) == [20, 8, 2]


def test_new_config__of_a_saved_one_takes_derived_fields_too(tmp_path):
    Wav2Vec2Config(hidden_size=48).save_pretrained(tmp_path)
    overrides = "conv_dim=[8,8,8],conv_kernel=[20,8,3],conv_stride=[20,8,2],num_feat_extract_layers=3"
    config = new_encoder_config(ModelArguments(config_name=str(tmp_path), config_overrides=overrides))
    assert (list(config.conv_dim), config.hidden_size) == ([8, 8, 8], 48)


def test_new_config__takes_a_saved_configuration_and_changes_it(tmp_path):
    BertConfig(hidden_size=24, num_attention_heads=2, layer_norm_eps=1e-3).save_pretrained(tmp_path)
    config = new_encoder_config(ModelArguments(config_name=str(tmp_path), config_overrides="num_hidden_layers=3"))
    assert (config.hidden_size, config.layer_norm_eps, config.num_hidden_layers) == (24, 1e-3, 3)


def test_new_config__of_a_data2vec_checkpoint_is_its_students(tmp_path):
    Data2VecGenericConfig(encoder_config=BertConfig(hidden_size=24, num_attention_heads=2)).save_pretrained(tmp_path)
    arguments = ModelArguments(config_name=str(tmp_path), config_overrides="num_hidden_layers=3")
    config = new_encoder_config(arguments, {"vocab_size": 300})
    assert type(config) is BertConfig
    assert (config.hidden_size, config.num_hidden_layers, config.vocab_size) == (24, 3, 300)


def test_new_config__unknown_names_are_refused_with_a_hint():
    with pytest.raises(ValueError, match=r"\['hiden_size'\], which a vit configuration .*mean hidden_size"):
        new_encoder_config(ModelArguments(model_type="vit", config_overrides="hiden_size=8"))
    with pytest.raises(ValueError, match="model_type='wave2vec2' is not a type .*Did you mean wav2vec2"):
        new_encoder_config(ModelArguments(model_type="wave2vec2"))


def test_new_encoder__has_the_sizes_of_its_configuration():
    overrides = "hidden_size=16,num_hidden_layers=2,num_attention_heads=2,intermediate_size=32,vocab_size=50"
    encoder = new_encoder(new_encoder_config(ModelArguments(model_type="roberta", config_overrides=overrides)))
    assert encoder.get_input_embeddings().weight.shape == (50, 16)


def test_load__is_in_float32_whatever_it_was_saved_in(tmp_path):
    encoder = tiny_encoder("vit").bfloat16()
    encoder.save_pretrained(tmp_path)
    loaded = load_encoder(ModelArguments(model_name_or_path=str(tmp_path)))
    assert {weight.dtype for weight in loaded.parameters()} == {torch.float32}
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor.float()), name


def test_load__takes_the_student_out_of_a_data2vec_checkpoint(tmp_path):
    model = Data2VecGenericForPreTraining(Data2VecGenericConfig(), tiny_encoder("bert", vocab_size=50))
    with torch.no_grad():
        for weight in model.teacher.parameters():
            weight.zero_()
    model.save_pretrained(tmp_path)
    loaded = load_encoder(ModelArguments(model_name_or_path=str(tmp_path)))
    assert type(loaded) is type(model.encoder)
    for name, tensor in model.encoder.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name


def test_load__gives_what_auto_model_gives(tmp_path: Path):
    tiny_encoder("wav2vec2").save_pretrained(tmp_path)
    expected = AutoModel.from_pretrained(tmp_path).state_dict()
    loaded = load_encoder(ModelArguments(model_name_or_path=str(tmp_path))).state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in loaded.items())


_BOTH = {"d_model": 16, "vocab_size": 300, "pad_token_id": 0} | {
    f"{part}_{name}": size
    for part in ("encoder", "decoder")
    for name, size in {"layers": 2, "attention_heads": 2, "ffn_dim": 32}.items()
}
ENCODER_DECODERS = {
    "t5": {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2, "vocab_size": 300},
    "bart": _BOTH,
    "whisper": _BOTH | {"num_mel_bins": 8, "max_source_positions": 12, "bos_token_id": 1, "eos_token_id": 2},
}


def whole(model_type: str) -> PreTrainedModel:
    return AutoModel.from_config(AutoConfig.for_model(model_type, **ENCODER_DECODERS[model_type]))


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert set(one) == set(other)
    assert [name for name, tensor in one.items() if not torch.equal(tensor, other[name])] == []


def test_load__of_weights_that_share_a_norm_with_the_encoder_is_refused(tmp_path):
    encoder = tiny_encoder("vit")
    encoder.save_pretrained(tmp_path)
    norm = {name: value for name, value in encoder.state_dict().items() if name.startswith("layernorm.")}
    assert norm
    alien = norm | {"stages.0.weight": torch.zeros(2, 2)}
    save_file(alien, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="belong to different models"):
        load_encoder(ModelArguments(model_name_or_path=str(tmp_path)))


def test_load__of_an_encoder_that_hides_patches_by_itself_reads_all(tmp_path):
    tiny = TINY["vit_mae"]
    config = tiny.config()
    config.mask_ratio = 0.75
    AutoModel.from_config(config).save_pretrained(tmp_path)
    for encoder in (load_encoder(ModelArguments(model_name_or_path=str(tmp_path))), new_encoder(config)):
        with torch.no_grad():
            assert encoder(**tiny.inputs()).last_hidden_state.shape[1] == tiny.prefix + tiny.length


@pytest.mark.parametrize("model_type", ENCODER_DECODERS)
def test_load__takes_the_encoder_of_an_encoder_decoder(model_type, tmp_path):
    saved = whole(model_type)
    saved.save_pretrained(tmp_path)
    loaded = load_encoder(ModelArguments(model_name_or_path=str(tmp_path)))
    assert type(loaded) is type(saved.get_encoder())
    assert_same(loaded.state_dict(), saved.get_encoder().state_dict())


@pytest.mark.parametrize("model_type", ENCODER_DECODERS)
def test_save__puts_an_encoder_back_into_the_model_that_it_came_from(model_type, tmp_path):
    saved = whole(model_type)
    saved.save_pretrained(tmp_path / "source")
    encoder = load_encoder(ModelArguments(model_name_or_path=str(tmp_path / "source")))
    for parameter in encoder.parameters():
        parameter.data.add_(1.0)
    save_encoder(encoder, tmp_path / "encoder")
    loaded = AutoModel.from_pretrained(tmp_path / "encoder")
    assert type(loaded) is type(saved)
    assert_same(loaded.get_encoder().state_dict(), encoder.state_dict())
    layers = [loaded.decoder.state_dict(), saved.decoder.state_dict()]
    for state in layers:
        state.pop("embed_tokens.weight")  # shared with the encoder where that reads tokens, and so moved with it
    assert_same(*layers)
    if model_type != "whisper":
        assert torch.equal(loaded.decoder.embed_tokens.weight, encoder.embed_tokens.weight)


@pytest.mark.parametrize("model_type", ENCODER_DECODERS)
def test_save__gives_a_new_encoder_a_new_decoder(model_type, tmp_path):
    arguments = ModelArguments(
        model_type=model_type,
        config_overrides=",".join(f"{name}={value}" for name, value in ENCODER_DECODERS[model_type].items()),
    )
    encoder = new_encoder(new_encoder_config(arguments))
    assert type(encoder) is type(whole(model_type).get_encoder())
    save_encoder(encoder, tmp_path)
    assert_same(AutoModel.from_pretrained(tmp_path).get_encoder().state_dict(), encoder.state_dict())


def test_save__of_the_student_of_a_data2vec_checkpoint_has_a_new_decoder(tmp_path):
    model = Data2VecGenericForPreTraining(Data2VecGenericConfig(), whole("t5").get_encoder())
    model.save_pretrained(tmp_path / "data2vec")
    student = load_encoder(ModelArguments(model_name_or_path=str(tmp_path / "data2vec")))
    save_encoder(student, tmp_path / "encoder")
    loaded = AutoModel.from_pretrained(tmp_path / "encoder").get_encoder()
    assert_same(loaded.state_dict(), model.encoder.state_dict())


def test_save__takes_an_encoder_in_a_class_of_its_own(tmp_path):
    whole("t5").save_pretrained(tmp_path / "source")
    encoder = T5EncoderModel.from_pretrained(tmp_path / "source")
    save_encoder(encoder, tmp_path / "encoder")
    loaded = AutoModel.from_pretrained(tmp_path / "encoder").get_encoder()
    assert_same(loaded.state_dict(), encoder.get_encoder().state_dict())


def test_save__keeps_the_precision_of_the_encoder(tmp_path):
    encoder = whole("bart").get_encoder().bfloat16()
    save_encoder(encoder, tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path)
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.bfloat16}
    assert_same(loaded.get_encoder().state_dict(), encoder.state_dict())


def test_run__on_an_encoder_decoder_leaves_one_with_the_trained_encoder(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    saved = whole("t5")
    saved.save_pretrained(tmp_path / "source")
    data = ["--train_file", str(text_file(tmp_path / "text.txt")), "--train_tokenizer", "--max_seq_length", "16"]
    flags = ["--model_name_or_path", str(tmp_path / "source"), *data, "--tokenizer_vocab_size", "300"]
    trainer = run(*flags, output_dir=tmp_path / "out")
    loaded = AutoModel.from_pretrained(tmp_path / "out" / "encoder")
    student = trainer.model.encoder.state_dict()
    assert_same(loaded.get_encoder().state_dict(), student)
    assert any(not torch.equal(tensor, student[name]) for name, tensor in saved.get_encoder().state_dict().items())
    assert torch.equal(loaded.decoder.final_layer_norm.weight, saved.decoder.final_layer_norm.weight)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "0 are given"),
        ({"model_type": "vit", "config_name": "x"}, "2 are given: config_name, model_type"),
        ({"model_name_or_path": "x", "config_overrides": "a=1"}, "Use --config_name"),
    ],
)
def test_arguments__that_contradict_each_other(given, message):
    with pytest.raises(ValueError, match=message):
        ModelArguments(**given).require_encoder()


TINY_VIT = "hidden_size=32,num_hidden_layers=2,num_attention_heads=2,intermediate_size=32,image_size=16,patch_size=4"


def test_attention__is_the_chosen_one_of_new_and_of_loaded_encoders(tmp_path):
    chosen = ModelArguments(model_type="vit", config_overrides=TINY_VIT, attn_implementation="flex_attention")
    encoder = new_encoder(new_encoder_config(chosen))
    assert encoder.config._attn_implementation == "flex_attention"
    model = Data2VecGenericForPreTraining(Data2VecGenericConfig(), encoder)
    model.save_pretrained(tmp_path / "whole")
    encoder.save_pretrained(tmp_path / "encoder")
    for name in ("whole", "encoder"):
        loaded = load_encoder(ModelArguments(model_name_or_path=str(tmp_path / name), attn_implementation="eager"))
        assert loaded.config._attn_implementation == "eager"


@pytest.mark.parametrize("name", ["nonsense", "flash_attention_3"])
def test_attention__that_there_is_none_of_is_refused(name):
    chosen = ModelArguments(model_type="vit", config_overrides=TINY_VIT, attn_implementation=name)
    with pytest.raises(ValueError, match=f"that attn_implementation='{name}' is installed and made for this type"):
        new_encoder(new_encoder_config(chosen))
