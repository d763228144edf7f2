"""What encoders compute of a `PaddedMask` is what they compute of a plain attention mask."""

import pytest
import torch
from transformers import PreTrainedModel
from transformers.models.wav2vec2.modeling_wav2vec2 import Wav2Vec2PreTrainedModel

from modeling_data2vec_generic import modeling_data2vec_generic
from modeling_data2vec_generic.padding_data2vec_generic import (
    LOOKS_FOR_PADDING,
    MAKES_FRAME_MASK,
    PaddedMask,
    known_padding,
    models_within,
)

from ..tiny_encoders import TINY
from .test_conformance import Student, masks_of, random_masks, shared_model_of, short_of

pytestmark = pytest.mark.fast

PLAIN = torch.tensor([[1, 1, 1], [1, 0, 0]])
POPULAR = ["bert", "modernbert", "deberta", "t5", "wav2vec2", "hubert", "sew"]


def test_padded_mask__clears_as_indexing_does():
    hidden = torch.randn(2, 3, 4, requires_grad=True)
    results = []
    for mask in (PLAIN, PaddedMask.of(PLAIN)):
        cleared = hidden * 1
        cleared[~mask.to(dtype=torch.bool).unsqueeze(-1).repeat(1, 1, 4)] = 0
        (gradient,) = torch.autograd.grad(cleared.square().sum(), hidden)
        results.append((cleared, gradient))

    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)


def test_padded_mask__is_an_ordinary_tensor_in_everything_else():
    mask = PaddedMask.of(PLAIN)

    assert mask.bool().all() is False
    for result in (mask + 1, mask[:, :2], mask.float(), mask.all(1), mask.bool().int()):
        assert type(result) is torch.Tensor
    target = torch.zeros(2, 3)
    target[mask.bool()] = torch.arange(4.0)
    assert target.tolist() == [[0, 1, 2], [3, 0, 0]]


@pytest.mark.parametrize("name", POPULAR)
def test_padded_mask__changes_no_bit(name, monkeypatch):
    tiny = TINY[name]
    model = shared_model_of(tiny)
    inputs, mask = tiny.ragged(short_of(tiny)), random_masks(2, [tiny.length, short_of(tiny)], tiny.length)
    known = Student(model)(mask, inputs)
    monkeypatch.setattr(PaddedMask, "of", lambda attention_mask: attention_mask)

    for one, other in zip(known, Student(model)(mask, inputs), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", POPULAR)
def test_full_mask__is_left_out_and_changes_nothing_but_rounding(name, monkeypatch):
    tiny = TINY[name]
    model = shared_model_of(tiny)
    inputs, mask = tiny.inputs(), masks_of(tiny)
    inputs["attention_mask"] = torch.ones(inputs[tiny.reads].shape[:2], dtype=torch.long)
    without = Student(model)(mask, inputs)
    monkeypatch.setattr(
        modeling_data2vec_generic, "known_padding", lambda inputs, padded, models: known_padding(inputs, True, ())
    )

    for one, other in zip(without, Student(model)(mask, inputs), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_names__are_those_of_transformers():
    assert hasattr(PreTrainedModel, LOOKS_FOR_PADDING)
    assert hasattr(Wav2Vec2PreTrainedModel, MAKES_FRAME_MASK)
    encoder = TINY["deberta"].encoder()
    with known_padding({"attention_mask": PLAIN}, False, models_within(encoder)) as inputs:
        assert inputs == {}
        assert LOOKS_FOR_PADDING in vars(encoder)
    assert LOOKS_FOR_PADDING not in vars(encoder)
