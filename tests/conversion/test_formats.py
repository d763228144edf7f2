"""What is done with checkpoints that are fine-tuned, incomplete, of other programs, or of variants of the models."""

import argparse
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModel,
    AutoModelForCTC,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    BeitConfig,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForSequenceClassification,
    RobertaModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
)

from modeling_data2vec_generic.conversion.converting import convert
from modeling_data2vec_generic.conversion.formats.base_format import convolutions
from modeling_data2vec_generic.data2vec2_encoders_data2vec_generic import alibi_slopes
from modeling_data2vec_generic.versions import AutoImageProcessor

from ..reference import assert_matches, load
from .written import SETTINGS, source_of, weights_of, write

pytestmark = pytest.mark.fast


def tuned(name: str, prefix: str, head: dict[str, Tensor], lost: str) -> dict[str, Tensor]:
    """Weights of a fine-tuned model: the student's, under a prefix and without those of pre-training, and a head's."""
    body = {key: weight for key, weight in weights_of(name).items() if "_ema" not in key and not key.startswith(lost)}
    return {prefix + key: weight for key, weight in body.items()} | head


def linear(name: str, rows: int) -> dict[str, Tensor]:
    return {f"{name}.weight": torch.randn(rows, 32), f"{name}.bias": torch.randn(rows)}


# --- fine-tuned checkpoints


def test_fine_tuned_text__keeps_its_head(tmp_path):
    name = "classification_heads.sentence_classification_head"
    head = linear(f"{name}.dense", 32) | linear(f"{name}.out_proj", 3)
    convert(write(tmp_path, "v1_text", tuned("v1_text", "", head, "encoder.regression_head")), tmp_path / "out")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").eval()
    encoder = AutoModel.from_pretrained(tmp_path / "out").eval()
    tokens = source_of("v1_text")
    first = encoder(tokens).last_hidden_state[:, 0]
    inner = (first @ head[f"{name}.dense.weight"].T + head[f"{name}.dense.bias"]).tanh()
    assert_matches(model(tokens).logits, inner @ head[f"{name}.out_proj.weight"].T + head[f"{name}.out_proj.bias"])


def test_fine_tuned_images__keep_their_head(tmp_path):
    norm = {"fc_norm.weight": torch.randn(32), "fc_norm.bias": torch.randn(32)}
    weights = tuned("v1_vision", "model.", norm | linear("head", 5), ("mask_emb", "final_proj", "encoder.norm"))
    convert(write(tmp_path, "v1_vision", weights), tmp_path / "out")
    model = AutoModelForImageClassification.from_pretrained(tmp_path / "out").eval()
    images = source_of("v1_vision")
    hidden = model.data2vec_vision(images).last_hidden_state[:, 1:].mean(1)
    pooled = nn.functional.layer_norm(hidden, (32,), norm["fc_norm.weight"], norm["fc_norm.bias"])
    assert_matches(model(images).logits, pooled @ weights["head.weight"].T + weights["head.bias"])


@pytest.mark.parametrize(
    ("name", "lost"), [("v1_audio", "final_proj"), ("v2_audio", "modality_encoders.AUDIO.decoder")]
)
def test_fine_tuned_sound__keeps_its_head(name, lost, tmp_path):
    weights = tuned(name, "w2v_encoder.w2v_model.", linear("w2v_encoder.proj", 7), lost)
    before = {"model": SETTINGS[name], "task": {"normalize": False}}
    path = write(tmp_path, name, weights, cfg={"model": {"_name": "wav2vec_ctc", "w2v_args": before}})
    convert(path, tmp_path / "out")
    model = AutoModelForCTC.from_pretrained(tmp_path / "out").eval()
    convert(write(tmp_path, name), tmp_path / "before")
    hidden = AutoModel.from_pretrained(tmp_path / "before").eval()(source_of(name)).last_hidden_state
    expected = hidden @ weights["w2v_encoder.proj.weight"].T + weights["w2v_encoder.proj.bias"]
    assert_matches(model(source_of(name)).logits, expected)
    assert AutoFeatureExtractor.from_pretrained(tmp_path / "out").do_normalize is False


