"""The model around an encoder: start, forward pass, freezing, saving."""

import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForPreTraining, BertConfig

from modeling_data2vec_generic import (
    Data2VecGenericConfig,
    Data2VecGenericForPreTraining,
    Data2VecGenericModel,
    modeling_data2vec_generic,
)

from ..tiny import BACKBONES, tiny_encoder

pytestmark = pytest.mark.fast

GENERATOR = torch.Generator().manual_seed(0)
INPUTS = {
    "vision": {"pixel_values": torch.randn(2, 3, 16, 16, generator=GENERATOR)},
    "text": {"input_ids": torch.randint(5, 50, (2, 16), generator=GENERATOR)},
    "speech": {"input_values": torch.randn(2, 5500, generator=GENERATOR)},
}
POSITIONS = 16


def inputs_of(model_type: str) -> dict[str, torch.Tensor]:
    return dict(INPUTS[BACKBONES[model_type][0]])


def new_model(model_type: str, **settings: object) -> Data2VecGenericForPreTraining:
    torch.manual_seed(0)
    vocabulary = {"vocab_size": 50} if BACKBONES[model_type][0] == "text" else {}
    model = Data2VecGenericForPreTraining(Data2VecGenericConfig(**settings), tiny_encoder(model_type, **vocabulary))
    return model.eval()


def mask_of(*positions: int, masks: int = 1) -> torch.Tensor:
    """(2, masks, 16); the second sample's and each further mask are one position on."""
    mask = torch.zeros(2, masks, POSITIONS, dtype=torch.bool)
    for row in range(2):
        for m in range(masks):
            mask[row, m, [position + row + m for position in positions]] = True
    return mask


# --- how it starts


@pytest.mark.parametrize("model_type", BACKBONES)
def test_teacher__starts_as_an_exact_copy_in_eval_mode_without_gradients(model_type):
    model = new_model(model_type).train()
    assert type(model.teacher) is type(model.encoder)
    student = model.encoder.state_dict()
    assert all(torch.equal(tensor, student[name]) for name, tensor in model.teacher.state_dict().items())
    shared = {weight.data_ptr() for weight in model.encoder.parameters()}
    assert not shared & {weight.data_ptr() for weight in model.teacher.parameters()}
    assert not any(weight.requires_grad for weight in model.teacher.parameters())
    assert not any(module.training for module in model.teacher.modules())
    assert model.encoder.training
    assert model.encoder.config is not model.teacher.config


@pytest.mark.parametrize("model_type", BACKBONES)
def test_model__keeps_the_weights_of_the_encoder_it_is_given(model_type):
    vocabulary = {"vocab_size": 50} if BACKBONES[model_type][0] == "text" else {}
    encoder = tiny_encoder(model_type, **vocabulary)
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    model = Data2VecGenericForPreTraining(Data2VecGenericConfig(encoder_config=encoder.config), encoder)
    assert model.encoder is encoder
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.encoder.state_dict().items())
    assert encoder.config._attn_implementation == model.teacher.config._attn_implementation == "sdpa"


def test_model__is_built_from_a_configuration_alone():
    config = Data2VecGenericConfig(encoder_config=tiny_encoder("vit").config)
    for model in (AutoModelForPreTraining.from_config(config), AutoModel.from_config(config)):
        assert model.encoder.config.hidden_size == 16
    with pytest.raises(ValueError, match="needs an encoder: set encoder_config"):
        Data2VecGenericModel(Data2VecGenericConfig())


@pytest.mark.parametrize("model_type", BACKBONES)
def test_model__can_be_built_without_memory(model_type):
    config = tiny_encoder(model_type).config
    with torch.device("meta"):
        model = Data2VecGenericForPreTraining(Data2VecGenericConfig(encoder_config=config))
    # transformers makes the speech encoders' own mask embedding on the CPU, whatever device is asked for.
    weights = {name: weight for name, weight in model.named_parameters() if not name.endswith("masked_spec_embed")}
    assert {weight.device.type for weight in weights.values()} == {"meta"}


def test_model__more_layers_for_the_target_than_there_are():
    with pytest.raises(ValueError, match="average_top_k_layers=3 is larger than the depth .*2 blocks. Choose 1 to 2"):
        new_model("bert", average_top_k_layers=3)


