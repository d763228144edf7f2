"""Names and texts as data have them, in pictures of predictions."""

import warnings

import numpy as np
import pytest
from matplotlib.image import imread

from modeling_data2vec_generic.reporting.predictions import plot_confusion, plot_errors, plot_masks

NAMES = ["$5_$ and $\\x$", "in\ntwo lines", "of many words " * 10, "x"]
LABELS, PREDICTED = np.array([0, 1, 2, 3]), np.array([1, 0, 2, 2])
IMAGE, MASK = np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint8)


@pytest.mark.parametrize(
    "plot",
    [
        lambda path: plot_confusion(LABELS, PREDICTED, NAMES, path),
        lambda path: plot_errors([f"{name}, taken for x" for name in NAMES], NAMES, path),
        lambda path: plot_masks(NAMES[:1], [IMAGE], [MASK], [MASK], NAMES, path),
    ],
    ids=["confusion", "errors", "masks"],
)
def test_names__of_any_kind_are_drawn_as_they_are(plot, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # names that leave no room for the rest
        path = plot(tmp_path / "figure.png")
    assert imread(path)[..., :3].std() > 0