def test_fine_tuned_data2vec2__leaves_its_encoder(tmp_path):
    weights = tuned("v2_image", "model.", linear("head", 5), "modality_encoders.IMAGE.decoder")
    cfg = {"model": {"_name": "mae_image_classification", "pretrained_model_args": {"model": SETTINGS["v2_image"]}}}
    done = convert(write(tmp_path, "v2_image", weights, cfg=cfg), tmp_path / "out")
    assert done.left_out == ["head.bias", "head.weight"]
    convert(write(tmp_path, "v2_image"), tmp_path / "before")
    images = source_of("v2_image")
    models = [AutoModel.from_pretrained(tmp_path / folder).eval() for folder in ("out", "before")]
    assert torch.equal(*(model(images).last_hidden_state for model in models))


def test_several_heads__are_refused(tmp_path):
    head = linear("classification_heads.one.dense", 32) | linear("classification_heads.two.dense", 32)
    with pytest.raises(ValueError, match=r"several weights for classifier.dense.weight"):
        convert(write(tmp_path, "v1_text", tuned("v1_text", "", head, "encoder.regression_head")), tmp_path / "out")


def test_fine_tuned__has_no_teacher(tmp_path):
    path = write(tmp_path, "v1_text", tuned("v1_text", "", {}, "encoder.regression_head"))
    with pytest.raises(ValueError, match="--weights teacher: this checkpoint holds no weights of the teacher"):
        convert(path, tmp_path / "out", weights="teacher")


# --- the code of BEiT that the published image models were trained with


def beit_names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    names = {"cls_emb": "cls_token", "mask_emb": "mask_token", "patch_embed.conv": "patch_embed.proj"}
    names |= {"final_proj": "lm_head", "mlp.0": "mlp.fc1", "mlp.2": "mlp.fc2", "encoder.": ""}
    for old, new in names.items():
        weights = {key.replace(old, new): weight for key, weight in weights.items() if key != "_ema"}
    return weights


def test_beit__differs_in_names_and_epsilon(tmp_path):
    ema, student = weights_of("v1_vision")["_ema"], weights_of("v1_vision")
    teacher = beit_names(student) | beit_names(ema)
    arguments = argparse.Namespace(imagenet_default_mean_and_std=True, drop_path=0.25)
    torch.save({"model": beit_names(student), "model_ema": teacher, "args": arguments}, tmp_path / "beit.pth")
    convert(write(tmp_path, "v1_vision"), tmp_path / "fairseq", weights="teacher")
    expected = AutoModel.from_pretrained(tmp_path / "fairseq")
    convert(tmp_path / "beit.pth", tmp_path / "out", weights="teacher")
    model = AutoModel.from_pretrained(tmp_path / "out")
    assert (model.config.layer_norm_eps, model.config.drop_path_rate) == (1e-6, 0.25)
    for name, weight in expected.state_dict().items():
        assert torch.equal(weight, model.state_dict()[name]), name


def test_fine_tuned_beit__has_a_position_bias_in_each_block(tmp_path):
    norm = {"fc_norm.weight": torch.randn(32), "fc_norm.bias": torch.randn(32)}
    weights = (
        beit_names(tuned("v1_vision", "", {}, ("mask_emb", "final_proj", "encoder.norm"))) | linear("head", 5) | norm
    )
    table, index = (weights.pop(f"rel_pos_bias.relative_position_{kind}") for kind in ("bias_table", "index"))
    torch.save({"model": weights | {"rel_pos_bias.relative_position_bias_table": table}}, tmp_path / "shared.pth")
    for i in range(3):
        weights[f"blocks.{i}.attn.relative_position_bias_table"] = table
        weights[f"blocks.{i}.attn.relative_position_index"] = index
    torch.save({"model": weights}, tmp_path / "own.pth")
    models = [convert(tmp_path / f"{kind}.pth", tmp_path / kind).model.eval() for kind in ("shared", "own")]
    assert models[1].config.use_relative_position_bias
    assert_matches(models[1](source_of("v1_vision")).logits, models[0](source_of("v1_vision")).logits)


