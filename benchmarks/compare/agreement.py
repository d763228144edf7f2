"""How often the verdict on a run agrees with the probe, for rows of any table that have both."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from matplotlib.figure import Figure

from modeling_data2vec_generic.figures.drawing import WIDTH, save, styled
from modeling_data2vec_generic.training.monitoring.verdict import (
    COLLAPSED,
    PARTIAL,
    STATES,
    TOO_EARLY,
    first_verdict,
    verdict,
)

from .report import markdown_table
from .table import Row

ROSE, FELL, WITHIN = "rose", "fell", "within its noise"
PROBES = ("linear", "neighbours", "neighbour", "knn", "few_linear", "letters", "words")
"""The scores of frozen features. Those of fine-tuned encoders are no probe."""
UNTRAINED = ("new weights", "random weights")
"""Contenders whose rows have the scores of weights before training, where the rows of others do not have them."""
TEST_ROWS = {
    ("images", "fashion_mnist"): 10_000,
    ("images", "emoji"): 572,
    ("text", "glosses"): 4128,
    ("text", "brown"): 5562,
    ("speech", "fish_fillets"): 780,  # recordings among which words are found
    ("series", "OSULeaf"): 242,
    ("series", "ArrowHead"): 175,
    ("series", "BasicMotions"): 40,
    ("proteins", "places"): 500,
    ("robustness", "fashion_mnist"): 3000,
    ("robustness", "OSULeaf"): 200,
    ("robustness", "digits"): 1437,
    ("robustness", "moving_digits"): 1437,
    ("robustness", "wordnet"): 5000,
    ("robustness", "protein_locations"): 3000,
    ("robustness", "fish_fillets"): 167,
}
"""By table and data, how many rows the probe is tested on, for rows that do not say it."""
CERTAIN = 1.96  # standard errors: 95%
ALARMS = (COLLAPSED, PARTIAL)


@dataclass(frozen=True)
class Judged:
    """A run, by its verdict and by its probe.

    Args:
        table, data, contender: as in its row.
        steps: of training.
        state: the verdict at the end, by the code as it is now where the row has the looks.
        change: of the probe's mean score, from untrained weights.
        noise: half of the 95% interval of that change.
    """

    table: str
    data: str
    contender: str
    steps: int
    state: str
    change: float
    noise: float

    @property
    def probe(self) -> str:
        if abs(self.change) <= self.noise:
            return WITHIN
        return ROSE if self.change > 0 else FELL


def judged(rows: Iterable[Row]) -> list[Judged]:
    """The runs among some rows that have both a verdict and a probe of their untrained weights.

    Where a row does not have the scores before training, they are those of the untrained contender with the same
    encoder, seed and rows to score on.
    """
    rows = list(rows)
    before = {_weights_of(row): row["scores"] for row in rows if row.get("contender") in UNTRAINED}
    with_verdict = [(row, row.get("untrained") or before.get(_weights_of(row))) for row in rows if row.get("health")]
    return [_judged(row, untrained) for row, untrained in with_verdict if untrained]


def _weights_of(row: Row) -> str:
    """What the weights before training depend on, and on what they are scored."""
    settings = row.get("settings", {})
    of = [row["table"], row["data"], row.get("seed"), settings.get("encoder"), settings.get("scored_on")]
    return json.dumps(of, sort_keys=True)


def _judged(row: Row, untrained: Mapping[str, float]) -> Judged:
    names = [name for name in PROBES if untrained.get(name) is not None and row["scores"].get(name) is not None]
    before, after = (fmean(scores[name] for name in names) for scores in (untrained, row["scores"]))
    spread = before * (1 - before) + after * (1 - after)  # of two shares of as many rows
    test_rows = row.get("test_rows") or TEST_ROWS[row["table"], row["data"]]
    return Judged(
        table=row["table"],
        data=row["data"],
        contender=row["contender"],
        steps=row["steps"],
        state=state_of(row),
        change=after - before,
        noise=CERTAIN * (spread / test_rows) ** 0.5,
    )


def state_of(row: Row) -> str:
    """The verdict on a run: by the code as it is now where the row has the looks, else the one that was given."""
    looks = row.get("looks")
    if not looks:
        return row["health"]
    return verdict(looks).state if looks[-1]["step"] >= first_verdict(row["warmup_steps"]) else TOO_EARLY


HEADER = (
    "runs of",
    "runs",
    "alarm, probe fell",
    "alarm, probe within its noise",
    "alarm, probe rose: false",
    "no alarm, probe rose",
    "no alarm, probe within its noise",
    "no alarm, probe fell: missed",
    "too early",
)


def agreement_table(runs: Sequence[Judged], of: str) -> str:
    """Hits and false alarms by data, and of all."""
    lines = [_line(name, [run for run in runs if run.data == name]) for name in dict.fromkeys(r.data for r in runs)]
    return markdown_table((f"{of}: {HEADER[0]}", *HEADER[1:]), [*lines, _line("all", runs)])


def _line(name: str, runs: Sequence[Judged]) -> list[str]:
    found = Counter((run.state in ALARMS, run.probe) for run in runs if run.state != TOO_EARLY)
    alarms = [found[True, probe] for probe in (FELL, WITHIN, ROSE)]
    calm = [found[False, probe] for probe in (ROSE, WITHIN, FELL)]
    early = len(runs) - sum(found.values())
    return [name.replace("_", " "), *map(str, (len(runs), *alarms, *calm, early))]


@styled
def draw(runs: Sequence[Judged], path: Path) -> None:
    """The change of the probe of each run, with its noise, by verdict and data."""
    if not runs:
        return
    figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
    axes = figure.subplots()
    states = [state for state in STATES if any(run.state == state for run in runs)]
    for number, data in enumerate(dict.fromkeys(run.data for run in runs)):
        own = [run for run in runs if run.data == data]
        places = [states.index(run.state) + 0.11 * (number - 2.5) for run in own]
        changes, noise = [100 * run.change for run in own], [100 * run.noise for run in own]
        axes.errorbar(places, changes, noise, fmt="o", markersize=3, linewidth=0.8, label=data.replace("_", " "))
    axes.axhline(0.0, color="#999999", linestyle="--")
    axes.set_xticks(
        range(len(states)), [state.replace(" of the", "\nof the").replace(" with a", "\nwith a") for state in states]
    )
    axes.set_ylabel("change of the probe, points")
    axes.legend(ncols=3)
    save(figure, path)
