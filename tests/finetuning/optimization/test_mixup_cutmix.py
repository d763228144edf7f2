"""Mixup and cutmix against their definitions, pixel by pixel."""

import numpy as np
import pytest
import torch
from datasets import Dataset
from torch.nn import functional

from modeling_data2vec_generic.finetuning.labels.single_label import SingleLabel
from modeling_data2vec_generic.finetuning.optimization.mixup_cutmix import Mix, box

pytestmark = pytest.mark.fast

LABELS = torch.tensor([0, 1, 2, 1])


def images() -> torch.Tensor:
    """Image b is b everywhere, so that a mixed pixel tells how much of which is in it."""
    return torch.arange(4.0).view(4, 1, 1, 1).expand(4, 3, 8, 6).clone()


@pytest.mark.parametrize("seed", range(5))
def test_mixup__shares_of_pixels_are_those_of_labels(seed):
    pixels, targets = Mix(0.7, 0.0, 3)(images(), LABELS, np.random.default_rng(seed))
    share = float(np.random.default_rng(seed).beta(0.7, 0.7))
    for b, (own, partner) in enumerate([(0, 3), (1, 2), (2, 1), (3, 0)]):
        torch.testing.assert_close(pixels[b], torch.full((3, 8, 6), share * own + (1 - share) * partner))
        expected = torch.zeros(3)
        expected[LABELS[own]] += share
        expected[LABELS[partner]] += 1 - share
        torch.testing.assert_close(targets[b], expected)


@pytest.mark.parametrize("seed", range(20))
def test_cutmix__label_shares_are_counted_pixels(seed):
    pixels, targets = Mix(0.0, 1.0, 4)(images(), torch.arange(4), np.random.default_rng(seed))
    for b in range(4):
        own = (pixels[b] == b).float().mean()
        partner = (pixels[b] == 3 - b).float().mean()
        torch.testing.assert_close(own + partner, torch.tensor(1.0))
        torch.testing.assert_close(targets[b, b], own)
        torch.testing.assert_close(targets[b, 3 - b], partner)


def test_cutmix__box_covers_what_the_share_leaves():
    rng = np.random.default_rng(0)
    inside = []
    for _ in range(500):
        top, bottom, left, right = box(100, 100, 0.75, rng)
        assert 0 <= top <= bottom <= 100
        assert 0 <= left <= right <= 100
        inside.append((bottom - top, right - left))
    assert max(inside) == (50, 50)  # half of each side is a quarter of the image


def test_mix__several_classes_per_image():
    hot = torch.tensor([[1.0, 1, 0], [0, 1, 0], [0, 0, 0], [0, 0, 1]])
    pixels, targets = Mix(1.0, 0.0, 3)(images(), hot, np.random.default_rng(0))
    share = 1 - pixels[0, 0, 0, 0] / 3  # image 0 is 0 everywhere, its partner 3
    torch.testing.assert_close(targets[0], torch.stack([share, share, 1 - share]))
    torch.testing.assert_close(targets[2], (1 - share) * hot[1])


def test_mix__both_on_each_is_as_likely():
    cut = 0
    for seed in range(300):
        pixels, _ = Mix(1.0, 1.0, 3)(images(), LABELS, np.random.default_rng(seed))
        cut += bool((pixels == pixels.round()).all())
    assert 120 < cut < 180


def test_loss__smoothed_and_mixed_is_the_cross_entropy_with_the_smoothed_target():
    target = SingleLabel()
    target.names, target.label_smoothing = ["a", "b", "c"], 0.1
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    shares = torch.tensor([[0.3, 0.7, 0], [1, 0, 0], [0, 0.5, 0.5], [0.2, 0.2, 0.6]])
    smoothed = 0.9 * shares + 0.1 / 3
    expected = -(smoothed * logits.log_softmax(-1)).sum(-1).mean()
    torch.testing.assert_close(target.loss(logits, shares, training=True), expected)
    plain = functional.cross_entropy(logits, LABELS)
    torch.testing.assert_close(target.loss(logits, LABELS, training=False), plain)


def test_loss__class_weights_weigh_rows_by_their_class():
    target = SingleLabel()
    target.names, target.class_weights = ["a", "b", "c"], torch.tensor([1.0, 3.0, 0.5])
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    rows = -logits.log_softmax(-1)[torch.arange(4), LABELS]
    weights = torch.tensor([1.0, 3.0, 0.5, 3.0])
    torch.testing.assert_close(target.loss(logits, LABELS, training=True), (weights * rows).sum() / weights.sum())


def test_loss__class_weights_weigh_shares_as_they_weigh_classes():
    target = SingleLabel()
    target.names, target.class_weights, target.label_smoothing = ["a", "b", "c"], torch.tensor([4.0, 12.0, 2.0]), 0.1
    logits = torch.randn(len(LABELS), 3, generator=torch.Generator().manual_seed(0))
    shares = torch.nn.functional.one_hot(LABELS, 3).float()
    of_classes = target.loss(logits, LABELS, training=True)
    torch.testing.assert_close(target.loss(logits, shares, training=True), of_classes)


def test_class_weights__balanced_give_every_class_the_same_weight_in_all():
    train = Dataset.from_dict({"label": [0] * 6 + [1] * 3 + [2]})
    target = SingleLabel()
    target.names = ["a", "b", "c"]
    target.weigh("balanced", train)
    total = target.class_weights * torch.tensor([6.0, 3.0, 1.0])
    torch.testing.assert_close(total, torch.full((3,), 10 / 3))
    target.weigh("1,2.5,0.5", train)
    assert target.class_weights.tolist() == [1.0, 2.5, 0.5]
