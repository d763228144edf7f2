"""How many rows of each class are held out (counted by hand), and warnings about them."""

import logging

import numpy as np
import pytest

from modeling_data2vec_generic.data.splitting import held_out_count, split_positions, stratified, warn_of_validation

pytestmark = pytest.mark.fast


@pytest.mark.parametrize(
    ("sizes", "fraction", "expected"),
    [
        ([10] * 102, 0.05, 51),  # the share of each class is half a row
        ([8] * 30, 0.05, 12),
        ([9] * 20, 0.05, 10),  # 5% would be nine, and at least ten are held out
        ([500, 300, 7, 3], 0.1, 81),
        ([2] * 40, 0.34, 27),
        ([1] * 30 + [70], 0.2, 20),
    ],
)
def test_split__classes_of_any_size_give_their_share(sizes, fraction, expected):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    train, held_out = split_positions(len(labels), labels, fraction, in_order=False)
    assert sorted([*train, *held_out]) == list(range(len(labels)))
    assert len(held_out) == expected
    assert set(labels[train]) == set(range(len(sizes)))
    quota = np.array(sizes) * expected / len(labels)
    if min(sizes) > 1:
        assert (np.abs(np.bincount(labels[held_out], minlength=len(sizes)) - quota) < 1).all()


def test_split__the_same_whenever_it_is_made():
    labels = np.repeat(np.arange(102), 10)
    first, second = (split_positions(1020, labels, 0.05, in_order=False)[1] for _ in range(2))
    assert first.tolist() == second.tolist()


def test_split__labels_that_name_each_row_are_no_classes():
    train, held_out = split_positions(100, np.arange(100), 0.05, in_order=False)
    assert len(held_out) == 10
    assert len(train) == 90


@pytest.mark.parametrize(("rows", "expected"), [(2, 1), (24, 6), (60, 10), (240, 12), (1000, 50)])
def test_split__few_rows_hold_out_more_than_their_share(rows, expected):
    assert held_out_count(rows, 0.05) == expected
    assert len(split_positions(rows, None, 0.05, in_order=False)[1]) == expected


@pytest.mark.parametrize(
    ("sizes", "count", "expected"),
    [
        ([50, 30, 20], 10, [5, 3, 2]),
        ([90, 5, 5], 4, [2, 1, 1]),  # at least one of each class, so fewer of the largest
        ([97, 1, 1, 1], 2, None),  # fewer than there are classes
        ([6, 6], 12, [6, 6]),
    ],
)
def test_choice__is_of_that_many_rows_with_one_of_each_class(sizes, count, expected):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    chosen = stratified(labels, len(labels), count, 0, least=1)
    assert len(set(chosen.tolist())) == count
    if expected is not None:
        assert np.bincount(labels[chosen]).tolist() == expected


def test_warning__of_few_rows_and_of_classes_without_any(caplog):
    with caplog.at_level(logging.WARNING):
        warn_of_validation(10, {"a": 10, "b": 0, "c": 0})
    assert "have 10 rows" in caplog.text
    assert "off by 31 percentage points" in caplog.text
    assert "2 of 3 classes have no validation row (b, c)" in caplog.text
    caplog.clear()
    warn_of_validation(50, {"a": 25, "b": 25})
    assert not caplog.text
