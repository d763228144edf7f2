"""The soak benchmark reads the state of a process, and summarises its samples."""

import os

import numpy as np
import pytest

from benchmarks import soak
from benchmarks.soak import Sample, take, typical

pytestmark = pytest.mark.fast


def test_take__sees_memory_and_handles_of_a_process():
    before = take(os.getpid(), 0.0)
    block = np.ones(64 * 2**20, dtype=np.uint8)
    with open(__file__, encoding="utf-8"):
        after = take(os.getpid(), 1.0)

    assert block.nbytes // 2**20 - 8 <= after.resident - before.resident <= block.nbytes // 2**20 + 8
    assert after.handles == before.handles + 1
    assert (after.minute, before.processes) == (1.0, after.processes)


def test_typical__of_one_minute():
    samples = [
        Sample(minute, resident, 5, 3) for minute, resident in ((0.5, 9.0), (1.0, 1.0), (1.4, 2.0), (1.9, 40.0))
    ]

    assert typical(samples, 1.0) == Sample(1.0, 2.0, 5, 3)


@pytest.mark.parametrize(
    ("growth", "more_handles", "code"), [(1.019, 0, 0), (1.021, 0, 1), (1.0, 1, 1)], ids=["well", "memory", "handles"]
)
def test_main__fails_if_anything_grows(growth, more_handles, code, monkeypatch, capsys):
    def observe(minutes, folder, flags):
        late = [Sample(m / 10, 100.0 * growth, 20 + more_handles, 3) for m in range(110, 120)]
        return [Sample(m / 10, 50.0 if m < 50 else 100.0, 20, 3) for m in range(110)] + late

    monkeypatch.setattr(soak, "observe", observe)

    assert soak.main(["--minutes", "12"]) == code
    assert f"{100 * (growth - 1):+.2f}%" in capsys.readouterr().out