# --- settings


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("v1_text", "num_attention_heads is"),
        ("v1_audio", "conv_stride, num_attention_heads are"),
        ("v2_text", "num_attention_heads, layer_norm_eps are"),
        ("v2_image", "num_attention_heads, layer_norm_eps are"),
        ("v2_audio", "layer_norm_eps, conv_stride are"),
    ],
)
def test_settings_that_nothing_says__are_asked_for(name, missing, tmp_path):
    path = write(tmp_path, name, cfg=None)
    with pytest.raises(ValueError, match=rf"say what {missing}\. Give --config_overrides \w+=\.\.\."):
        convert(path, tmp_path / "out")
    overrides = "num_attention_heads=4,layer_norm_eps=" + ("1e-6" if name == "v2_image" else "1e-5")
    overrides += ",conv_stride=[5,2,2]" if "audio" in name else ""
    given = convert(path, tmp_path / "given", config_overrides=overrides).model
    read = convert(write(tmp_path, name), tmp_path / "read").model
    assert torch.equal(*(model.eval()(source_of(name)).last_hidden_state for model in (given, read)))


def test_images__need_no_settings(tmp_path):
    config = convert(write(tmp_path, "v1_vision", cfg=None), tmp_path / "out").model.config
    assert (config.num_attention_heads, config.image_size, config.patch_size) == (4, 48, 8)


def test_published_convolutions__have_known_strides(tmp_path):
    weights = weights_of("v1_audio")
    for i, kernel in enumerate((10, 3, 3, 3, 3, 2, 2)):
        weights[f"feature_extractor.conv_layers.{i}.0.weight"] = torch.randn(24, 24 if i else 1, kernel)
        for kind in ("weight", "bias"):
            weights[f"feature_extractor.conv_layers.{i}.2.1.{kind}"] = torch.randn(24)
    path = write(tmp_path, "v1_audio", weights, cfg=None)
    config = convert(path, tmp_path / "out", config_overrides="num_attention_heads=4").model.config
    assert list(config.conv_stride) == [5, 2, 2, 2, 2, 2, 2]


def test_convolutions__are_read_from_their_description():
    assert convolutions("[(512, 10, 5)] + [(512, 3, 2)] * 2 + [(512,2,2)]") == [
        (512, 10, 5),
        (512, 3, 2),
        (512, 3, 2),
        (512, 2, 2),
    ]
    with pytest.raises(ValueError, match="malformed"):
        convolutions("__import__('os').getcwd()")


