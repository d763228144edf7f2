"""Every legal combination of the objective's settings takes a training step."""

from functools import cache
from itertools import product

import pytest
import torch

from modeling_data2vec_generic import Data2VecGenericConfig, Data2VecGenericForPreTraining
from modeling_data2vec_generic import modeling_data2vec_generic as modeling
from modeling_data2vec_generic.training.teacher import EMATeacher

from ..copies import copy_of
from ..tiny_encoders import SAMPLES, TINY, VISIBLE

# What the student reads and what predicts; a student that reads visible positions only needs a convolutional decoder.
STUDENTS = [
    ("mask_token", "linear"),
    ("mask_token", "mlp"),
    ("mask_token", "conv"),
    ("visible", "conv"),
]
# One or two encoders of each kind; vit is tested with all combinations.
OTHERS = ["beit", "data2vec-vision", "bert", "roberta", "wav2vec2", "data2vec-audio", "t5", "whisper", "videomae"]
NUM_MASKS = [1, 3]
EMBEDDINGS = ["ema", "copy"]
SOURCES = ["ffn", "block"]
NORMS = [([], []), (["instance"], ["layer"]), (["batch", "layer"], ["batch", "instance"])]
LOSSES = [{}, {"loss_beta": 0.5, "loss_scale": 0.25}]
CLS_PARAMETERS = ("cls_token", "class_token", "class_embedding")
CLS_LOSSES = [loss | {"cls_loss_weight": 0.5} for loss in LOSSES]


@cache
def built(name: str, **fields) -> Data2VecGenericForPreTraining:
    """A model with these settings, of which the callers take copies: most of the time of building goes into measuring
    the encoder, which finds the same each time."""
    torch.manual_seed(0)
    config = Data2VecGenericConfig(decoder_dim=16, decoder_layers=2, decoder_kernel_size=3, decoder_groups=4, **fields)
    return Data2VecGenericForPreTraining(config, encoder=TINY[name].encoder()).train()


def model_of(name: str, student_input: str, predictor: str, **fields) -> Data2VecGenericForPreTraining:
    """A model whose modules follow from what is built, and all else from the fields."""
    checked = {key: fields[key] for key in fields if key == "cls_loss_weight"}
    model = copy_of(built(name, student_input=student_input, predictor=predictor, **checked))
    settings = {"student_input": student_input, "predictor": predictor, "average_top_k_layers": 2, **fields}
    valid = Data2VecGenericConfig(**settings)
    for key in settings:
        setattr(model.config, key, getattr(valid, key))
    return model


def take_step(name: str, **fields) -> None:
    tiny = TINY[name]
    model = model_of(name, **fields)
    config = model.config
    torch.manual_seed(0)
    inputs = tiny.inputs()
    shape = SAMPLES, config.num_masks, tiny.length
    mask = torch.rand(shape).argsort(-1) < tiny.length // 2

    output = model(mask=mask, **inputs)
    assert torch.isfinite(output.loss)
    assert len(output.predictions) == len(output.targets) == output.num_masked == mask.sum()
    output.loss.backward()
    trained = {key: weight for key, weight in model.named_parameters() if weight.requires_grad}
    assert [key for key, weight in trained.items() if weight.grad is None] == []
    assert all(torch.isfinite(weight.grad).all() for weight in trained.values())
    assert not any(key.startswith("teacher.") for key in trained)
    assert all(weight.grad is None for weight in model.teacher.parameters())
    assert all(weight.requires_grad for weight in model.predictor.parameters())

    teacher = {key: weight.clone() for key, weight in model.teacher.named_parameters()}
    copied = model.copied_parameters()
    assert bool(copied) is (config.teacher_embeddings == "copy")
    torch.optim.SGD(trained.values(), lr=0.01).step()
    EMATeacher(model.teacher, model.encoder, copied).step(0.9)
    student = dict(model.encoder.named_parameters())
    for key, weight in model.teacher.named_parameters():
        is_copy = key in copied or not student[key].requires_grad
        expected = student[key] if is_copy else 0.9 * teacher[key] + 0.1 * student[key]
        assert torch.allclose(weight, expected, atol=1e-6), key
    with torch.no_grad():
        assert not torch.equal(model(mask=mask, **inputs).loss, output.loss)


