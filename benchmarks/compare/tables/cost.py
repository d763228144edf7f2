"""What a step costs: time, masks per second and memory beside peers, how they grow, and what several GPUs need.

A run measures one group of contenders in turns within one process; `../cost/` has how.
"""

import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging

from ... import data
from ...cases import CASES, QUICK_CASES, SAMPLING_RATE, Case
from ...device import CPU, Device
from ..cost import report
from ..cost.contenders import changed, contenders, speech
from ..cost.growth import GROWTHS, base, growth_costs
from ..cost.measuring import costs
from ..cost.processes import step_time
from ..table import Outcome, Row, Run, Table

STEPS = {
    "images": CASES["images-224-small"],
    "text": CASES["text-small"],
    "speech": replace(speech(CASES["speech-small"]), length=4 * SAMPLING_RATE),
}
QUICK_STEPS = {
    "images": QUICK_CASES["images-224-quick"],
    "text": QUICK_CASES["text-quick"],
    "speech": changed(speech(QUICK_CASES["speech-quick"]), num_conv_pos_embedding_groups=4),
}
BATCH = {"images": 4, "text": 1, "speech": 1}  # on a CPU
REPEATS = 3
PROCESSES, PROCESS_STEPS = (1, 2), 6
LOADED = {"images": "images", "text": "text", "speech": "speech-wav"}
LOADED_SAMPLES, LOADED_BATCH = 64, 8
ENCODERS = (
    ("images-224-base", "data2vec"),
    ("images-224-base", "data2vec2"),
    ("text-base", "data2vec"),
    ("speech-base", "data2vec"),
)
IN_TURNS = "all in turns"


@dataclass(frozen=True)
class Measurement(Outcome):
    """An outcome without scores.

    Args:
        measured: what was found, an entry for each contender and value.
        machine: the device and its precision, in words.
    """

    measured: tuple[dict[str, Any], ...] = ()
    machine: str = ""


class CostTable(Table):
    """Steps beside those of peers, growth, processes, loading, and the sizes of base models."""

    name = "cost"
    all_data = (*STEPS, *(growth.name for growth in GROWTHS), "processes", "loading", "base models")
    columns: dict[str, str] = {}
    drawn = ""

    def runs(self) -> list[Run]:
        """One for each group that is measured together."""
        settings = {"device": self.device, "repeats": 1 if self.quick else REPEATS}
        return [Run(self.name, name, IN_TURNS, seed=0, budget_s=None, settings=settings) for name in self.data]

    def perform(self, run: Run, seconds_per_step: float | None, folder: Path) -> Measurement:
        """Measures a group."""
        logging.set_verbosity_error()
        device = CPU if self.device == "cpu" else Device("cuda", torch.bfloat16)
        began = _cpu_seconds()
        if run.data in STEPS:
            found = self._steps(run.data, run.settings["repeats"], device)
        elif run.data == "processes":
            found = self._processes(device)
        elif run.data == "loading":
            found = [{"samples_of": name, "cpu_s": _loading(case)} for name, case in LOADED.items()]
        elif run.data == "base models":
            found = [_weights(case, objective) for case, objective in ENCODERS[: 1 if self.quick else None]]
        else:
            found = self._growth(run.data, run.settings["repeats"], device)
        return Measurement(
            steps=0, cpu_s=_cpu_seconds() - began, scores={}, measured=tuple(found), machine=device.describe()
        )

    def markdown(self, rows: Sequence[Row], search: Sequence[Row]) -> str:
        return report.markdown(rows)

    @property
    def shows(self) -> str:
        return "Time of a step as one property grows, on logarithmic axes"

    def draw(self, rows: Sequence[Row], path: Path) -> None:
        report.draw(rows, path)

    def _steps(self, name: str, repeats: int, device: Device) -> list[dict[str, Any]]:
        case = _sized((QUICK_STEPS if self.quick else STEPS)[name], BATCH[name], device)
        found = costs({contender: (contender, case) for contender in contenders(case)}, repeats, device)
        return [{"contender": contender} | asdict(cost) for contender, cost in found.items()]

    def _growth(self, name: str, repeats: int, device: Device) -> list[dict[str, Any]]:
        growth = next(growth for growth in GROWTHS if growth.name == name)
        found = growth_costs(growth, base(device), repeats, device)
        return [{"contender": contender, "value": value} | asdict(cost) for (contender, value), cost in found.items()]

    def _processes(self, device: Device) -> list[dict[str, Any]]:
        case = base(device)
        return [
            {"contender": contender, "processes": count, **asdict(step_time(contender, case, count, steps, device))}
            for steps in (2 if self.quick else PROCESS_STEPS,)
            for contender in contenders(case)
            for count in PROCESSES
            if device.type == "cpu" or count <= torch.cuda.device_count()
        ]


COMPARISON = CostTable


def _sized(case: Case, batch_size: int, device: Device) -> Case:
    """The case with a batch that all contenders have."""
    return replace(case, batch_size=batch_size if device.type == "cpu" else case.gpu_batch_size // 4)


def _cpu_seconds() -> float:
    """Those of this process and of its children that have ended."""
    return sum(os.times()[:4])


def _loading(name: str) -> float:
    """CPU seconds in which the process reads, prepares and collates a sample."""
    case = data.CASES[name]
    with tempfile.TemporaryDirectory() as written:
        _, rows, collator = case.load(Path(written), LOADED_SAMPLES, "quick")
        return data.loading_times(rows, collator, LOADED_BATCH, workers=0, clock=time.process_time)[0]


def _weights(name: str, objective: str) -> dict[str, Any]:
    model = CASES[name].model(objective)
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return {
        "encoder": f"{name}, {objective}",
        "weights": sum(size for size, _ in sizes),
        "trained": sum(size for size, trained in sizes if trained),
    }
