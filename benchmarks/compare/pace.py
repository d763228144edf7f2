"""How fast contenders train: the CPU seconds of a step, from which follows how many steps a budget pays for."""

import fcntl
import json
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from . import rows
from .table import Run

ROUNDS, STEPS, WARM_UP = 3, 16, 4  # steps in each round, of which the first ones are not counted
SORTED = 50
"""Batches that transformers' sampler sorts by length, from the longest on, where batches are of similar length.

Of such runs so many steps warm up, and so many are counted: some would all be long.
"""


def seconds_per_step(
    path: Path, run: Run, companions: Sequence[Run], practise: Callable[[Run, int, Path], list[float]]
) -> float:
    """The CPU seconds that a step of a run takes, from a file of such measurements; it is measured if it is not there.

    Args:
        path: the file, one JSON object per line.
        run: the run.
        companions: further runs to measure with it. They take some steps in turns, in this process, so that what else
            the machine does meets all of them. Runs that differ in seed and budget alone are measured once.
        practise: takes a run, a number of steps and an empty folder, and returns the CPU seconds of each step.
    """
    known = _measured(path)
    if _of(run) in known:
        return known[_of(run)]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # so that of commands beside each other one measures, and the others wait
        known = _measured(path)
        if _of(run) not in known:
            found = measure([run, *companions], practise)
            # What is known stays, so that all seeds of a contender take as many steps.
            new = {of: seconds for of, seconds in found.items() if of not in known}
            made_by = rows.made_by()
            lines = [json.dumps({"of": of, "seconds_per_step": seconds, **made_by}) for of, seconds in new.items()]
            file.write("\n".join([*lines, ""]))  # at once, since others read without waiting
            known |= new
    return known[_of(run)]


def _measured(path: Path) -> dict[str, float]:
    """The seconds of a step that the file has, by what they are of."""
    return {line["of"]: line["seconds_per_step"] for line in rows.read(path)}


def measure(runs: Sequence[Run], practise: Callable[[Run, int, Path], list[float]]) -> dict[str, float]:
    """The mean seconds of a step of each of the runs that have a budget, in the order in which they are given."""
    different = {_of(run): run for run in runs if run.budget_s is not None}
    found: dict[str, list[float]] = {of: [] for of in different}
    for _ in range(ROUNDS):
        for of, run in different.items():
            are_sorted = run.settings.get("train_sampling_strategy") == "group_by_length"
            steps, warm_up = (2 * SORTED, SORTED) if are_sorted else (STEPS, WARM_UP)
            with TemporaryDirectory() as folder:
                found[of] += practise(run, steps, Path(folder))[warm_up:]
    return {of: statistics.fmean(seconds) for of, seconds in found.items()}


def _of(run: Run) -> str:
    return json.dumps([run.data, run.contender, run.settings], sort_keys=True)