@pytest.mark.parametrize("norms", NORMS, ids=str)
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("num_masks", NUM_MASKS)
@pytest.mark.parametrize(("student_input", "predictor"), STUDENTS)
def test_images__every_combination_takes_a_step(student_input, predictor, num_masks, source, norms):
    for embeddings, loss in product(EMBEDDINGS, LOSSES + CLS_LOSSES):
        take_step(
            "vit",
            student_input=student_input,
            predictor=predictor,
            num_masks=num_masks,
            target_source=source,
            target_layer_norms=norms[0],
            target_final_norms=norms[1],
            teacher_embeddings=embeddings,
            **loss,
        )


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("embeddings", EMBEDDINGS)
@pytest.mark.parametrize("num_masks", NUM_MASKS)
@pytest.mark.parametrize(("student_input", "predictor"), STUDENTS)
def test_other_encoders__take_a_step(name, student_input, predictor, num_masks, embeddings):
    for source, loss in zip(SOURCES, LOSSES, strict=True):
        take_step(
            name,
            student_input=student_input,
            predictor=predictor,
            num_masks=num_masks,
            target_source=source,
            teacher_embeddings=embeddings,
            **loss,
        )


@pytest.mark.parametrize("predictor", ["linear", "mlp"])
def test_visible_positions__need_a_decoder(predictor):
    with pytest.raises(ValueError, match=r"student_input='visible' with predictor=.* Set predictor='conv'"):
        Data2VecGenericConfig(student_input="visible", predictor=predictor)


@pytest.mark.parametrize("name", ["bert", "wav2vec2"])
@pytest.mark.parametrize("student_input", ["mask_token", "visible"])
def test_cls_loss__needs_a_prefix_token(name, student_input):
    with pytest.raises(ValueError, match=r"cls_loss_weight=0.5 needs a prefix token"):
        take_step(name, student_input=student_input, predictor="conv", cls_loss_weight=0.5)


@pytest.mark.parametrize("name", [name for name in VISIBLE if TINY[name].prefix])
@pytest.mark.parametrize("student_input", ["mask_token", "visible"])
def test_cls_loss__reads_cls_and_no_register(name, student_input, monkeypatch):
    tiny = TINY[name]
    fields = {"student_input": student_input, "predictor": "conv", "decoder_dim": 16, "decoder_groups": 4}
    model = Data2VecGenericForPreTraining(Data2VecGenericConfig(cls_loss_weight=1.0, **fields), tiny.encoder()).eval()
    entered, encoded, read = [], [], []

    def enter(block, args, kwargs):
        entered.append(args[0] if args else next(iter(kwargs.values())))

    def note_encoded(*args):
        encoded.append(encode(*args))
        return encoded[-1]

    def note_cls(cls, *args):
        read.append(cls)
        return cls_loss(cls, *args)

    encode, cls_loss = modeling.encode, modeling.cls_loss
    monkeypatch.setattr(modeling, "encode", note_encoded)
    monkeypatch.setattr(modeling, "cls_loss", note_cls)
    model.encoder.get_submodule(model.layout.blocks[0]).register_forward_pre_hook(enter, with_kwargs=True)
    inputs, mask = tiny.inputs(), torch.arange(tiny.length).expand(SAMPLES, 1, -1) < tiny.length // 2
    with torch.no_grad():
        model(mask=mask, **inputs)
        cls = next(weight for key, weight in model.encoder.named_parameters() if key.endswith(CLS_PARAMETERS))
        cls += torch.randn_like(cls)
        model(mask=mask, **inputs)
    # CLS is the row that the change of the parameter reaches before the blocks mix the rows.
    changed = (entered[0] != entered[1]).any(-1).any(0).nonzero().flatten().tolist()
    assert changed in ([0], list(range(cls.numel() // cls.shape[-1])))
    assert torch.equal(read[-1], encoded[-1][:, changed[0]])
