"""Measures whole steps, which contenders take in turns, and the parts of a step."""

import copy
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from statistics import median
from typing import Any
from unittest.mock import patch

import torch
from accelerate.utils import send_to_device
from torch import Tensor, nn
from torch.utils.data._utils.pin_memory import pin_memory
from transformers import PrinterCallback, TrainerCallback

from modeling_data2vec_generic import (
    Data2VecGenericForPreTraining,
    Data2VecTrainer,
    Data2VecTrainingArguments,
    modeling_data2vec_generic,
)
from modeling_data2vec_generic.half_copy_data2vec_generic import HalfPrecisionCopy
from modeling_data2vec_generic.training.acceleration.compilation import compile_parts
from modeling_data2vec_generic.training.monitoring.health import HealthCallback
from modeling_data2vec_generic.training.teacher import TeacherProgress

from .bare import MAX_GRAD_NORM, BareBatch, BareLoop
from .cases import Case
from .device import CPU, MIB, Device, operations
from .waits import CountedSteps, Wait

DECAY = 0.999
FLOOR, LIBRARY, TRAINER, COMPILED, DATA2VEC = "floor", "library", "Trainer", "compiled", "data2vec"
PARTS = ("teacher", "targets", "student forward", "student backward", "predictor", "clipping", "AdamW", "EMA", "rest")
EXTRAS = ("collating",)
GROUP = {"cpu": 1, "cuda": 6}  # steps of a contender in a turn; the host waits for a GPU at the end of each turn only
UNCOUNTED, COUNTED = 2, 2  # steps of the Trainer before its waits are counted, and while they are


@dataclass(frozen=True)
class Times:
    """What turns measure.

    Args:
        rounds: seconds per step of each contender, one entry per round.
        losses: the loss of the first batch by each contender that begins with the same weights and noise.
        peaks: the most memory of a GPU, in MiB, that each contender needs for its model and its steps.
        operations: floating-point operations of a step of the floor.
    """

    rounds: dict[str, list[float]]
    losses: dict[str, float]
    peaks: dict[str, float]
    operations: int

    def median(self, name: str) -> float:
        return median(self.rounds[name])

    def ratio(self, name: str, to: str) -> float:
        """The median over rounds of the ratio within each round, which does not depend on drift of the machine."""
        return median(a / b for a, b in zip(self.rounds[name], self.rounds[to], strict=True))


class PlainLoop:
    """The simplest loop around a model that computes its own loss."""

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, device: Device = CPU):
        self.model, self.optimizer, self.device = model, optimizer, device
        self.trained = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def step(self, batch: dict[str, Any]) -> Tensor:
        loss = self.loss(batch)
        loss.backward()
        nn.utils.clip_grad_norm_(self.trained, MAX_GRAD_NORM)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.detach()

    def loss(self, batch: dict[str, Any]) -> Tensor:
        with self.device.autocast():
            return self.model(**batch).loss


class LibraryLoop(PlainLoop):
    """The same around the library's model, with its teacher but without its Trainer."""

    model: Data2VecGenericForPreTraining

    def __init__(self, model: Data2VecGenericForPreTraining, optimizer: torch.optim.Optimizer, device: Device = CPU):
        super().__init__(model, optimizer, device)
        self.teacher = TeacherProgress()
        if device.dtype != torch.float32:  # as the Trainer does
            model.teacher_copy = HalfPrecisionCopy(model.teacher)

    def step(self, batch: dict[str, Any]) -> Tensor:
        loss = super().step(batch)
        self.teacher.step(self.model, DECAY)
        return loss


def adamw(model: nn.Module) -> torch.optim.Optimizer:
    """The Trainer's default optimizer."""
    return torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4, fused=True)


