"""`python -m benchmarks.compare TABLE ...`: makes the runs of a table that are missing, and writes the table.

    python -m benchmarks.compare images                           # all that is missing of the table
    python -m benchmarks.compare images --data fashion_mnist --seeds 0 --contender MAE
    python -m benchmarks.compare images --search                  # the search for settings
    python -m benchmarks.compare images --report_only             # the document, from the rows that there are
    python -m benchmarks.compare images --quick                   # tiny runs, printed and not kept

See `table.py` for what happens, and README.md in the folder above.
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import report, rows
from .processes import in_a_process, perform
from .table import Run
from .tables import NAMES, table_class

WORK = Path("output/compare")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tables", nargs="+", choices=NAMES, metavar="TABLE", help=f"one or more of {', '.join(NAMES)}")
    parser.add_argument("--data", nargs="+", help="some of the table's data; default: all")
    parser.add_argument("--contender", nargs="+", help="some of the contenders; default: all")
    parser.add_argument("--budgets", nargs="+", type=float, help="some of the budgets, in seconds; default: all")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="default: 0 1 2")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: cpu")
    parser.add_argument("--search", action="store_true", help="make the runs of the search for settings")
    parser.add_argument("--quick", action="store_true", help="tiny runs, whose results are printed and not kept")
    parser.add_argument("--report_only", action="store_true", help="make no runs, but write the document")
    asked = parser.parse_args(argv)

    for name in asked.tables:
        table = table_class(name)(asked.data, asked.seeds, asked.device, asked.quick)
        work = WORK / ("quick" if asked.quick else "") / name
        kept = work / "rows" if asked.quick else rows.KEPT
        path, search_path = kept / f"{name}.jsonl", kept / f"{name}_search.jsonl"
        if not asked.report_only:
            wanted, into = (table.variants(), search_path) if asked.search else (table.runs(), path)
            budgets = [run.budget_s for run in wanted if run.budget_s is not None]
            refuse_unknown(parser, f"--contender: {name}", asked.contender, [run.contender for run in wanted])
            refuse_unknown(parser, f"--budgets: {name}", asked.budgets, budgets)
            chosen = [run for run in wanted if is_chosen(run, asked.contender, asked.budgets)]
            for run in rows.missing(chosen, rows.read(into)):
                in_a_process(perform, table, run, work, into)
        whole = type(table)(device=asked.device, quick=asked.quick)
        found = rows.of_runs(whole.runs(), rows.read(path))
        tried = rows.of_runs(whole.variants(), rows.read(search_path))
        if asked.quick:
            print(table.markdown(found, tried))  # noqa: T201
        else:
            report.write(whole, found, tried)


def refuse_unknown(
    parser: argparse.ArgumentParser, where: str, chosen: Sequence[Any] | None, known: Sequence[Any]
) -> None:
    """Ends the command if something was chosen that no run of the table has; names what there is."""
    if unknown := set(chosen or ()) - set(known):
        choices = ", ".join(map(str, dict.fromkeys(known)))
        parser.error(f"{where} has no run with {sorted(unknown)}. Choose among {choices}.")


def is_chosen(run: Run, contenders: Sequence[str] | None, budgets: Sequence[float] | None) -> bool:
    """Whether a run is among those asked for; one without a budget is with any."""
    of_budget = budgets is None or run.budget_s is None or run.budget_s in budgets
    return of_budget and (contenders is None or run.contender in contenders)


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"  # before numpy is imported in the processes of the runs
    main()