@pytest.mark.parametrize(
    ("name", "model", "message"),
    [
        ("v1_audio", {"layer_norm_first": True}, r"model\.layer_norm_first=True. Only False"),
        ("v1_text", {"transformer": {"no_scale_embedding": False}}, r"model\.transformer\.no_scale_embedding=False"),
        ("v2_audio", {"layer_norm_first": True}, r"model\.layer_norm_first=True"),
    ],
)
def test_variants__that_compute_something_else_are_refused(name, model, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        convert(write(tmp_path, name, cfg={"model": SETTINGS[name] | model}), tmp_path / "out")


def test_overrides__name_fields(tmp_path):
    with pytest.raises(ValueError, match=r"config_overrides sets \['num_heads'\]"):
        convert(write(tmp_path, "v2_text"), tmp_path / "out", config_overrides="num_heads=4")


def test_settings__of_older_versions_lie_in_a_namespace(tmp_path):
    path = write(tmp_path, "v1_audio", cfg=None, args=argparse.Namespace(**SETTINGS["v1_audio"], normalize=False))
    assert convert(path, tmp_path / "out").model.config.num_attention_heads == 4
    assert AutoFeatureExtractor.from_pretrained(tmp_path / "out").do_normalize is False


def test_scale_of_an_older_version__has_one_axis_less(tmp_path):
    weights = weights_of("v2_audio")
    weights["modality_encoders.AUDIO.alibi_scale"] = weights["modality_encoders.AUDIO.alibi_scale"].squeeze(0)
    model = convert(write(tmp_path, "v2_audio", weights), tmp_path / "out").model
    assert torch.equal(model.alibi_scale[0], weights["modality_encoders.AUDIO.alibi_scale"])


@pytest.mark.parametrize(
    ("heads", "expected"),
    [
        (4, [2**-2, 2**-4, 2**-6, 2**-8]),
        (12, [2**-1, 2**-2, 2**-3, 2**-4, 2**-5, 2**-6, 2**-7, 2**-8, 2**-0.5, 2**-1.5, 2**-2.5, 2**-3.5]),
    ],
)
def test_slopes__of_heads(heads, expected):
    """12, which the published base model has, is no power of two: 8 slopes, and every second one of 16."""
    assert alibi_slopes(heads) == pytest.approx(expected)


# --- weights that do not fit


def test_weights__that_are_unknown_missing_or_of_another_shape_are_listed_at_once(tmp_path):
    weights = weights_of("v2_image")
    weights["modality_encoders.IMAGE.alibi_bias"] = torch.ones(1)
    weights["shiny.new.weight"] = torch.ones(1)
    del weights["blocks.1.norm2.bias"], weights["blocks.2.norm2.bias"]
    weights["blocks.0.norm1.bias"] = torch.ones(7)
    with pytest.raises(ValueError, match=r"recognised as fairseq data2vec 2\.0 \(images\)") as error:
        convert(write(tmp_path, "v2_image", weights), tmp_path / "out")
    for part in (
        "not known: modality_encoders.IMAGE.alibi_bias, shiny.new.weight",
        "missing: blocks.1.norm2.bias, blocks.2.norm2.bias",
        "blocks.0.norm1.bias is [7] instead of [32]",
    ):
        assert part in str(error.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "lost"),
    [
        ("v2_audio", "modality_encoders.AUDIO.relative_positional_encoder.2.0.bias"),
        ("v2_audio", "modality_encoders.AUDIO.context_encoder.blocks.0.attn.qkv.weight"),
        ("v1_vision", "encoder.blocks.1.attn.q_bias"),
        ("v1_text", "encoder.sentence_encoder.layers.2.self_attn.v_proj.weight"),
    ],
)
def test_weight__that_is_missing_has_the_name_that_the_checkpoint_would_have(name, lost, tmp_path):
    weights = weights_of(name)
    del weights[lost]
    with pytest.raises(ValueError, match=rf"missing: {re.escape(lost)}\. "):
        convert(write(tmp_path, name, weights), tmp_path / "out")


def test_weights__may_be_all_that_a_checkpoint_holds(tmp_path):
    torch.save(weights_of("v1_vision"), tmp_path / "weights.pt")
    assert convert(tmp_path / "weights.pt", tmp_path / "out").title == "fairseq data2vec (images)"


def test_weight__that_a_size_follows_from_is_named_if_it_is_missing(tmp_path):
    weights = weights_of("v1_text")
    del weights["encoder.sentence_encoder.embed_positions.weight"]
    with pytest.raises(ValueError, match=r"missing: encoder\.sentence_encoder\.embed_positions\.weight"):
        convert(write(tmp_path, "v1_text", weights), tmp_path / "out")


