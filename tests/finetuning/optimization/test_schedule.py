"""The tri-stage schedule and the frozen encoder."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from modeling_data2vec_generic.finetuning.optimization.schedule import FreezeCallback, tri_stage_factor

pytestmark = pytest.mark.fast


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (0, 0.01),
        (50, 0.01 + 0.99 / 2),
        (100, 1.0),
        (499, 1.0),
        (750, math.sqrt(0.05)),  # half of the exponential fall
        (1000, 0.05),
        (1001, 0.05),
    ],
)
def test_tri_stage__at_its_corners(step, expected):
    assert tri_stage_factor(step, 1000, (0.1, 0.4, 0.5)) == pytest.approx(expected)


def test_tri_stage__falls_by_the_same_factor_each_step():
    factors = [tri_stage_factor(step, 200, (0.1, 0.4, 0.5)) for step in range(101, 200)]
    ratios = [after / before for before, after in zip(factors, factors[1:], strict=False)]
    assert ratios == pytest.approx([0.05 ** (1 / 100)] * len(ratios))


def test_freeze__holds_for_its_steps_and_leaves_what_was_frozen_anyway():
    encoder = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    encoder[0].requires_grad_(False)
    callback = FreezeCallback(encoder, 3)
    seen = []
    for step in range(5):
        callback.on_step_begin(None, SimpleNamespace(global_step=step), None)
        seen.append(encoder[1].weight.requires_grad)
        assert not encoder[0].weight.requires_grad
    assert seen == [False, False, False, True, True]


def test_freeze__for_a_share_of_the_steps():
    encoder = nn.Linear(2, 2)
    callback = FreezeCallback(encoder, 0.5)
    callback.on_train_begin(None, SimpleNamespace(max_steps=5), None)
    seen = []
    for step in range(5):
        callback.on_step_begin(None, SimpleNamespace(global_step=step), None)
        seen.append(encoder.weight.requires_grad)
    assert seen == [False, False, False, True, True]


def test_freeze__an_optimizer_with_momentum_does_not_move_it():
    encoder, head = nn.Linear(2, 2), nn.Linear(2, 1)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=0.1, weight_decay=0.1)
    callback, before = FreezeCallback(encoder, 2), encoder.weight.detach().clone()
    for step in range(3):
        callback.on_step_begin(None, SimpleNamespace(global_step=step), None)
        head(encoder(torch.ones(1, 2))).sum().backward()
        optimizer.step()
        assert torch.equal(encoder.weight, before) == (step < 2)