def step_times(
    case: Case, objective: str, repeats: int, torch_compile: bool, device: Device = CPU, first: Case | None = None
) -> Times:
    """Times steps of the floor, the library and its Trainer in turns, and for data2vec 2.0 also of data2vec.

    All begin with the same weights. The first turn of each is not counted.

    Args:
        first: the case for data2vec, if it is another than for data2vec 2.0.
    """
    model, batch = _new_model(case, objective, device), case.batch(objective)
    on_device = send_to_device(batch, device.type)
    bare_batch = BareBatch.of(batch, model.config, device.type)
    floor_model, library_model = (_new_model(case, objective, device) for _ in range(2))
    floor = BareLoop(floor_model, adamw(floor_model), DECAY, device)
    library = LibraryLoop(library_model, adamw(library_model), device)
    losses = {FLOOR: _first_loss(floor, bare_batch), LIBRARY: _first_loss(library, on_device)}
    contenders: dict[str, tuple[nn.Module, Callable[[], Any]]] = {
        FLOOR: (floor_model, lambda: floor.step(bare_batch)),
        LIBRARY: (library_model, lambda: library.step(on_device)),
    }
    if torch_compile:
        compiled_model = _new_model(case, objective, device)
        compile_parts(compiled_model)
        compiled = LibraryLoop(compiled_model, adamw(compiled_model), device)
        losses[COMPILED] = _first_loss(compiled, on_device)
        contenders[COMPILED] = compiled_model, lambda: compiled.step(on_device)
    if objective != "data2vec":
        first = first or case
        first_model = _new_model(first, "data2vec", device)
        first_batch = send_to_device(first.batch("data2vec"), device.type)
        first_library = LibraryLoop(first_model, adamw(first_model), device)
        contenders[DATA2VEC] = first_model, lambda: first_library.step(first_batch)
    turns = _Turns(contenders, model, device)
    run_trainer(model, case, objective, (repeats + 1) * GROUP[device.type], device, turns)
    rounds = {name: times[1:] for name, times in turns.rounds.items()}
    return Times(rounds, losses, turns.peaks, operations(lambda: floor.step(bare_batch)))


def _new_model(case: Case, objective: str, device: Device) -> Data2VecGenericForPreTraining:
    """A model in training mode on a device, always with the same weights. To copy one is faster than to make one."""
    return copy.deepcopy(_made_once(case, objective)).to(device.type)


@lru_cache(maxsize=2)  # those of both objectives
def _made_once(case: Case, objective: str) -> Data2VecGenericForPreTraining:
    return case.model(objective)


def _first_loss(loop: BareLoop | LibraryLoop, batch: Any) -> float:
    """The loss of a batch, with the same noise for all loops. Gradients are on, as in a step, and not computed."""
    torch.manual_seed(1)
    return loop.loss(batch).item()


def measured_run(case: Case, steps: int, device: Device) -> dict[str, Any]:
    """Arguments of a Trainer that takes some steps and does nothing else: no logs, saves or bars."""
    return {
        "max_steps": steps,
        "per_device_train_batch_size": case.batch_size,
        "use_cpu": device.type == "cpu",
        "bf16": device.dtype == torch.bfloat16,
        "report_to": "none",
        "disable_tqdm": True,
        "save_strategy": "no",
        "logging_steps": 10 * steps,
    }


def run_trainer(
    model: Data2VecGenericForPreTraining,
    case: Case,
    objective: str,
    steps: int,
    device: Device,
    callback: TrainerCallback,
) -> None:
    """Runs the library's Trainer with one and the same batch, without looks at the health.

    For a GPU the batch lies in pinned memory, as with the workers of a data loader, and is copied in each step.
    """
    batch = case.loaded_batch(objective)
    if device.type == "cuda":
        batch = pin_memory(batch)
    with tempfile.TemporaryDirectory() as output_dir:
        arguments = Data2VecTrainingArguments(output_dir, **measured_run(case, steps, device))
        trainer = Data2VecTrainer(
            model,
            arguments,
            data_collator=lambda examples: copy.copy(batch),  # collating is measured separately
            train_dataset=[{"sample_index": i} for i in range(case.batch_size * steps)],
            optimizers=(adamw(model), None),
            callbacks=[callback],
        )
        for unwanted in (PrinterCallback, HealthCallback):
            trainer.remove_callback(unwanted)
        trainer.train()


class _Turns(TrainerCallback):
    """After each group of steps of the Trainer, times a group of every other contender. The time between is the
    Trainer's own."""

    def __init__(
        self,
        contenders: dict[str, tuple[nn.Module, Callable[[], Any]]],
        model: nn.Module,
        device: Device,
    ):
        self.contenders, self.model, self.device = contenders, model, device
        self.group = GROUP[device.type]
        self.rounds: dict[str, list[float]] = {name: [] for name in (*contenders, TRAINER)}
        self.peaks: dict[str, float] = {}
        self.began = 0.0
        self.allocated = 0.0

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        self._begin()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step % self.group:
            return
        self._end(TRAINER, self.model)
        for name, (model, step) in self.contenders.items():
            self._begin()
            for _ in range(self.group):
                step()
            self._end(name, model)
        self._begin()

    def _begin(self) -> None:
        self.device.wait()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
            self.allocated = torch.cuda.memory_allocated()
        self.began = time.perf_counter()

    def _end(self, name: str, model: nn.Module) -> None:
        self.device.wait()
        self.rounds[name].append((time.perf_counter() - self.began) / self.group)
        if self.device.type == "cuda" and name not in self.peaks:  # the first turn makes the optimizer's moments too
            weights = sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
            self.peaks[name] = (torch.cuda.max_memory_allocated() - self.allocated + weights) / MIB


