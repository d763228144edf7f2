import numpy as np
import pytest

from modeling_data2vec_generic.figures.drawing import runs

pytestmark = pytest.mark.fast


@pytest.mark.parametrize(
    ("mask", "expected"),
    [([0, 0], []), ([1, 1], [(0, 2)]), ([0, 1, 1, 0, 1], [(1, 3), (4, 5)])],
)
def test_runs__every_run_with_its_ends(mask, expected):
    assert runs(np.array(mask, dtype=bool)) == expected