@pytest.mark.parametrize("model_type", ["wav2vec2", "data2vec-audio"])
def test_student__neither_masks_nor_drops_layers_by_itself(model_type):
    encoder = tiny_encoder(model_type, mask_time_prob=0.9, layerdrop=0.9)
    model = Data2VecGenericForPreTraining(Data2VecGenericConfig(), encoder).train()
    mask = mask_of(2, 3)
    one, other = (model(mask=mask, **inputs_of(model_type)).loss for _ in range(2))
    assert one.item() == other.item()


@pytest.mark.parametrize("model_type", BACKBONES)
def test_gradients__reach_every_weight_that_may_train(model_type):
    model = new_model(model_type).train()
    inputs = inputs_of(model_type)
    if "input_ids" in inputs:
        inputs["student_input_ids"] = inputs["input_ids"].masked_fill(mask_of(2, 3)[:, 0], 4)
    model(mask=mask_of(2, 3), **inputs).loss.backward()
    assert [name for name, weight in model.named_parameters() if weight.requires_grad and weight.grad is None] == []
    assert [
        name for name, weight in model.named_parameters() if not weight.requires_grad and weight.grad is not None
    ] == []


# --- forward


@pytest.mark.parametrize("model_type", ["vit", "bert", "wav2vec2"])
def test_mask__of_two_axes_is_one_mask_per_sample(model_type):
    model, mask = new_model(model_type), mask_of(2, 3, 7)
    one, other = (model(mask=m, **inputs_of(model_type)) for m in (mask, mask.squeeze(1)))
    assert torch.equal(one.loss, other.loss)
    assert torch.equal(one.predictions, other.predictions)


@pytest.mark.parametrize("model_type", ["vit", "wav2vec2"])
def test_masks__of_one_sample_are_as_many_passes_of_their_own(model_type):
    model, mask = new_model(model_type), mask_of(2, 3, 7, masks=3)
    together = model(mask=mask, **inputs_of(model_type))
    apart = [model(mask=mask[:, m], **inputs_of(model_type)) for m in range(3)]
    assert together.num_masked == sum(out.num_masked for out in apart) == 18
    shape = (2, 3, 3, -1)  # samples, masks, positions
    for name in ("predictions", "targets"):
        found = getattr(together, name).view(shape)
        expected = torch.stack([getattr(out, name).view(2, 3, -1) for out in apart], dim=1)
        assert torch.allclose(found, expected, atol=1e-5)
    assert together.loss.item() == pytest.approx(sum(out.loss.item() for out in apart) / 3, rel=1e-5)


def test_loss__is_divided_by_the_masked_positions_of_the_whole_step():
    model, mask = new_model("vit"), mask_of(2, 3, 7)
    own = model(mask=mask, **inputs_of("vit"))
    whole = model(mask=mask, num_items_in_batch=torch.tensor(24), **inputs_of("vit"))
    assert own.num_masked.item() == 6
    assert whole.loss.item() == pytest.approx(own.loss.item() * 6 / 24, rel=1e-6)
    squared = (own.predictions - own.targets).square().sum() / 16**0.5 / 6  # beta 0, scale 1 / sqrt(C)
    assert own.loss.item() == pytest.approx(squared.item(), rel=1e-5)


def test_targets__are_the_teachers_and_see_the_whole_input():
    model, mask = new_model("vit"), mask_of(2, 3)
    before = model(mask=mask, **inputs_of("vit"))
    with torch.no_grad():
        for weight in model.encoder.parameters():
            weight += 0.1
    after = model(mask=mask, **inputs_of("vit"))
    assert torch.equal(before.targets, after.targets)
    assert not torch.equal(before.predictions, after.predictions)
    elsewhere = model(mask=mask_of(2, 3, 9), **inputs_of("vit"))
    kept = [0, 1, 3, 4]  # positions 2 and 3 of both samples
    assert torch.equal(elsewhere.targets[kept], after.targets)
    assert not after.targets.requires_grad


def test_mask__that_covers_nothing_or_another_length_is_refused():
    model = new_model("vit")
    with pytest.raises(ValueError, match="mask covers no position of the batch"):
        model(mask=torch.zeros(2, 1, 16, dtype=torch.bool), **inputs_of("vit"))
    with pytest.raises(ValueError, match=r"mask (covers|has) \d+ positions .*one entry per patch"):
        model(mask=torch.ones(2, 1, 9, dtype=torch.bool), **inputs_of("vit"))
    with pytest.raises(ValueError, match=r"mask has 18 positions .*blocks see only 16"):
        model(mask=torch.ones(2, 1, 18, dtype=torch.bool), **inputs_of("vit"))