def test_checkpoint_of_another_model__is_refused(tmp_path):
    with pytest.raises(
        ValueError, match=r"of no known kind. Known are fairseq data2vec 2.*weights are: layers\.0\.w, layers"
    ):
        convert(write(tmp_path, "v1_text", {"layers.0.w": torch.ones(1), "layers.1.w": torch.ones(1)}), tmp_path / "o")


def test_teacher__of_another_model_is_refused(tmp_path):
    weights = weights_of("v2_text") | {"_ema": {"0.other": torch.ones(1)}}
    with pytest.raises(ValueError, match=r"no counterparts among the student's: 0\.other"):
        convert(write(tmp_path, "v2_text", weights), tmp_path / "out", weights="teacher")


# --- data2vec-pytorch

CONFIGS = {
    "roberta": RobertaConfig(
        vocab_size=60, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64
    ),
    "beit": BeitConfig(
        image_size=32, patch_size=8, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64
    ),
    "wav2vec2": Wav2Vec2Config(
        conv_dim=(16, 16),
        conv_kernel=(10, 3),
        conv_stride=(5, 2),
        num_feat_extract_layers=2,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
    ),
}


def own_checkpoint(kind: str, folder: Path, **others: Any) -> tuple[Path, dict[str, Tensor]]:
    """The file of data2vec-pytorch, a folder `config` beside it, and the encoder's weights."""
    encoder = AutoModel.from_config(CONFIGS[kind])
    CONFIGS[kind].save_pretrained(folder / "config")
    weights = encoder.state_dict()
    whole = {f"encoder.encoder.{name}": weight for name, weight in weights.items()}
    whole |= {f"regression_head.{name}": weight for name, weight in nn.Linear(32, 32).state_dict().items()}
    torch.save({"data2vec": whole, "encoder": weights, "optimizer": {"state": {}}} | others, folder / "1.pt")
    return folder / "1.pt", weights


@pytest.mark.parametrize("kind", CONFIGS)
def test_data2vec_pytorch__becomes_the_encoder_of_its_type(kind, tmp_path):
    path, weights = own_checkpoint(kind, tmp_path)
    done = convert(path, tmp_path / "out", config_name=str(tmp_path / "config"))
    assert done.model_dir == tmp_path / "out" / "encoder"
    loaded = AutoModel.from_pretrained(tmp_path / "out" / "encoder")
    assert loaded.config.model_type == kind
    assert {name: weight.tolist() for name, weight in loaded.state_dict().items()} == {
        name: weight.tolist() for name, weight in weights.items()
    }
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["encoder", "regression_head.safetensors"]


def test_data2vec_pytorch__three_lines_of_its_readme_work(tmp_path):
    path, _ = own_checkpoint("roberta", tmp_path)
    convert(path, tmp_path / "out", config_name=str(tmp_path / "config"))
    checkpoint = tmp_path / "out" / "encoder"
    data2vec_roberta = AutoModel.from_pretrained(checkpoint)  # option 1
    data2vec_roberta = RobertaModel.from_pretrained(checkpoint)  # option 2

    text_classifier = RobertaForSequenceClassification(data2vec_roberta.config)
    text_classifier.roberta = data2vec_roberta
    assert text_classifier(torch.tensor([[0, 5, 6, 2]])).logits.shape == (1, 2)


def test_data2vec_pytorch__of_older_versions_has_other_names(tmp_path):
    _, weights = own_checkpoint("wav2vec2", tmp_path)
    old = {
        f"encoder.{name}".replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): weight
        for name, weight in weights.items()
    }
    assert any(name.endswith("weight_g") for name in old)
    path, _ = own_checkpoint("wav2vec2", tmp_path, encoder=old)
    model = convert(path, tmp_path / "out", config_name=str(tmp_path / "config")).model
    assert all(torch.equal(weight, weights[name]) for name, weight in model.state_dict().items())


