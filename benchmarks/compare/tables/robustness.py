"""Robustness: how far the settings of the recipes for own data may be moved before pre-training gains less.

The centre of each grid is what `examples/*/own_*.json` says, with a tiny encoder. One setting at a time is moved away
from it: learning rate, batch, EMA and mask ratio. All cells train for the same CPU seconds. Encoders are trained on
training data alone, without labels, and scored on labelled rows of the same: these runs choose settings, so they read
no test row.
"""

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from modeling_data2vec_generic.figures.drawing import WIDTH, save, styled

from ..agreement import state_of
from ..report import interval, markdown_table, percent
from ..table import Outcome, Row, Run, Table
from ..training import Trained, pretrain_data2vec, steps_for
from . import grids
from .grids import ALL, AS_MUCH_WORK, CENTRE, FLAGS, ladders, near_centre

LEAST = 0.9  # of the centre's gain, which a robust setting keeps one step away


class RobustnessTable(Table):
    """A grid around the recipes for own data, one setting at a time."""

    name = "robustness"
    all_data = tuple(ALL)
    columns = {"linear": "linear", "neighbours": "nearest neighbours"}
    drawn = "linear"
    shows = "gain against the setting that is moved"

    def runs(self) -> list[Run]:
        return list(self._runs())

    def _runs(self) -> Iterator[Run]:
        """The centre and what is one step away with all seeds, each other cell with the first one."""
        for data in self.data:
            small, near = ALL[data], near_centre(data)
            for cell, changes in islice(small.cells().items(), 3 if self.quick else None):
                for seed in self.seeds if cell in near else self.seeds[:1]:
                    budget = 1 if self.quick else small.budget_s
                    yield Run(self.name, data, cell, seed, budget, {**small.centre(), **changes})

    def paced_by(self, run: Run) -> Run:
        """The centre, where only what costs no time is moved: such runs have as many steps as the centre has."""
        if run.contender.startswith(AS_MUCH_WORK):
            return replace(run, contender=CENTRE, settings=ALL[run.data].centre())
        return run

    def perform(self, run: Run, seconds_per_step: float | None, folder: Path) -> Outcome:
        assert run.budget_s is not None
        assert seconds_per_step is not None
        trained = self.train(run, folder, max_steps=steps_for(run.budget_s, seconds_per_step))
        return trained.outcome(self.scores(run, trained.encoder_dir), self.untrained(run))

    def train(self, run: Run, folder: Path, **arguments: Any) -> Trained:
        """Pre-trains without labels; `arguments` override the settings of the run."""
        start = ALL[run.data].start(run.seed, folder)
        on_cpu = self.device == "cpu"
        return pretrain_data2vec({**run.settings, **start}, folder, seed=run.seed, use_cpu=on_cpu, **arguments)

    def untrained(self, run: Run) -> dict[str, float]:
        """The scores of the weights that a run begins with: what a step at the rate 0 leaves of them."""
        folder = grids.WORK / ("quick" if self.quick else "") / run.data / f"untrained-{run.seed}"
        found = folder / "scores.json"
        if not found.is_file():
            trained = self.train(run, folder, max_steps=1, learning_rate=0.0, per_device_train_batch_size=2)
            found.write_text(json.dumps(self.scores(run, trained.encoder_dir)), encoding="utf-8")
        scores: dict[str, float] = json.loads(found.read_text(encoding="utf-8"))
        return scores

    def scores(self, run: Run, encoder_dir: Path) -> dict[str, float]:
        """Those of the data, of a frozen encoder."""
        return ALL[run.data].scores(encoder_dir, run.seed, self.device, self.quick)

    def markdown(self, rows: Sequence[Row], search: Sequence[Row]) -> str:
        return "\n\n".join(grid_table(data, found) for data, found in _by_data(rows))

    @styled
    def draw(self, rows: Sequence[Row], path: Path) -> None:
        """A panel for each of the data: the gain of each cell in % of the centre's, a curve for each setting."""
        panels = [(data, found) for data, found in _by_data(rows) if gains_everywhere(found)]
        if not panels:
            return
        columns = min(3, len(panels))
        shape = (-(-len(panels) // columns), columns)
        figure = Figure(figsize=(WIDTH, 2.6 * shape[0]), layout="constrained")
        grid = figure.subplots(*shape, squeeze=False, sharey=True)
        for axes, (data, found) in zip(grid.flat, panels, strict=False):
            axes.set(title=title(data), xlabel="steps away from the centre", xticks=range(-3, 6), ylim=(0, 150))
            axes.axhline(100 * LEAST, color="#999999", linestyle="--", linewidth=0.8)
            centre = centre_gains(found)
            for setting, ladder in ladders(data).items():
                of_cells = [[row for row in found if row["contender"] == cell] for cell in ladder]
                here = ladder.index(CENTRE)
                places = [place for place, same in enumerate(of_cells) if same]
                shares = [100 * share_of_centre(of_cells[place], centre) for place in places]
                axes.plot([place - here for place in places], shares, marker="o", label=setting)
            axes.grid(axis="y")
        for axes in list(grid.flat)[len(panels) :]:
            axes.set_axis_off()
        figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=len(FLAGS))
        for row in grid:
            row[0].set_ylabel("gain, % of the centre's")
        save(figure, path)


def gain(row: Row) -> float:
    """What pre-training adds to the scores, on average."""
    return statistics.fmean(row["scores"][name] - row["untrained"][name] for name in row["scores"])


def centre_gains(rows: Sequence[Row]) -> dict[int, float]:
    """The gain of the centre, by seed. Other cells are compared with the run that began with the same weights."""
    return {row["seed"]: gain(row) for row in rows if row["contender"] == CENTRE}


def share_of_centre(rows: Sequence[Row], centre: Mapping[int, float]) -> float:
    """What the runs of a cell gain together, as a share of what the centre gains with the same seeds."""
    return sum(gain(row) for row in rows) / sum(centre[row["seed"]] for row in rows)


def gains_everywhere(rows: Sequence[Row]) -> bool:
    """Whether the centre gains with all seeds, so that shares of its gain mean something."""
    centre = centre_gains(rows)
    return all(centre.get(row["seed"], 0.0) > 0 for row in rows)


def grid_table(data: str, rows: Sequence[Row]) -> str:
    """A line for new weights, the centre, and each other cell: scores, and the gain.

    That of the centre is in points; that of other cells in % of the centre's with the same seeds, if that is a gain.
    """
    centre, in_shares = centre_gains(rows), gains_everywhere(rows)
    header = [title(data), "seeds", "steps", "CPU seconds", *RobustnessTable.columns.values(), "gain", "verdict"]
    lines = [["new weights", "-", "-", "-", *_scores([row["untrained"] for row in rows]), "-", "-"]]
    for cell in dict.fromkeys(row["contender"] for row in rows):
        same = [row for row in rows if row["contender"] == cell]
        if in_shares and cell != CENTRE:
            shown = f"{100 * share_of_centre(same, centre):.0f}%"
        else:
            shown = interval([gain(row) for row in same], lambda points: f"{100 * points:.1f} points")
        verdicts = ", ".join(dict.fromkeys(state_of(row) for row in same))
        seconds = f"{statistics.fmean(row['cpu_s'] for row in same):.0f}"
        scores = _scores([row["scores"] for row in same])
        lines.append(
            [described(data, cell), str(len(same)), f"{same[0]['steps']:,}", seconds, *scores, shown, verdicts]
        )
    return markdown_table(header, lines)


def described(data: str, cell: str) -> str:
    """A cell as it stands in the table: the centre with its values."""
    return f"**centre: {_values(ALL[data].centre())}**" if cell == CENTRE else cell


def title(data: str) -> str:
    """The name of the data, as it stands in the table."""
    return data.replace("_", " ")


def _values(settings: Mapping[str, Any]) -> str:
    ema = f"{settings['ema_decay']:g} to {settings['ema_end_decay']:g}".replace("0.", ".")
    mask_ratio = f"{settings['mask_ratio']:g}".replace("0.", ".")
    batch = settings["per_device_train_batch_size"]
    return f"rate {settings['learning_rate']:.3g}, batch {batch}, EMA {ema}, mask ratio {mask_ratio}"


def _scores(scores: Sequence[Mapping[str, float]]) -> list[str]:
    """The means, a dash for what the data have no score of."""
    return [
        percent(statistics.fmean(found[name] for found in scores)) if name in scores[0] else "-"
        for name in RobustnessTable.columns
    ]


def _by_data(rows: Sequence[Row]) -> Iterator[tuple[str, list[Row]]]:
    for data in dict.fromkeys(row["data"] for row in rows):
        yield data, [row for row in rows if row["data"] == data]


COMPARISON = RobustnessTable