def test_copied_parameters__of_an_encoder_that_reads_no_made_up_sample_are_known_after_a_forward_pass(monkeypatch):
    monkeypatch.setattr(modeling_data2vec_generic, "made_up_sample", lambda *_: None)
    model = new_model("vit", teacher_embeddings="copy")
    with pytest.raises(RuntimeError, match="none has been made yet"):
        model.copied_parameters()
    assert model.encoder.pooler.dense.weight.requires_grad
    model(mask=mask_of(2), **inputs_of("vit"))
    assert not model.encoder.pooler.dense.weight.requires_grad
    assert "embeddings.cls_token" in model.copied_parameters()
    assert new_model("vit").copied_parameters() == frozenset()


# --- saving


@pytest.mark.parametrize("model_type", BACKBONES)
def test_saved__under_the_names_the_model_itself_uses(model_type, tmp_path):
    from safetensors.torch import load_file

    model = new_model(model_type)
    model.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    # Trainer reads checkpoints by these names, and passes over what it does not find.
    assert set(saved) == set(model.state_dict())
    assert all(torch.equal(tensor, saved[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("model_type", BACKBONES)
def test_loaded__computes_the_same_and_stays_frozen(model_type, tmp_path):
    model = new_model(model_type, teacher_embeddings="copy", predictor="mlp", average_top_k_layers=1)
    with torch.no_grad():
        for weight in model.teacher.parameters():
            weight += 0.01 * torch.randn_like(weight)
    model.save_pretrained(tmp_path)
    loaded = Data2VecGenericForPreTraining.from_pretrained(tmp_path)
    assert not loaded.training
    assert not any(weight.requires_grad for weight in loaded.train().teacher.parameters())
    frozen = [{name for name, weight in m.named_parameters() if not weight.requires_grad} for m in (model, loaded)]
    assert frozen[0] == frozen[1]
    expected, found = (m.eval()(mask=mask_of(2, 5), **inputs_of(model_type)) for m in (model, loaded))
    for name in ("loss", "predictions", "targets"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name


@pytest.mark.parametrize("model_type", BACKBONES)
def test_plain_model__of_a_checkpoint_is_the_student(model_type, tmp_path, caplog):
    model = new_model(model_type)
    with torch.no_grad():
        for weight in model.teacher.parameters():
            weight.zero_()
    model.save_pretrained(tmp_path)
    loaded, info = Data2VecGenericModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    with torch.no_grad():
        found, expected = (m.eval()(**inputs_of(model_type)) for m in (loaded, model.encoder))
    assert type(found) is type(expected)
    assert torch.equal(found.last_hidden_state, expected.last_hidden_state)
    assert loaded.main_input_name == model.main_input_name == next(iter(inputs_of(model_type)))


def test_loaded__in_bfloat16(tmp_path):
    model = new_model("vit")
    model.save_pretrained(tmp_path)
    loaded = Data2VecGenericForPreTraining.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert {weight.dtype for weight in loaded.parameters()} == {torch.bfloat16}
    output = loaded(mask=mask_of(2), pixel_values=inputs_of("vit")["pixel_values"].bfloat16())
    assert output.targets.dtype == output.loss.dtype == torch.float32


def test_saved_config__names_the_code_for_every_auto_class(tmp_path):
    new_model("vit").save_pretrained(tmp_path)
    assert set(AutoConfig.from_pretrained(tmp_path).auto_map) == {"AutoConfig", "AutoModel", "AutoModelForPreTraining"}
    assert (tmp_path / "objective_data2vec_generic.py").is_file()


def test_encoder_without_blocks__is_refused_with_its_type():
    encoder = AutoModel.from_config(
        BertConfig(hidden_size=16, num_attention_heads=2, vocab_size=50, num_hidden_layers=0)
    )
    with pytest.raises(ValueError, match="BertModel.*'bert'.*no stack of blocks"):
        Data2VecGenericForPreTraining(Data2VecGenericConfig(), encoder)
