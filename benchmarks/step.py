"""`python -m benchmarks.step`: times, rates, memory and waits of a step, compared with a loop written by hand.

Prints Markdown tables; README.md in this folder explains them.
"""

import argparse
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers.utils import logging

from .cases import CASES, GPU_RUNS, OBJECTIVES, QUICK_CASES, Case
from .device import DTYPES, PRODUCT, TERA, Device
from .memory import Memory, peak_memory
from .timing import (
    COMPILED,
    DATA2VEC,
    EXTRAS,
    FLOOR,
    GROUP,
    LIBRARY,
    PARTS,
    TRAINER,
    Times,
    shares,
    step_times,
    waits,
)
from .waits import CUDA, Wait

STEP_COLUMNS = (
    "case",
    "objective",
    "samples",
    "masks",
    "floor, ms",
    "library, ms",
    "library / floor",
    "Trainer, ms",
    "Trainer / floor",
    "Trainer - library, ms",
    "compiled, ms",
    "compiled / floor",
)
RATE_COLUMNS = (
    "case",
    "objective",
    "samples per s",
    "masks per s",
    "x data2vec",
    "TFLOP per step",
    "TFLOP/s, floor",
    "TFLOP/s, Trainer",
    "of the product's rate",
    "compiled: samples per s",
    "TFLOP/s",
    "of the product's rate",
    "waits per step",
    "by CUDA's warnings",
)
SHARE_COLUMNS = ("case", "objective", *PARTS, *(f"+ {name}" for name in EXTRAS))
MEMORY_COLUMNS = (
    "case",
    "objective",
    "loaded, MiB",
    "step, MiB",
    "of it gradients and moments",
    "step x data2vec",
    "predictor's activations, MiB",
    "checkpointing them saves, MiB",
    "step with --gradient_checkpointing, MiB",
)
GPU_MEMORY_COLUMNS = ("case", "objective", "floor, MiB", "library, MiB", "Trainer, MiB", "compiled, MiB")
LOSS_COLUMNS = ("case", "objective", "loss of the floor", "library's differs by", "that of the compiled model by")
WAIT_COLUMNS = ("case", "objective", "where", "operation", "times per step")
NONE = "-"


@dataclass(frozen=True)
class Result:
    """All measurements of one case with one objective. Memory is of a CPU: that of a GPU is with the times."""

    name: str
    case: Case
    objective: str
    times: Times
    shares: dict[str, float]
    memory: Memory | None
    waits: dict[Wait, float]
    masks_gain: float

    def waits_per_step(self, by_cuda: bool) -> float:
        return sum(times for wait, times in self.waits.items() if (wait.operation == CUDA) == by_cuda)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch sees no GPU. Run it where there is one, or with --device cpu.")
    logging.set_verbosity_error()
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    dtype = options.dtype or ("bf16" if options.device == "cuda" else "fp32")
    device = Device(options.device, DTYPES[dtype])
    results = []
    for name, objective in _runs(options):
        began = time.perf_counter()
        results.append(_measured(name, objective, options, device))
        row = table(STEP_COLUMNS, [_step_row(results[-1])]).splitlines()[-1]
        sys.stderr.write(f"{row} in {time.perf_counter() - began:.0f} s\n")
    rate, side = device.product_rate(), PRODUCT[device.type]
    _say(f"{device.describe()}; medians of {_repeats(options)} rounds of {GROUP[device.type]} steps")
    _say(f"A product of {side} x {side} matrices: {rate / TERA:.3g} TFLOP/s\n")
    _say(table(STEP_COLUMNS, map(_step_row, results)))
    _say(table(RATE_COLUMNS, (_rate_row(result, rate) for result in results)))
    _say(table(SHARE_COLUMNS, map(_share_row, results)))
    if device.type == "cpu":
        _say(table(MEMORY_COLUMNS, (_memory_row(result, results) for result in results)))
    else:
        _say(table(GPU_MEMORY_COLUMNS, map(_gpu_memory_row, results)))
    _say(table(LOSS_COLUMNS, map(_loss_row, results)))
    _say(table(WAIT_COLUMNS, (row for result in results for row in _wait_rows(result))))


def _runs(options: argparse.Namespace) -> list[tuple[str, str]]:
    """Names of cases and objectives, in the order in which they are measured."""
    if options.device == "cuda" and not (options.case or options.quick or options.objective):
        return list(GPU_RUNS)
    names = options.case or list(QUICK_CASES if options.quick else CASES)
    return [(name, objective) for name in names for objective in options.objective or OBJECTIVES]


def _measured(name: str, objective: str, options: argparse.Namespace, device: Device) -> Result:
    case, first = _chosen(name, objective, options), _chosen(name, "data2vec", options)
    torch_compile = device.type == "cuda" if options.torch_compile is None else options.torch_compile
    times = step_times(case, objective, _repeats(options), torch_compile, device, first)
    gain = 1.0
    if objective != "data2vec":
        masks = case.masks_per_step(objective) / first.masks_per_step("data2vec")
        gain = masks * times.ratio(DATA2VEC, LIBRARY)
    on_cpu = device.type == "cpu"
    return Result(
        name=name,
        case=case,
        objective=objective,
        times=times,
        shares=shares(case, objective, _repeats(options), device),
        memory=peak_memory(case, objective, torch.get_num_threads(), device) if on_cpu else None,
        waits=waits(case, objective, device),
        masks_gain=gain,
    )


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def _step_row(result: Result) -> list[str]:
    times = result.times
    return [
        result.name,
        result.objective,
        str(result.case.batch_size),
        str(result.case.masks_per_step(result.objective)),
        _ms(times.median(FLOOR)),
        _ms(times.median(LIBRARY)),
        f"{times.ratio(LIBRARY, FLOOR):.3f}",
        _ms(times.median(TRAINER)),
        f"{times.ratio(TRAINER, FLOOR):.3f}",
        _ms(times.median(TRAINER) - times.median(LIBRARY)),
        *(
            [_ms(times.median(COMPILED)), f"{times.ratio(COMPILED, FLOOR):.3f}"]
            if COMPILED in times.rounds
            else [NONE] * 2
        ),
    ]


