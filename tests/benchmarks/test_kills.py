"""Runs in real processes that are killed and resumed, or asked to stop."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from benchmarks import kills

from ..processes import start_two

SMALL = ["--max_steps", "14", "--eval_strategy", "no", "--dataloader_num_workers", "1"]


def test_kills__leave_no_trace_in_what_is_logged_and_learnt(capsys):
    assert kills.main(["--kills", "2", "--seed", "1", *SMALL]) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[-1].startswith("| all | 2 |")
    assert table[-1].endswith("| yes |")


@pytest.mark.parametrize("change", ["a bit of a tensor", "a sign of zero", "a file less"])
def test_kills__see_the_smallest_difference(change, tmp_path):
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        save_file({"x": torch.tensor([0.0, 1.0])}, tmp_path / name / "model.safetensors")
    assert list(kills.differences(tmp_path / "one", tmp_path / "other")) == []
    if change == "a file less":
        (tmp_path / "one" / "model.safetensors").unlink()
    else:
        changed = [0.0, 1 + 2**-23] if change == "a bit of a tensor" else [-0.0, 1.0]
        save_file({"x": torch.tensor(changed)}, tmp_path / "one" / "model.safetensors")
    assert len(list(kills.differences(tmp_path / "one", tmp_path / "other"))) == 1


def train_as(rank: int, flags: list[str], folder: Path, *steps: Any) -> None:
    """Runs one of two processes. `steps` are two counters for each of them."""
    kills.train(flags, folder / f"{rank}.log", *steps[2 * rank : 2 * rank + 2])


def test_sigterm__to_one_process_and_its_workers_stops_all_at_one_step(tmp_path):
    steps = [kills.processes.Value("q", 0, lock=False) for _ in range(4)]
    flags = [
        *kills.FLAGS,
        *SMALL,
        "--output_dir",
        str(tmp_path / "out"),
        "--max_steps",
        "500",
        "--save_strategy",
        "no",
    ]
    started = start_two(train_as, flags, tmp_path, *steps, logs=tmp_path)
    while min(steps[0].value, steps[2].value) < 3 and all(process.is_alive() for process in started):
        time.sleep(0.01)
    os.killpg(started[1].pid, signal.SIGTERM)  # also reaches the loader workers
    for process in started:
        process.join(60)
        process.kill()
    logs = [Path(tmp_path, f"{rank}.log").read_text() for rank in range(2)]
    assert [process.exitcode for process in started] == [143, 143], logs
    stopped = steps[1].value
    assert steps[3].value == stopped < 500
    assert f"Stopped by a signal to another process after step {stopped} of 500" in logs[0]
    assert [path.name for path in (tmp_path / "out").glob("*checkpoint*")] == [f"checkpoint-{stopped}"]
    saved = {path.name for path in (tmp_path / "out" / f"checkpoint-{stopped}").iterdir()}
    assert {f"{name}_{rank}.{kind}" for rank in (0, 1) for name, kind in OF_EACH_PROCESS} <= saved


OF_EACH_PROCESS = (("rng_state", "pth"), ("running_state", "safetensors"))
