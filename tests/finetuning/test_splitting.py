"""Which rows are trained on: each choice against a count by hand."""

from collections import Counter

import numpy as np
import pytest

from modeling_data2vec_generic.finetuning.splitting import by_group, fraction, per_class, require_apart

pytestmark = pytest.mark.fast

LABELS = np.array([0] * 50 + [1] * 30 + [2] * 20)
NAMES = ["a", "b", "c"]


@pytest.mark.parametrize("count", [1, 7, 20])
def test_per_class__takes_as_many_of_each(count):
    chosen = per_class(LABELS, count, 0, NAMES)
    assert Counter(LABELS[chosen].tolist()) == {0: count, 1: count, 2: count}
    assert len(set(chosen.tolist())) == 3 * count


def test_per_class__fewer_labels_are_among_more_of_the_same_seed():
    assert set(per_class(LABELS, 5, 3, NAMES)) < set(per_class(LABELS, 10, 3, NAMES))


def test_per_class__another_seed_takes_other_rows():
    assert per_class(LABELS, 5, 0, NAMES).tolist() != per_class(LABELS, 5, 1, NAMES).tolist()


def test_per_class__of_classes_with_fewer_rows_takes_all_and_names_them(caplog):
    chosen = per_class(LABELS, 35, 0, NAMES)
    assert Counter(LABELS[chosen].tolist()) == {0: 35, 1: 30, 2: 20}
    assert "2 of 3 classes have fewer than labels_per_class=35" in caplog.text
    assert "(b 30, c 20)" in caplog.text


@pytest.mark.parametrize(("share", "expected"), [(0.1, [5, 3, 2]), (0.5, [25, 15, 10]), (0.001, [1, 1, 1])])
def test_fraction__keeps_the_shares_of_the_classes(share, expected):
    chosen = fraction(LABELS, len(LABELS), share, 0)
    assert np.bincount(LABELS[chosen]).tolist() == expected


def test_fraction__small_classes_give_their_share_together():
    labels = np.repeat(np.arange(102), 10)
    counts = np.bincount(labels[fraction(labels, 1020, 0.14, 0)])
    assert counts.sum() == 143
    assert set(counts.tolist()) == {1, 2}


def test_fraction__without_classes():
    assert len(fraction(None, 100, 0.25, 0)) == 25


@pytest.mark.parametrize("seed", range(20))
def test_by_group__no_group_is_on_both_sides(seed):
    rng = np.random.default_rng(seed)
    groups = [f"g{number}" for number in rng.integers(0, 12, 200)]
    train, held_out = by_group(groups, 0.2, seed)
    assert sorted([*train, *held_out]) == list(range(200))
    assert not {groups[i] for i in train} & {groups[i] for i in held_out}
    assert 0.05 < len(held_out) / 200 < 0.35


def test_by_group__classes_whose_groups_are_their_own_are_spread():
    groups = [f"g{row // 4}" for row in range(240)]  # 60 groups of 4 rows
    labels = np.arange(240) // 12  # 20 classes of 3 groups
    train, held_out = by_group(groups, 0.2, 0, labels)
    assert len(held_out) == 48
    assert np.bincount(labels[held_out]).tolist().count(4) == 12
    assert set(labels[train]) == set(range(20))


def test_by_group__a_class_of_one_group_stays_in_training():
    groups = [f"g{row // 4}" for row in range(40)]
    labels = np.array([0] * 36 + [1] * 4)
    for seed in range(20):
        train, held_out = by_group(groups, 0.5, seed, labels)
        assert 1 in labels[train]
        assert len(held_out) == 20


def test_by_group__few_rows_hold_out_more_than_their_share():
    _, held_out = by_group([f"g{row // 2}" for row in range(24)], 0.05, 0)
    assert len(held_out) == 6


def test_by_group__two_groups_however_unequal():
    train, held_out = by_group(["big"] * 99 + ["small"], 0.05, 0)
    assert len(train) == 99
    assert held_out.tolist() == [99]


def test_by_group__one_group():
    with pytest.raises(ValueError, match=r"one group \(only\)"):
        by_group(["only"] * 5, 0.2, 0)


def test_groups__of_two_sources_overlap():
    with pytest.raises(ValueError, match="1 groups are both in the training and the validation data \\(x\\)"):
        require_apart(["x", "y"], ["x", "z"])
    require_apart(["x", "y"], ["z"])