def _rate_row(result: Result, product_rate: float) -> list[str]:
    times, samples = result.times, result.case.batch_size
    rates = {name: times.operations / times.median(name) for name in times.rounds}
    compiled = (
        [NONE] * 3
        if COMPILED not in rates
        else [f"{samples / times.median(COMPILED):.1f}", *_rate(rates[COMPILED], product_rate)]
    )
    return [
        result.name,
        result.objective,
        f"{samples / times.median(TRAINER):.1f}",
        f"{result.case.masks_per_step(result.objective) / times.median(TRAINER):.1f}",
        f"{result.masks_gain:.2f}",
        f"{times.operations / TERA:.4g}",
        f"{rates[FLOOR] / TERA:.3g}",
        *_rate(rates[TRAINER], product_rate),
        *compiled,
        f"{result.waits_per_step(by_cuda=False):g}",
        NONE if result.memory else f"{result.waits_per_step(by_cuda=True):g}",
    ]


def _share_row(result: Result) -> list[str]:
    return [result.name, result.objective, *(f"{100 * result.shares[part]:.1f}%" for part in (*PARTS, *EXTRAS))]


def _memory_row(result: Result, results: Sequence[Result]) -> list[str]:
    memory = result.memory
    first = next(other.memory for other in results if other.name == result.name)
    return [
        result.name,
        result.objective,
        *(f"{size:.0f}" for size in (memory.loaded, memory.step, memory.trained)),
        f"{memory.step / first.step:.2f}" if first.step else "too small to tell",
        *(f"{size:.1f}" for size in (memory.predictor, memory.checkpointed)),
        f"{memory.checkpointed_step:.0f}",
    ]


def _gpu_memory_row(result: Result) -> list[str]:
    peaks = result.times.peaks
    return [
        result.name,
        result.objective,
        *(f"{peaks[name]:.0f}" if name in peaks else NONE for name in (FLOOR, LIBRARY, TRAINER, COMPILED)),
    ]


def _loss_row(result: Result) -> list[str]:
    losses = result.times.losses
    differences = (
        f"{abs(losses[name] / losses[FLOOR] - 1):.0e}" if name in losses else NONE for name in (LIBRARY, COMPILED)
    )
    return [result.name, result.objective, f"{losses[FLOOR]:.6g}", *differences]


def _wait_rows(result: Result) -> list[list[str]]:
    return [
        [result.name, result.objective, wait.place, wait.operation, f"{times:g}"]
        for wait, times in sorted(result.waits.items())
    ]


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.1f}"


def _rate(rate: float, product_rate: float) -> list[str]:
    return [f"{rate / TERA:.3g}", f"{100 * rate / product_rate:.0f}%"]


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def _repeats(options: argparse.Namespace) -> int:
    return options.repeats or (2 if options.quick else 3 if options.device == "cuda" else 5)


def _chosen(name: str, objective: str, options: argparse.Namespace) -> Case:
    case = (CASES | QUICK_CASES)[name]
    if options.device == "cuda":
        case = case.on_gpu(objective)
    return replace(case, batch_size=options.batch_size or case.batch_size, decoder_dim=options.decoder_dim)


def _parser() -> argparse.ArgumentParser:
    here = "cuda" if torch.cuda.is_available() else "cpu"
    parser = argparse.ArgumentParser(prog="python -m benchmarks.step", description=__doc__)
    parser.add_argument("--case", nargs="+", choices=[*CASES, *QUICK_CASES], metavar="NAME", help=", ".join(CASES))
    parser.add_argument("--objective", nargs="+", choices=OBJECTIVES, help="default: both, or what a GPU's cases have")
    parser.add_argument("--device", choices=("cpu", "cuda"), default=here, help="default: cuda where there is one")
    parser.add_argument("--dtype", choices=DTYPES, help="default: bf16 (autocast) on cuda, fp32 on cpu")
    parser.add_argument("--batch_size", type=int, help="samples per step; default: each case's own")
    parser.add_argument("--decoder_dim", type=int, help="width of data2vec 2.0's decoder; default: --objective's")
    parser.add_argument("--repeats", type=int, help="rounds that are counted; default 5, on cuda 3, with --quick 2")
    parser.add_argument("--threads", type=int, help="threads of torch; default: as torch chooses")
    parser.add_argument("--quick", action="store_true", help="tiny encoders and inputs, to see that everything runs")
    parser.add_argument(
        "--torch_compile",
        action=argparse.BooleanOptionalAction,
        help="also time the compiled model; default: on cuda only",
    )
    return parser


if __name__ == "__main__":
    main()
