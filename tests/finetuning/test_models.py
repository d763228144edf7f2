"""Building a model with a head from an encoder of any type: its head, its weights, saving and loading."""

import pytest
import torch
from safetensors.torch import save_file
from transformers import (
    AutoModel,
    AutoModelForAudioClassification,
    AutoModelForCTC,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    LevitConfig,
)

from modeling_data2vec_generic import Data2VecGenericForSequenceClassification
from modeling_data2vec_generic.finetuning.models import Source, build_model, encoder_path, load_source
from modeling_data2vec_generic.finetuning.optimization.layer_rates import layer_depths
from modeling_data2vec_generic.layout_data2vec_generic import UnsupportedBackboneError
from modeling_data2vec_generic.training.arguments import ModelArguments

from ..tiny import tiny_encoder
from ..tiny_encoders import TINY

pytestmark = pytest.mark.fast

AUTO_CLASSES = {
    "input_ids": AutoModelForSequenceClassification,
    "pixel_values": AutoModelForImageClassification,
    "input_values": AutoModelForAudioClassification,
}
OWN_HEAD = Data2VecGenericForSequenceClassification
SETTINGS = {"num_labels": 3, "problem_type": "single_label_classification"}
# Types whose head is transformers', and such as get the one of this package: the encoder of an encoder-decoder, types
# without a head, and a vision tower.
TRANSFORMERS = (
    "albert",
    "beit",
    "convnextv2",
    "data2vec-audio",
    "deberta-v2",
    "deit",
    "hiera",
    "roberta",
    "swin",
    "wavlm",
)
OWN = ("bart", "clip_vision_model", "t5", "vit_mae", "moonshine")


def source_of(model_type: str) -> Source:
    torch.manual_seed(0)
    return Source(TINY[model_type].encoder(), frozenset(), frozenset())


@pytest.mark.parametrize("model_type", [*TRANSFORMERS, *OWN])
def test_model__of_any_type_holds_the_encoder_and_comes_back_from_the_disk(model_type, tmp_path):
    tiny, source = TINY[model_type], source_of(model_type)
    auto_class = AUTO_CLASSES[tiny.reads]
    model = build_model(source, auto_class, OWN_HEAD, SETTINGS).eval()
    assert isinstance(model, OWN_HEAD) == (model_type in OWN)
    path = encoder_path(model, source.encoder)
    own = source.encoder.state_dict()
    for name, value in model.get_submodule(path).state_dict().items():
        assert torch.equal(value, own[name]), name
    inputs = tiny.inputs()
    with torch.no_grad():
        logits = model(**inputs).logits
        model.save_pretrained(tmp_path)
        torch.testing.assert_close(auto_class.from_pretrained(tmp_path).eval()(**inputs).logits, logits)
    assert logits.shape == (2, 3)


@pytest.mark.parametrize("model_type", [*TRANSFORMERS, *OWN])
def test_depths__of_any_type(model_type):
    tiny = TINY[model_type]
    encoder = tiny.encoder()
    depths, blocks = layer_depths(encoder, tiny.inputs())
    assert depths.keys() == dict(encoder.named_parameters()).keys()
    assert set(depths.values()) >= set(range(blocks + 1))
    assert max(depths.values()) <= blocks + 1


def test_source__of_weights_that_a_checkpoint_lacks(tmp_path):
    encoder = tiny_encoder("bert")
    encoder.save_pretrained(tmp_path)
    weights = {name: value for name, value in encoder.state_dict().items() if "pooler" not in name}
    save_file(weights | {"cls.head.weight": torch.zeros(2)}, tmp_path / "model.safetensors", metadata={"format": "pt"})
    source = load_source(ModelArguments(model_name_or_path=str(tmp_path)), {})
    assert source.missing == {"pooler.dense.weight", "pooler.dense.bias"}
    assert source.unused == {"cls.head.weight"}


def test_source__of_an_encoder_and_a_decoder(tmp_path):
    model = AutoModel.from_config(TINY["t5"].config())
    model.save_pretrained(tmp_path)
    source = load_source(ModelArguments(model_name_or_path=str(tmp_path)), {})
    assert not source.missing
    names = {name for name, _ in model.named_parameters() if name.startswith("decoder.")}
    assert len(names) > 10
    assert source.unused == names


def test_log__says_what_is_new_and_what_is_left_out(caplog):
    source = Source(tiny_encoder("bert"), frozenset({"pooler.dense.bias"}), frozenset({"cls.head.weight"}))
    caplog.set_level("INFO", "modeling_data2vec_generic")
    build_model(source, AutoModelForSequenceClassification, OWN_HEAD, SETTINGS)
    assert "38 weights are loaded into bert; 3 are new (bert.pooler.dense.bias, classifier.bias, " in caplog.text
    assert "1 of the source were left out (cls.head.weight)" in caplog.text


def test_drop_path__reaches_the_blocks():
    model = build_model(source_of("beit"), AutoModelForImageClassification, OWN_HEAD, SETTINGS, drop_path=0.3)
    rates = [module.drop_prob for module in model.modules() if type(module).__name__ == "BeitDropPath"]
    assert max(rates) == pytest.approx(0.3)


def test_drop_path__of_a_type_whose_configuration_takes_whole_numbers():
    encoder = AutoModel.from_config(LevitConfig(image_size=64, depths=[1, 1, 1]))
    source = Source(encoder, frozenset(), frozenset())
    with pytest.raises(ValueError, match=r"(?s)drop_path=0.3 can't be set for a levit encoder .* Leave it out"):
        build_model(source, AutoModelForImageClassification, OWN_HEAD, SETTINGS, drop_path=0.3)


def test_encoder__with_no_weight_in_the_model():
    source = source_of("roberta")
    alien = Source(source.encoder, frozenset(source.encoder.state_dict()), frozenset())
    with pytest.raises(ValueError, match="No weight of the RobertaModel has a place in"):
        build_model(alien, AutoModelForSequenceClassification, OWN_HEAD, SETTINGS)


def test_own_head__of_an_encoder_with_one_output_for_all_positions():
    model = build_model(source_of("dpr"), AutoModelForSequenceClassification, OWN_HEAD, SETTINGS)
    with pytest.raises(UnsupportedBackboneError, match=r"DPR.* puts out \(2, \d+\), and \(samples, positions"):
        model(**TINY["dpr"].inputs())


def test_model__of_a_type_without_a_head_of_either():
    with pytest.raises(ValueError, match=r"no AutoModelForCTC of type vit, .* hubert"):
        build_model(source_of("vit"), AutoModelForCTC, None, SETTINGS)


def test_whole_model__of_an_encoder_decoder_gives_its_encoder(tmp_path):
    whole = AutoModel.from_config(TINY["t5"].config())
    whole.save_pretrained(tmp_path)
    source = load_source(ModelArguments(model_name_or_path=str(tmp_path)), {})
    assert not source.missing
    weight = "block.0.layer.0.SelfAttention.q.weight"
    assert torch.equal(source.encoder.get_parameter(weight), whole.encoder.get_parameter(weight))
