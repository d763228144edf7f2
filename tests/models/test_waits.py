"""Forward and backward passes of batches that the library's collators make: the host never waits for the device."""

from contextlib import nullcontext
from functools import cache

import pytest
import torch
from torch import Tensor

from benchmarks.cases import OBJECTIVES, QUICK_CASES
from benchmarks.waits import counted_waits
from modeling_data2vec_generic import modeling_data2vec_generic
from modeling_data2vec_generic.mask_positions_data2vec_generic import MaskPositions

from ..tiny_encoders import PADDED, TINY, VISIBLE
from .test_conformance import masks_of, random_masks, shared_model_of, short_of

CASES = ["text-quick", "images-64-quick", "speech-quick"]
# Besides those of `CASES`.
POPULAR = [
    "bert",
    "modernbert",
    "beit",
    "dinov2",
    "wav2vec2",
    "wav2vec2, norm first",
    "hubert",
    "videomae",
    "patchtst",
]


@cache
def model_of(name, objective):
    model = QUICK_CASES[name].model(objective)
    model.config.cls_loss_weight = 0.01 if model.measurements.prefix else 0.0
    model.predictor.requires_grad_()
    model(**batch_of(name, objective, padded=False))  # the first batch may wait
    return model


def batch_of(name, objective, padded):
    case = QUICK_CASES[name]
    examples = case.examples()
    for row in examples[1:] if padded else ():
        for column in {"input_ids", "special_tokens_mask", "audio"} & set(row):
            row[column] = row[column][len(row[column]) // 4 :]
    return case.collator(objective)(examples)


def passes(model, batch):
    """The loss and all gradients of a pass, with the same random numbers each time."""
    torch.manual_seed(0)
    model.zero_grad()
    loss = model(**batch).loss
    loss.backward()
    return [loss.detach(), *(parameter.grad for parameter in model.parameters() if parameter.grad is not None)]


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("name", CASES)
def test_passes__never_wait(name, objective, padded):
    model, batch = model_of(name, objective), batch_of(name, objective, padded)
    assert (batch["mask_positions"].real is not None) == (padded and name != "images-64-quick")
    for attention, precision in (("eager", nullcontext()), ("sdpa", torch.autocast("cpu", torch.bfloat16))):
        model.encoder.set_attn_implementation(attention)
        model.teacher.set_attn_implementation(attention)
        with counted_waits() as waits:
            with precision:
                loss = model(**batch).loss
            loss.backward()
        assert waits == []


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("name", CASES)
def test_passes__are_the_same_with_a_mask_alone(name, objective, padded):
    model, batch = model_of(name, objective), batch_of(name, objective, padded)
    alone = {key: value for key, value in batch.items() if key != "mask_positions"}

    for one, other in zip(passes(model, batch), passes(model, alone), strict=True):
        assert torch.equal(one, other)


def test_passes__compute_positions_that_belong_to_another_mask():
    model, batch = model_of("text-quick", "data2vec"), batch_of("text-quick", "data2vec", padded=True)
    first = {key: value[:1] if isinstance(value, Tensor) else value for key, value in batch.items()}
    alone = {key: value for key, value in first.items() if key != "mask_positions"}

    assert torch.equal(passes(model, first)[0], passes(model, alone)[0])


def test_passes__count_a_value_that_is_read_again(monkeypatch):
    model, batch = model_of("images-64-quick", "data2vec"), batch_of("images-64-quick", "data2vec", padded=False)
    own_loss = modeling_data2vec_generic.regression_loss
    monkeypatch.setattr(modeling_data2vec_generic, "regression_loss", lambda *args: own_loss(*args) * MASK.item())

    with counted_waits() as waits:
        model(**batch).loss.backward()

    assert [wait.operation for wait in waits] == ["_local_scalar_dense"]


MASK = torch.tensor(1.0)


@pytest.mark.parametrize("student_input", ["mask_token", "visible"])
@pytest.mark.parametrize("name", POPULAR)
def test_popular_encoders__never_wait(name, student_input):
    tiny = TINY[name]
    if student_input == "visible" and name not in VISIBLE:
        pytest.skip("its student reads all positions")
    model = shared_model_of(tiny, student_input)
    model(mask=masks_of(tiny), **tiny.inputs())  # the first batch may wait
    batches = [(tiny.inputs(), masks_of(tiny), None)]
    if name in PADDED:
        short = short_of(tiny)
        real = torch.arange(tiny.length) < torch.tensor([[tiny.length], [short]])
        batches.append((tiny.ragged(short), random_masks(2, [tiny.length, short], tiny.length), real))
    for inputs, mask, real in batches:
        positions = MaskPositions.of(mask, real)
        with counted_waits() as waits:
            model(mask=mask, mask_positions=positions, **inputs).loss.backward()
        assert waits == []
    model.zero_grad()
