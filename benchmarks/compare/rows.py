"""Results, which are kept as rows: one JSON object per line of a file that several processes may add to."""

import fcntl
import json
import platform
import subprocess
from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
import transformers

from .table import Outcome, Row, Run

ROOT = Path(__file__).parents[2]
KEPT = Path(__file__).parent / "rows"
"""Where rows that are results lie; they are part of the repository."""


def read(path: Path) -> list[Row]:
    """All rows of a file, none if there is no file."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def append(path: Path, row: Row) -> None:
    """Add a row to a file, under a lock."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(json.dumps(row) + "\n")


def row_of(run: Run, outcome: Outcome) -> dict[str, Any]:
    """All that is kept of a run: what it was, what came of it, and by which code."""
    return asdict(run) | asdict(outcome) | made_by()


def made_by() -> dict[str, Any]:
    """The commit of this repository, with a + if its code differs from it, and versions of what else computes."""
    git = ["git", "-C", str(ROOT)]
    code = ("--", ":/", f":(exclude){KEPT.relative_to(ROOT)}", ":(exclude)docs")  # runs themselves write to the others
    commit, changes = (
        subprocess.run([*git, *words], capture_output=True, text=True, check=True).stdout.strip()
        for words in (("rev-parse", "--short", "HEAD"), ("status", "--porcelain", "--untracked-files=no", *code))
    )
    versions = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    return {"commit": commit + "+" * bool(changes), "versions": versions}


def run_of(row: Row) -> Run:
    """The run that a row is of."""
    return Run(**{field.name: row[field.name] for field in fields(Run)})


def missing(runs: Iterable[Run], rows: Iterable[Row]) -> list[Run]:
    """Those runs that have no row yet."""
    made = {run_of(row).key for row in rows}
    return [run for run in runs if run.key not in made]


def of_runs(runs: Iterable[Run], rows: Iterable[Row]) -> list[Row]:
    """The rows of some runs, so that rows of earlier settings are left out; in the order of the runs."""
    by_key = {run_of(row).key: row for row in rows}
    return [by_key[run.key] for run in runs if run.key in by_key]
