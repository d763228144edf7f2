"""Two processes (gloo, CPU) are one with the same global batch; sharded models (FSDP2) are whole ones."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel

from modeling_data2vec_generic.objective_data2vec_generic import spread
from modeling_data2vec_generic.training.monitoring.running_stats import Means, RunningSpread
from modeling_data2vec_generic.training.monitoring.speed import MEASURED

from ...processes import run_two
from .. import runs_of_processes
from ..runs_of_processes import CASES, DTYPES, RESUMED, SHARDED, SHORT, STEPS_OF

CLOCK = (*MEASURED, "total_flos")  # the last counts the samples that accelerate repeats
OF_A_PROCESS = ("target_std", "prediction_std", "mask_ratio")  # means of the processes' own
PADDING = ("padding",)  # a part of a batch may need less of it than the whole


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes found."""
    found = tmp_path_factory.mktemp("processes")
    run_two(runs_of_processes.main, found, logs=found)
    return found


def load(folder: Path, name: str) -> list[Any]:
    """One outcome for each process."""
    return [torch.load(folder / f"{name}_{rank}.pt", weights_only=True) for rank in range(2)]


def without_clock(log: list[dict[str, Any]], *more: str) -> list[dict[str, Any]]:
    return [{name: value for name, value in entry.items() if not name.endswith(CLOCK + more)} for entry in log]


def assert_same_log(log: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    """But for rounding, and for what is of a process."""
    assert [entry.keys() for entry in log] == [entry.keys() for entry in expected]
    for entry, wanted in zip(log, expected, strict=True):
        for name in entry:
            if not name.endswith(CLOCK + PADDING):
                tolerance = 0.2 if name in OF_A_PROCESS else 1e-4
                same = wanted[name] if isinstance(wanted[name], str) else pytest.approx(wanted[name], rel=tolerance)
                assert entry[name] == same, (name, entry)


@pytest.mark.parametrize("case", CASES)
def test_two_processes__equal_one_with_the_same_global_batch(case, folder, tmp_path):
    trainer = runs_of_processes.new_trainer(case, tmp_path, processes=1)
    trainer.train()
    one, two = runs_of_processes.outcome(trainer), load(folder, case)

    assert two[0]["masks"] | two[1]["masks"] == one["masks"]
    assert two[0]["rows"] == two[1]["rows"] == one["rows"]

    assert_same_log(two[0]["log"], one["log"])
    assert len([entry for entry in one["log"] if "loss" in entry]) == STEPS_OF[case]
    assert without_clock(two[1]["log"]) == without_clock(two[0]["log"])

    assert one["weights"].keys() == {3, STEPS_OF[case]}
    for step, weights in one["weights"].items():
        assert weights.keys() == two[0]["weights"][step].keys()
        for name, weight in weights.items():
            found = two[0]["weights"][step][name]
            # Some biases have no gradient but rounding: attention is blind to them.
            assert (found - weight).norm() <= 1e-4 * weight.norm() + 1e-6, (step, name)
            assert torch.equal(found, two[1]["weights"][step][name]), (step, name)


@pytest.mark.parametrize("case", RESUMED)
def test_two_processes__resume_as_if_never_interrupted(case, folder):
    steps = STEPS_OF[case]
    for whole, resumed in zip(load(folder, case), load(folder, f"resumed_{case}"), strict=True):
        assert without_clock(resumed["log"]) == without_clock(whole["log"])
        assert resumed["rows"] == whole["rows"]
        assert resumed["weights"].keys() == {steps}
        for name, weight in resumed["weights"][steps].items():
            assert torch.equal(weight, whole["weights"][steps][name]), name


def test_two_processes__list_the_bad_rows_of_both(folder):
    listed = [json.loads(line) for line in (folder / "images" / "bad_rows.jsonl").read_text().splitlines()]
    assert sorted((row["split"], row["row"]) for row in listed) == [("train", 4), ("train", 16), ("validation", 20)]
    rows, _ = (found["rows"] for found in load(folder, "images"))
    # 17 rows are 3 steps: 6 epochs, and two steps of 8 rows. There are 2 evaluations.
    assert rows["read"] == {"train": 6 * 17 + 16, "validation": 2 * 21}
    assert rows["bad"]["validation"] == 2
    assert 12 <= rows["bad"]["train"] <= 14


def test_two_processes__only_the_first_one_talks(folder):
    printed, warned = (
        [(folder / f"{stream}_{rank}").read_text() for rank in range(2)] for stream in ("stdout", "stderr")
    )
    losses = sum(text.count("{'loss'") for text in printed)
    resumed = sum(STEPS_OF[case] // 2 for case in RESUMED)  # the other half was taken before
    assert losses == sum(STEPS_OF.values()) + resumed + SHORT + SHORT // 2
    assert sum(text.count("rows read were bad") for text in warned) == 2  # of "images", and of it resumed


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", SHARDED)
def test_sharded__equals_the_whole_model_exactly(case, dtype, folder):
    expected = runs_of_processes.stepped(case, getattr(torch, dtype), sharded=False)
    assert expected["losses"][0] != expected["losses"][1]
    assert bool(expected["accumulators"]) == (dtype == "bfloat16")
    for found in load(folder, f"sharded_{case}_{dtype}"):
        assert found["losses"] == expected["losses"]
        # Eigenvalues of the same features may differ by a rounding where another number of threads computes them.
        assert found["metrics"] == pytest.approx(expected["metrics"], rel=1e-6)
        for kind in ("gradients", "weights", "accumulators"):
            assert found[kind].keys() == expected[kind].keys()
            for name, value in expected[kind].items():
                assert torch.equal(found[kind][name], value), (kind, name)


def test_fsdp2_of_accelerate__equals_one_process_and_resumes_exactly(folder, tmp_path):
    trainer = runs_of_processes.new_trainer("images_2", tmp_path, processes=1, **runs_of_processes.SHORT_RUN)
    trainer.train()
    for found in load(folder, "fsdp2"):
        assert_same_log(found["log"], trainer.state.log_history)
        assert without_clock(found["resumed"]) == without_clock(found["log"])
    saved = load_file(folder / "fsdp2" / "model.safetensors")
    resumed = load_file(folder / "fsdp2_resumed" / "model.safetensors")
    for name, weight in trainer.model.state_dict().items():
        assert torch.equal(resumed[name], saved[name])
        if not name.endswith("k_proj.bias"):  # attention is blind to it, and Adam makes steps of its rounding
            assert (saved[name] - weight).norm() <= 1e-4 * weight.norm() + 1e-6, name


def test_fsdp2_of_accelerate__saves_what_can_be_loaded(folder):
    saved = load_file(folder / "fsdp2" / "model.safetensors")
    encoder = AutoModel.from_pretrained(folder / "fsdp2" / "encoder")
    assert all(torch.equal(saved[f"encoder.{name}"], weight) for name, weight in encoder.state_dict().items())
    remote = AutoModel.from_pretrained(folder / "fsdp2", trust_remote_code=True)
    assert all(torch.equal(saved[name], weight) for name, weight in remote.state_dict().items())
    config = json.loads((folder / "fsdp2" / "config.json").read_text(encoding="utf-8"))
    assert config["architectures"] == ["Data2VecGenericForPreTraining"]
    classes = {name: path.rpartition(".") for name, path in config["auto_map"].items()}
    assert classes["AutoModelForPreTraining"][2] == "Data2VecGenericForPreTraining"
    assert all((folder / "fsdp2" / f"{module}.py").is_file() for module, _, _ in classes.values())


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
