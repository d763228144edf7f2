"""Makes a run in a process of its own."""

import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import torch

from . import rows
from .pace import seconds_per_step
from .table import Run, Table

processes = multiprocessing.get_context("forkserver")  # imports modules once
processes.set_forkserver_preload(
    ["modeling_data2vec_generic.runs.pretraining", "modeling_data2vec_generic.runs.finetuning"]
)


def perform(table: Table, run: Run, work: Path, into: Path) -> None:
    """Makes a run, in this process, and adds its row to the file `into`."""
    if table.device == "cpu":
        torch.set_num_threads(1)
    pace = None
    if run.budget_s is not None:
        # The other contenders of a table are measured at the same time; variants of a search are on their own.
        companions = [other for other in table.runs() if other.data == run.data]
        among = companions if run.key in {other.key for other in companions} else []
        paces = into.with_name(f"{into.stem}_pace.jsonl")
        measured, *with_it = [table.paced_by(each) for each in (run, *among)]
        pace = seconds_per_step(paces, measured, with_it, table.practise)
    rows.append(into, rows.row_of(run, table.perform(run, pace, work / run.folder)))


def in_a_process(function: Callable[..., None], *arguments: Any) -> None:
    """Calls a function in a new process, so that runs share neither memory nor the state of random generators.

    The process ends with this one, also where this one is killed: a run that goes on would add its row unseen.

    Raises:
        SystemExit: it failed; what it raised has been printed.
    """
    process = processes.Process(target=_call, args=(function, *arguments))
    process.start()
    process.join()
    if process.exitcode != 0:
        raise SystemExit(f"The run ended with {process.exitcode}: {arguments[1]}")


def _call(function: Callable[..., None], *arguments: Any) -> None:
    Thread(target=_end_with_parent, daemon=True).start()
    function(*arguments)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