def test_data2vec_pytorch__needs_a_configuration(tmp_path):
    path, _ = own_checkpoint("roberta", tmp_path)
    with pytest.raises(ValueError, match="encoder_checkpoint of its YAML file as --config_name"):
        convert(path, tmp_path / "out")
    sizes = "vocab_size=60,hidden_size=32,num_hidden_layers=2,num_attention_heads=4,intermediate_size=64"
    convert(path, tmp_path / "out", model_type="roberta", config_overrides=sizes)
    assert AutoConfig.from_pretrained(tmp_path / "out" / "encoder").vocab_size == 60


def test_data2vec_pytorch__keeps_its_teacher_to_itself(tmp_path):
    path, weights = own_checkpoint("roberta", tmp_path)
    arguments = {"config_name": str(tmp_path / "config"), "weights": "teacher"}
    with pytest.raises(ValueError, match="keeps its EMA apart from what it saves"):
        convert(path, tmp_path / "out", **arguments)
    whole = {f"ema.model.encoder.{name}": weight + 1 for name, weight in weights.items()}
    path, _ = own_checkpoint("roberta", tmp_path, data2vec=whole)
    model = convert(path, tmp_path / "out", **arguments).model
    assert torch.equal(model.get_parameter("pooler.dense.bias"), weights["pooler.dense.bias"] + 1)


# --- processors and the folder


def test_images__get_the_processor_of_their_training(tmp_path):
    convert(write(tmp_path, "v2_image"), tmp_path / "out")
    processor = AutoImageProcessor.from_pretrained(tmp_path / "out", backend="pil")
    assert (processor.size["height"], list(processor.image_mean)) == (48, [0.485, 0.456, 0.406])
    picture = torch.randint(256, (3, 60, 50), dtype=torch.uint8).numpy()
    assert processor(picture, return_tensors="pt").pixel_values.shape == (1, 3, 48, 48)


def test_processor__that_is_named_takes_the_place_of_the_one_that_is_made(tmp_path):
    Wav2Vec2FeatureExtractor(sampling_rate=8000).save_pretrained(tmp_path / "processor")
    done = convert(write(tmp_path, "v1_audio"), tmp_path / "out", processor_name=str(tmp_path / "processor"))
    assert done.processor.sampling_rate == 8000
    assert AutoFeatureExtractor.from_pretrained(tmp_path / "out").sampling_rate == 8000


def test_processor__that_does_not_belong_to_the_encoder_is_refused(tmp_path):
    words = models.WordLevel({f"word{i}": i for i in range(61)}, unk_token="word0")
    PreTrainedTokenizerFast(tokenizer_object=Tokenizer(words)).save_pretrained(tmp_path / "words")
    path = write(tmp_path, "v2_text")
    with pytest.raises(ValueError, match="has 61 words, and the encoder has embeddings for 60"):
        convert(path, tmp_path / "out", processor_name=str(tmp_path / "words"))
    with pytest.raises(ValueError, match="cannot be loaded as a processor of input_ids"):
        convert(path, tmp_path / "out", processor_name=str(tmp_path / "nothing"))
    assert not (tmp_path / "out").exists()


def test_folder__with_something_in_it_is_not_touched(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "config.json").write_text("mine")
    with pytest.raises(ValueError, match="exists and is not an empty folder"):
        convert(write(tmp_path, "v1_text"), tmp_path / "out")
    assert (tmp_path / "out" / "config.json").read_text() == "mine"


def test_model__is_loaded_in_the_precision_of_the_teacher(tmp_path):
    """fairseq saves the student in half precision if it trained in it; the teacher's weights are in float32."""
    weights = weights_of("v2_text")
    half = {name: value.half() if isinstance(value, Tensor) else value for name, value in weights.items()}
    model = convert(write(tmp_path, "v2_text", half), tmp_path / "out", weights="teacher").model
    expected = load("v2_text")[1]["teacher/0.norm1.weight"]
    assert torch.equal(model.get_parameter("blocks.0.attention.output.LayerNorm.weight"), expected)
