"""Two processes (gloo, CPU) are one with the same global batch; sharded models (FSDP2) are whole ones."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from modeling_data2vec_generic.objective_data2vec_generic import spread
from modeling_data2vec_generic.training.statistics import Means, RunningSpread

from . import runs_of_processes
from .runs_of_processes import CASES, DTYPES, REFUSED, SHARDED, STEPS

CONFIGURATION = Path(__file__).parents[2] / "examples" / "accelerate" / "ddp.yaml"
CLOCK = ("runtime", "per_second", "total_flos")  # the last counts the samples that accelerate repeats
OF_A_PROCESS = ("target_std", "prediction_std", "mask_ratio")  # means of the processes' own
OF_ITS_BATCHES = ("health_loss",)  # of per_device_eval_batch_size samples, whose CLS losses add up


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes found."""
    found = tmp_path_factory.mktemp("processes")
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(CONFIGURATION)]
    command += ["--num_processes", "2", "--main_process_port", "0", "--module", runs_of_processes.__name__, str(found)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, cwd=CONFIGURATION.parents[2])
    assert done.returncode == 0, done.stderr[-4000:]
    (found / "stdout").write_text(done.stdout)
    (found / "stderr").write_text(done.stderr)
    return found


def load(folder: Path, name: str) -> list[Any]:
    """One outcome for each process."""
    return [torch.load(folder / f"{name}_{rank}.pt", weights_only=True) for rank in range(2)]


def without_clock(log: list[dict[str, Any]], *more: str) -> list[dict[str, Any]]:
    return [{name: value for name, value in entry.items() if not name.endswith(CLOCK + more)} for entry in log]


@pytest.mark.parametrize("case", CASES)
def test_two_processes__equal_one_with_the_same_global_batch(case, folder, tmp_path):
    trainer = runs_of_processes.new_trainer(case, tmp_path, processes=1)
    trainer.train()
    one, two = runs_of_processes.outcome(trainer), load(folder, case)

    assert two[0]["masks"] | two[1]["masks"] == one["masks"]

    log, expected = two[0]["log"], one["log"]
    assert [entry.keys() for entry in log] == [entry.keys() for entry in expected]
    assert len([entry for entry in log if "loss" in entry]) == STEPS
    for entry, wanted in zip(log, expected, strict=True):
        for name in entry.keys() - {*OF_A_PROCESS, *OF_ITS_BATCHES}:
            if not name.endswith(CLOCK):
                close = pytest.approx(wanted[name], rel=1e-4) if isinstance(wanted[name], float) else wanted[name]
                assert entry[name] == close, (name, entry["step"])
        for name in entry.keys() & {*OF_A_PROCESS}:
            assert entry[name] == pytest.approx(wanted[name], rel=0.2), (name, entry["step"])
    assert without_clock(two[1]["log"]) == without_clock(log)

    assert one["weights"].keys() == {3, STEPS}
    for step, weights in one["weights"].items():
        assert weights.keys() == two[0]["weights"][step].keys()
        for name, weight in weights.items():
            found = two[0]["weights"][step][name]
            # Some biases have no gradient but rounding: attention is blind to them.
            assert (found - weight).norm() <= 1e-4 * weight.norm() + 1e-6, (step, name)
            assert torch.equal(found, two[1]["weights"][step][name]), (step, name)


def test_two_processes__resume_as_if_never_interrupted(folder):
    for whole, resumed in zip(load(folder, CASES[0]), load(folder, "resumed"), strict=True):
        assert without_clock(resumed["log"]) == without_clock(whole["log"])
        assert resumed["weights"].keys() == {STEPS}
        for name, weight in resumed["weights"][STEPS].items():
            assert torch.equal(weight, whole["weights"][STEPS][name]), name


def test_two_processes__only_the_first_one_talks(folder):
    losses = (folder / "stdout").read_text().count("{'loss'")
    assert losses == STEPS * len(CASES) + STEPS // 2  # the resumed run took the other half before
    assert 0 < (folder / "stderr").read_text().count("Step 20: ") <= len(CASES) + 1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", SHARDED)
def test_sharded__equals_the_whole_model_exactly(case, dtype, folder):
    if (case, dtype) in REFUSED:
        pytest.skip("a half-precision encoder is examined on a copy, which a sharded one does not have")
    expected = runs_of_processes.stepped(case, getattr(torch, dtype), sharded=False)
    assert expected["losses"][0] != expected["losses"][1]
    assert bool(expected["accumulators"]) == (dtype == "bfloat16")
    for found in load(folder, f"sharded_{case}_{dtype}"):
        assert found["losses"] == expected["losses"]
        assert found["metrics"] == expected["metrics"]
        for kind in ("gradients", "weights", "accumulators"):
            assert found[kind].keys() == expected[kind].keys()
            for name, value in expected[kind].items():
                assert torch.equal(found[kind][name], value), (kind, name)


def test_running_spread__is_that_of_all_rows():
    rows = torch.randn(50, 7, generator=torch.Generator().manual_seed(0)) * 3 + 5
    running = RunningSpread()
    for part in rows.split([1, 20, 29]):
        running.add(part)
    assert running.value() == pytest.approx(spread(rows).item(), rel=1e-5)


def test_means__count_each_value_once():
    means = Means()
    for value in (1.0, 2.0, 6.0):
        means.add({"a": torch.tensor(value)})
    means.add({"b": torch.tensor(4.0)})
    assert means.pop() == {"a": 3.0, "b": 4.0}
    assert means.pop() == {}
