"""What a table of comparisons is made of: runs, what a run results in, and the class that a table fills in.

How a table comes about, by `__main__.py`:

1. `Table.runs` lists what belongs into the table. A run whose row is in `rows/NAME.jsonl` is not made again: the same
   data, contender, seed, budget and settings. So a table can be made in several sittings.
2. Each run takes place in a process of its own, with one thread on a CPU. Budgets are CPU seconds of training
   (`time.process_time`, collating included, no loader workers). `pace.py` measures the CPU seconds that a step takes,
   for all contenders of the data in turns in one process and once for all seeds, by steps of `Table.practise`.
3. `Table.perform` trains, scores and returns an `Outcome`. Its folder, `output/compare/TABLE/...`, is the same each
   time, so that a run that was cut off can go on.
4. `Table.draw` makes the figure and `Table.markdown` the text between the markers of the table in `docs/results.md`,
   of all rows that there are.

`--search` does the same with `Table.variants`, whose rows are in `rows/NAME_search.jsonl`; these runs are scored on a
validation part of the training data. `--quick` has tiny runs, whose rows are no results: they stay in `output/`.
"""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from .training import Trained

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Run:
    """One contender, trained on some data for one budget with one seed.

    Args:
        table: name of the table.
        data: name of the data.
        contender: who is compared, as the table prints it.
        seed: of new weights, batches and masks, and of the choice of labelled rows.
        budget_s: CPU seconds of training; None for what is not trained, such as new weights.
        settings: all else that the run depends on, of what JSON has: numbers, strings, booleans, lists, dictionaries.
    """

    table: str
    data: str
    contender: str
    seed: int
    budget_s: float | None
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Two runs with the same key are the same run."""
        return json.dumps(asdict(self), sort_keys=True)

    @property
    def folder(self) -> Path:
        """Where the run works, below the folder of its table. Budgets share it, so that they can share a trunk."""
        settings = hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()[:8]
        return Path(self.data, self.contender.replace(" ", "_").replace(".", "_"), settings, f"seed-{self.seed}")


@dataclass(frozen=True)
class Outcome:
    """What a run results in.

    Args:
        steps: optimizer steps of training.
        cpu_s: CPU seconds that they took, as measured.
        scores: by name, from 0 to 1 or as the metric is.
        untrained: the same scores of the weights before training, where they are known.
        health: the verdict of data2vec's own health check at the end; None for others.
        final_loss: the mean of the training loss since the last but one log.
        looks: the steps and the vital signs of all looks of the health check, oldest first; None for others. By them
            the verdict of the code as it is now can be found, whatever it was when the run was made.
        warmup_steps: of the learning rate, for that verdict.
        test_rows: rows that the probe is tested on, where the table has runs with different numbers of them.
    """

    steps: int
    cpu_s: float
    scores: dict[str, float]
    untrained: dict[str, float] | None = None
    health: str | None = None
    final_loss: float | None = None
    looks: list[dict[str, Any]] | None = None
    warmup_steps: int = 0
    test_rows: int | None = None


class Table(ABC):
    """One table. A subclass says what is compared and how a run is made.

    Args:
        data: names of the data to compare on; default: all.
        seeds: of the runs.
        device: "cpu" or "cuda".
        quick: tiny runs, which show that all of it works.

    Attributes:
        name: of the table, on the command line and in the names of its files.
        all_data: names of the data.
        columns: scores in the order of the table, with their headings.
        drawn: the score that the figure shows.
        leads: who is compared with the same seed: over whom, and who.
    """

    name: ClassVar[str]
    all_data: ClassVar[tuple[str, ...]]
    columns: ClassVar[dict[str, str]]
    drawn: ClassVar[str]
    leads: ClassVar[tuple[tuple[str, tuple[str, ...]], ...]] = ()

    def __init__(
        self,
        data: Sequence[str] | None = None,
        seeds: Sequence[int] = (0, 1, 2),
        device: str = "cpu",
        quick: bool = False,
    ):
        self.data = tuple(data or self.all_data)
        if unknown := set(self.data) - set(self.all_data):
            raise ValueError(f"The table {self.name} has no data {sorted(unknown)}: choose among {self.all_data}.")
        self.seeds, self.device, self.quick = tuple(seeds), device, quick

    @property
    def shows(self) -> str:
        """What the figure shows, in words."""
        return f"{self.columns[self.drawn]} against time"

    @abstractmethod
    def runs(self) -> list[Run]:
        """The runs of the table, for `data` and `seeds`."""

    def variants(self) -> list[Run]:
        """The runs of the search for settings, with one seed. The base class has none."""
        return []

    def train(self, run: Run, folder: Path, **arguments: Any) -> "Trained":
        """Pre-trains a contender; `arguments` are those of `TrainingArguments`.

        Only tables whose runs have a budget need it.
        """
        raise NotImplementedError(f"The table {self.name} has runs with a budget, and no train() to make them.")

    def practise(self, run: Run, steps: int, folder: Path) -> list[float]:
        """Takes some steps just as `perform` would, in an empty folder; returns the CPU seconds of each."""
        return self.train(run, folder, max_steps=steps).clock.of_steps

    def paced_by(self, run: Run) -> Run:
        """The run whose pace is measured in place of this one's: itself, or one whose steps are as much work."""
        return run

    @abstractmethod
    def perform(self, run: Run, seconds_per_step: float | None, folder: Path) -> Outcome:
        """Trains and scores.

        Args:
            run: one of `runs` or `variants`.
            seconds_per_step: CPU seconds that a step of this contender takes; None for a run without a budget.
            folder: where to work, which may hold what an earlier call has left, or runs of other budgets.
        """

    def markdown(self, rows: Sequence[Row], search: Sequence[Row]) -> str:
        """The text between the markers: by default tables of scores, of the search and of `leads`."""
        from . import report  # which draws, and imports this file

        return report.markdown(self, rows, search)

    def draw(self, rows: Sequence[Row], path: Path) -> None:
        """The figure: by default `drawn` for each of the data, against the budget, or as bars if all runs have one."""
        from . import report

        budgets = {run.budget_s for run in self.runs()} - {None}
        (report.draw if len(budgets) > 1 else report.draw_bars)(self, rows, path)
