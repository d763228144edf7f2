"""Measures the time of whole steps, which contenders take in turns, and of the parts of a step."""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from transformers import PrinterCallback, TrainerCallback

from modeling_data2vec_generic import (
    Data2VecGenericForPreTraining,
    Data2VecTrainer,
    Data2VecTrainingArguments,
    modeling_data2vec_generic,
)
from modeling_data2vec_generic.training.acceleration.compilation import compile_parts
from modeling_data2vec_generic.training.teacher import EMATeacher

from .bare import BareLoop
from .cases import Case

DECAY = 0.999
FLOOR, LIBRARY, TRAINER, COMPILED, DATA2VEC = "floor", "library", "Trainer", "compiled", "data2vec"
PARTS = ("teacher", "targets", "student forward", "student backward", "predictor", "AdamW", "EMA", "rest")
EXTRAS = ("clipping", "collating")


@dataclass(frozen=True)
class Times:
    """Seconds per step of each contender, one entry per round."""

    rounds: dict[str, list[float]]

    def median(self, name: str) -> float:
        return median(self.rounds[name])

    def ratio(self, name: str, to: str) -> float:
        """The median over rounds of the ratio within each round, which does not depend on drift of the machine."""
        return median(a / b for a, b in zip(self.rounds[name], self.rounds[to], strict=True))


class LibraryLoop:
    """The simplest loop around the library's model and teacher, without its Trainer."""

    def __init__(self, model: Data2VecGenericForPreTraining, optimizer: torch.optim.Optimizer):
        self.model, self.optimizer = model, optimizer
        self.forward: Callable[..., Any] = model
        self._ema: EMATeacher | None = None

    def step(self, batch: dict[str, Tensor]) -> Tensor:
        loss = self.forward(**batch).loss
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.ema.step(DECAY)
        return loss.detach()

    @property
    def ema(self) -> EMATeacher:
        if self._ema is None:  # only after a forward pass it is known which parameters are copied
            self._ema = EMATeacher(self.model.teacher, self.model.encoder, self.model.copied_parameters())
        return self._ema


def adamw(model: Data2VecGenericForPreTraining) -> torch.optim.Optimizer:
    """The Trainer's default optimizer."""
    return torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4, fused=True)


def step_times(case: Case, objective: str, repeats: int, torch_compile: bool) -> Times:
    """Times steps of the floor, the library and its Trainer in turns, and for data2vec 2.0 also of data2vec.

    Floor, library and Trainer share a model and an optimizer. The first step of each is not counted.
    """
    model, batch = case.model(objective), case.batch(objective)
    optimizer = adamw(model)
    floor, library = BareLoop(model, optimizer, DECAY), LibraryLoop(model, optimizer)
    contenders: dict[str, Callable[[], Any]] = {
        FLOOR: lambda: floor.step(batch),
        LIBRARY: lambda: library.step(batch),
    }
    if torch_compile:
        compiled_model = case.model(objective)
        compile_parts(compiled_model)
        compiled = LibraryLoop(compiled_model, adamw(compiled_model))
        contenders[COMPILED] = lambda: compiled.step(batch)
    if objective != "data2vec":
        first, first_batch = case.model("data2vec"), case.batch("data2vec")
        first_library = LibraryLoop(first, adamw(first))
        contenders[DATA2VEC] = lambda: first_library.step(first_batch)
    turns = _Turns(contenders)
    with tempfile.TemporaryDirectory() as output_dir:
        arguments = Data2VecTrainingArguments(
            output_dir=output_dir,
            max_steps=repeats + 1,
            per_device_train_batch_size=case.batch_size,
            use_cpu=True,
            report_to="none",
            disable_tqdm=True,
            save_strategy="no",
        )
        trainer = Data2VecTrainer(
            model,
            arguments,
            data_collator=lambda examples: batch,  # collating is measured separately
            train_dataset=[{}] * (case.batch_size * (repeats + 1)),
            optimizers=(optimizer, None),
            callbacks=[turns],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return Times({name: times[1:] for name, times in turns.rounds.items()})


class _Turns(TrainerCallback):
    """After each step of the Trainer, times a step of every other contender. The time between is the Trainer's own."""

    def __init__(self, contenders: dict[str, Callable[[], Any]]):
        self.contenders = contenders
        self.rounds: dict[str, list[float]] = {name: [] for name in (*contenders, TRAINER)}
        self.trainer_began = 0.0

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        self.trainer_began = time.perf_counter()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.rounds[TRAINER].append(time.perf_counter() - self.trainer_began)
        for name, step in self.contenders.items():
            self.rounds[name].append(seconds(step))
        self.trainer_began = time.perf_counter()


def seconds(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def shares(case: Case, objective: str, repeats: int) -> dict[str, float]:
    """Each of `PARTS` as a share of the library's step, and each of `EXTRAS`, which are not part of it.

    Collating is timed in one process. In a run, loader workers do it during the steps.
    """
    model, batch = case.model(objective), case.batch(objective)
    collator, examples = case.collator(objective), case.examples()
    loop = LibraryLoop(model, adamw(model))
    loop.step(batch)
    rounds: list[dict[str, float]] = []
    for _ in range(repeats):
        watch = Stopwatch()
        with watch.on(model):
            loss = watch.time("forward", model, **batch).loss
            watch.time("backward", loss.backward)
        watch.time("clipping", torch.nn.utils.clip_grad_norm_, model.parameters(), 1.0)
        watch.time("AdamW", loop.optimizer.step)
        loop.optimizer.zero_grad()
        watch.time("EMA", loop.ema.step, DECAY)
        watch.time("collating", collator, examples)
        rounds.append(watch.shares())
    return {name: median(entry[name] for entry in rounds) for name in rounds[0]}


class Stopwatch:
    """Measures the time of parts of one step, by hooks on modules and on the tensors between them."""

    def __init__(self) -> None:
        self.totals: dict[str, float] = {}
        self._began: dict[str, float] = {}

    def start(self, name: str) -> None:
        self._began[name] = time.perf_counter()

    def stop(self, name: str) -> None:
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
        known = {name: totals[name] for name in ("teacher", "targets", "student forward", "AdamW", "EMA")}
        known["student backward"] = totals["backward"] - totals["predictor backward"]
        known["predictor"] = totals["predictor forward"] + totals["predictor backward"]
        inside = ("teacher", "targets", "student forward", "predictor forward")
        known["rest"] = totals["forward"] - sum(totals[name] for name in inside)
        step = sum(known.values())
        known |= {name: totals[name] for name in EXTRAS}
        return {name: known[name] / step for name in (*PARTS, *EXTRAS)}
