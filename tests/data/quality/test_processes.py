"""All cores prepare rows, unless there are few of them or the flags say how many."""

import pytest

from modeling_data2vec_generic.data.arguments import DataArguments
from modeling_data2vec_generic.data.quality import processes
from modeling_data2vec_generic.data.quality.processes import processes_for

pytestmark = pytest.mark.fast


@pytest.mark.parametrize(
    ("rows", "flags", "expected"),
    [
        (1_000_000, {}, 8),
        (3_500, {}, 3),
        (1_999, {}, None),
        (0, {}, None),
        (10, {"preprocessing_num_workers": 3}, 3),
        (1_000_000, {"streaming": True}, None),
    ],
)
def test_processes_for(rows, flags, expected, monkeypatch):
    monkeypatch.setattr(processes, "_usable_cores", lambda: 8)
    assert processes_for(rows, DataArguments(train_file="x.csv", **flags)) == expected
