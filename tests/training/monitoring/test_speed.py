"""Samples per second, time of a step, waiting for data, and the rates of devices."""

import time
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from transformers import TrainerCallback

from modeling_data2vec_generic.training.monitoring.speed import MEASURED, Speedometer, device_rate

from ..small_runs import Images, trainer

pytestmark = pytest.mark.fast

SPEED = {"samples_per_second", "seconds_per_step", "data_wait", "tflops_per_second"}  # on a CPU


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time in seconds, which passes only when a test says so."""
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    return now


def test_speed__of_two_steps_without_the_pause_between_them(clock):
    def batches(count: int) -> Any:
        for i in range(count):
            clock[0] += 1.0  # to load it
            yield i

    speed, loader = Speedometer(Accelerator(cpu=True), torch.float32), batches(3)
    with speed.paused():  # before training
        clock[0] += 50
    clock[0] += 50
    for samples in (8, 4):
        speed.start(1e12)
        next(speed.batches(loader))
        speed.count_step(samples)
        clock[0] += 2.0  # to train
        with speed.paused(), speed.paused():
            clock[0] += 30
    found = speed.pop(13e12)
    assert found == {"samples_per_second": 2.0, "seconds_per_step": 3.0, "data_wait": 1 / 3, "tflops_per_second": 2.0}

    speed.start(0.0)  # it runs already
    assert list(speed.batches(loader)) == [2]
    speed.count_step(6)
    with speed.paused():  # what is measured up to the pause can be read within it
        clock[0] += 30
        found = speed.pop(15e12)
    assert found == {"samples_per_second": 6.0, "seconds_per_step": 1.0, "data_wait": 1.0, "tflops_per_second": 2.0}
    assert speed.pop(15e12) == {}  # no step since


class Slow(Images):
    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        time.sleep(0.01)
        return super().__getitem__(index)


class Busy(TrainerCallback):
    def on_evaluate(self, *args: Any, **kwargs: Any) -> None:
        time.sleep(0.5)


def test_training_log__has_the_speed_of_its_steps(tmp_path: Path):
    flags = {"logging_steps": 2, "max_steps": 4, "eval_strategy": "steps", "eval_steps": 2, "save_strategy": "no"}
    run = trainer(tmp_path, callbacks=[Busy()], **flags)
    run.train_dataset = Slow()
    began = time.perf_counter()
    run.train()
    passed = time.perf_counter() - began
    logs = [entry for entry in run.state.log_history if "loss" in entry]
    assert [SPEED <= entry.keys() for entry in logs] == [True, True]
    assert not {"mfu", "peak_memory_gib"} & logs[0].keys()
    for entry in logs:
        assert all(name.endswith(MEASURED) for name in SPEED)
        assert entry["samples_per_second"] * entry["seconds_per_step"] == pytest.approx(8 if entry is logs[0] else 7)
        assert entry["data_wait"] * entry["seconds_per_step"] > 7 * 0.01
        assert entry["data_wait"] < 1
    seconds = sum(2 * entry["seconds_per_step"] for entry in logs)
    assert seconds < passed - 2 * 0.5  # evaluations are not training
    flos = sum(2 * entry["seconds_per_step"] * entry["tflops_per_second"] for entry in logs)
    assert flos * 1e12 == pytest.approx(run.state.total_flos)


@pytest.mark.parametrize(
    ("name", "dtype", "tf32", "rate"),
    [
        ("NVIDIA A100-SXM4-80GB", torch.bfloat16, False, 312),
        ("NVIDIA A100 80GB PCIe", torch.float32, True, 156),
        ("NVIDIA A10", torch.float16, False, 125),
        ("NVIDIA A10G", torch.float16, False, 70),
        ("NVIDIA H100 80GB HBM3", torch.bfloat16, False, 989),
        ("NVIDIA H100 PCIe", torch.bfloat16, False, 756),
        ("NVIDIA H100 NVL", torch.bfloat16, False, 835.5),
        ("NVIDIA H200", torch.float32, False, 67),
        ("NVIDIA L4", torch.bfloat16, False, 121),
        ("NVIDIA L40S", torch.bfloat16, False, 362),
        ("NVIDIA GeForce RTX 4090", torch.bfloat16, False, 165.2),
        ("Tesla T4", torch.float16, False, 65),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", torch.bfloat16, False, None),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", torch.bfloat16, False, None),
        ("AMD Instinct MI300X", torch.bfloat16, False, None),
    ],
)
def test_device_rate__by_the_name_that_torch_gives(name, dtype, tf32, rate):
    assert device_rate(name, dtype, tf32) == rate