def waits(case: Case, objective: str, device: Device = CPU) -> dict[Wait, float]:
    """How often the host waits, or on a CPU would wait for a GPU, in an optimizer step of the Trainer that logs
    nothing.

    On a GPU, torch's own warnings are counted too, as the operation "CUDA". They are of the same waits, by their line,
    and of those that only CUDA knows.
    """
    counts = CountedSteps(device.type, UNCOUNTED, UNCOUNTED + COUNTED)
    model = _new_model(case, objective, device)
    run_trainer(model, case, objective, UNCOUNTED + COUNTED, device, counts)
    return {wait: count / COUNTED for wait, count in Counter(counts.found).items()}


def shares(case: Case, objective: str, repeats: int, device: Device = CPU) -> dict[str, float]:
    """Each of `PARTS` as a share of the library's step, and each of `EXTRAS`, which are not part of it.

    On a GPU the host waits at the beginning and the end of each part. Collating is timed in one process. In a run,
    loader workers do it during the steps.
    """
    model, batch = _new_model(case, objective, device), send_to_device(case.batch(objective), device.type)
    collator, examples = case.collator(objective), case.examples()
    loop = LibraryLoop(model, adamw(model), device)
    loop.step(batch)
    rounds: list[dict[str, float]] = []
    for _ in range(repeats):
        watch = Stopwatch(device)
        with watch.on(model):
            loss = watch.time("forward", loop.loss, batch)
            watch.time("backward", loss.backward)
        watch.time("clipping", nn.utils.clip_grad_norm_, loop.trained, MAX_GRAD_NORM)
        watch.time("AdamW", loop.optimizer.step)
        loop.optimizer.zero_grad()
        watch.time("EMA", loop.teacher.step, model, DECAY)
        watch.time("collating", collator, examples)
        rounds.append(watch.shares())
    return {name: median(entry[name] for entry in rounds) for name in rounds[0]}


class Stopwatch:
    """Measures the time of parts of one step, by hooks on modules and on the tensors between them."""

    def __init__(self, device: Device = CPU) -> None:
        self.device = device
        self.totals: dict[str, float] = {}
        self._began: dict[str, float] = {}

    def start(self, name: str) -> None:
        self.device.wait()
        self._began[name] = time.perf_counter()

    def stop(self, name: str) -> None:
        self.device.wait()
        self.totals[name] = self.totals.get(name, 0.0) + time.perf_counter() - self._began[name]

    def time(self, name: str, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self.start(name)
        result = work(*args, **kwargs)
        self.stop(name)
        return result

    @contextmanager
    def on(self, model: Data2VecGenericForPreTraining) -> Iterator[None]:
        """Measures teacher, student, predictor and targets."""
        own_targets = modeling_data2vec_generic.average_targets

        def leave_predictor(module: Any, args: tuple[Tensor, ...], output: Tensor) -> None:
            self.stop("predictor forward")
            output.register_hook(lambda gradient: self.start("predictor backward"))
            args[0].register_hook(lambda gradient: self.stop("predictor backward"))

        modules = {"teacher": model.teacher, "student forward": model.encoder}
        handles = [model.predictor.register_forward_pre_hook(lambda *_: self.start("predictor forward"))]
        handles += [model.predictor.register_forward_hook(leave_predictor)]
        for name, module in modules.items():
            handles.append(module.register_forward_pre_hook(lambda *_, name=name: self.start(name)))
            handles.append(module.register_forward_hook(lambda *_, name=name: self.stop(name)))
        with patch.object(
            modeling_data2vec_generic,
            "average_targets",
            lambda *args: self.time("targets", own_targets, *args),
        ):
            yield
        for handle in handles:
            handle.remove()

    def shares(self) -> dict[str, float]:
        """Each of `PARTS`, which make up the step, and each of `EXTRAS`, as a share of the step."""
        totals = self.totals
        known = {name: totals[name] for name in ("teacher", "targets", "student forward", "clipping", "AdamW", "EMA")}
        known["student backward"] = totals["backward"] - totals["predictor backward"]
        known["predictor"] = totals["predictor forward"] + totals["predictor backward"]
        inside = ("teacher", "targets", "student forward", "predictor forward")
        known["rest"] = totals["forward"] - sum(totals[name] for name in inside)
        step = sum(known.values())
        known |= {name: totals[name] for name in EXTRAS}
        return {name: known[name] / step for name in (*PARTS, *EXTRAS)}
