"""`python -m benchmarks.step`: the time and memory of an optimizer step, compared with a loop written by hand.

Prints Markdown tables; README.md in this folder explains them.
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers.utils import logging

from modeling_data2vec_generic.training.acceleration.compilation import compile_parts

from .bare import BareLoop
from .cases import CASES, OBJECTIVES, QUICK_CASES, Case
from .memory import Memory, peak_memory
from .timing import (
    COMPILED,
    DATA2VEC,
    DECAY,
    EXTRAS,
    FLOOR,
    LIBRARY,
    PARTS,
    TRAINER,
    LibraryLoop,
    Times,
    adamw,
    shares,
    step_times,
)

STEP_COLUMNS = (
    "case",
    "objective",
    "masks",
    "floor, s",
    "library, s",
    "library / floor",
    "Trainer, s",
    "Trainer / floor",
    "Trainer - library, ms",
    "masks per s",
    "x data2vec",
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
COMPILE_COLUMNS = ("case", "objective", "library, s", "compiled, s", "library / compiled", "loss differs by")


@dataclass(frozen=True)
class Result:
    """All measurements of one case with one objective."""

    name: str
    case: Case
    objective: str
    times: Times
    shares: dict[str, float]
    memory: Memory
    losses: tuple[float, float] | None


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    logging.set_verbosity_error()
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    names = options.case or list(QUICK_CASES if options.quick else CASES)
    repeats = options.repeats or (2 if options.quick else 5)
    results = []
    for name in names:
        case = _chosen(name, options)
        for objective in OBJECTIVES:
            sys.stderr.write(f"{name}, {objective}\n")
            results.append(_measured(name, case, objective, repeats, options.torch_compile))
    _say(f"torch {torch.__version__}, {torch.get_num_threads()} threads, medians of {repeats}\n")
    _say(table(STEP_COLUMNS, map(_step_row, results)))
    _say(table(SHARE_COLUMNS, map(_share_row, results)))
    _say(table(MEMORY_COLUMNS, (_memory_row(result, results) for result in results)))
    if options.torch_compile:
        _say(table(COMPILE_COLUMNS, map(_compile_row, results)))


def _measured(name: str, case: Case, objective: str, repeats: int, torch_compile: bool) -> Result:
    return Result(
        name=name,
        case=case,
        objective=objective,
        times=step_times(case, objective, repeats, torch_compile),
        shares=shares(case, objective, repeats),
        memory=peak_memory(case, objective, torch.get_num_threads()),
        losses=losses(case, objective, torch_compile) if torch_compile else None,
    )


def losses(case: Case, objective: str, torch_compile: bool = False) -> tuple[float, float]:
    """The loss of the library's model, compiled or not, and of the bare loop, for the same batch and noise."""
    model, batch = case.model(objective), case.batch(objective)
    optimizer = adamw(model)
    with torch.no_grad():
        torch.manual_seed(1)
        bare = BareLoop(model, optimizer, DECAY).loss(batch).item()
        if torch_compile:
            compile_parts(model)
        torch.manual_seed(1)
        return LibraryLoop(model, optimizer).forward(**batch).loss.item(), bare


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def _step_row(result: Result) -> list[str]:
    times, masks = result.times, result.case.masks_per_step(result.objective)
    gain = 1.0 if result.objective == "data2vec" else result.case.num_masks * times.ratio(DATA2VEC, LIBRARY)
    return [
        result.name,
        result.objective,
        str(masks),
        f"{times.median(FLOOR):.3f}",
        f"{times.median(LIBRARY):.3f}",
        f"{times.ratio(LIBRARY, FLOOR):.3f}",
        f"{times.median(TRAINER):.3f}",
        f"{times.ratio(TRAINER, FLOOR):.3f}",
        f"{1000 * (times.median(TRAINER) - times.median(LIBRARY)):.1f}",
        f"{masks / times.median(LIBRARY):.2f}",
        f"{gain:.2f}",
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


def _compile_row(result: Result) -> list[str]:
    assert result.losses is not None
    compiled, bare = result.losses
    return [
        result.name,
        result.objective,
        f"{result.times.median(LIBRARY):.3f}",
        f"{result.times.median(COMPILED):.3f}",
        f"{result.times.ratio(LIBRARY, COMPILED):.2f}",
        f"{abs(compiled - bare) / bare:.0e}",
    ]


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def _chosen(name: str, options: argparse.Namespace) -> Case:
    case = (CASES | QUICK_CASES)[name]
    return replace(case, batch_size=options.batch_size or case.batch_size, decoder_dim=options.decoder_dim)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.step", description=__doc__)
    parser.add_argument("--case", nargs="+", choices=[*CASES, *QUICK_CASES], metavar="NAME", help=", ".join(CASES))
    parser.add_argument("--batch_size", type=int, help="samples per step; default: each case's own")
    parser.add_argument("--decoder_dim", type=int, help="width of data2vec 2.0's decoder; default: --objective's")
    parser.add_argument("--repeats", type=int, help="rounds that are counted; default 5, with --quick 2")
    parser.add_argument("--threads", type=int, help="threads of torch; default: as torch chooses")
    parser.add_argument("--quick", action="store_true", help="tiny encoders and inputs, to see that everything runs")
    parser.add_argument("--torch_compile", action="store_true", help="also time the compiled model")
    return parser


if __name__ == "__main__":
    main()
