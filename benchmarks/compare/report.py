"""What a reader sees of the rows: Markdown between the markers of `docs/results.md`, and a figure."""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import cycle, groupby
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from modeling_data2vec_generic.figures.drawing import WIDTH, save, styled
from modeling_data2vec_generic.reporting.finetuning import half_interval

from .rows import ROOT
from .table import Row, Table

DOCUMENT = ROOT / "docs" / "results.md"
FIGURES = ROOT / "docs" / "images"
MARGIN = 1.2  # of a logarithmic axis, as a factor


def write(table: Table, rows: Sequence[Row], search: Sequence[Row]) -> None:
    """Writes the table's part of the document, and its figure."""
    figure = FIGURES / f"compare_{table.name}.png"
    table.draw(rows, figure)
    shown = [f"![{table.shows}](images/{figure.name})"] if figure.is_file() else []
    text = "\n\n".join([*shown, table.markdown(rows, search)])
    DOCUMENT.write_text(placed(DOCUMENT.read_text(encoding="utf-8"), table.name, text), encoding="utf-8")


def placed(document: str, name: str, text: str) -> str:
    """A document with a text between the markers of a table.

    Raises:
        ValueError: it lacks the markers.
    """
    begin, end = f"<!-- compare {name}: begin -->", f"<!-- compare {name}: end -->"
    if begin not in document or end not in document:
        raise ValueError(f"{DOCUMENT} has no place for the table {name}: add the lines {begin} and {end}.")
    before, rest = document.split(begin)
    return f"{before}{begin}\n\n{text.strip()}\n\n{end}{rest.split(end)[1]}"


def markdown(table: Table, rows: Sequence[Row], search: Sequence[Row]) -> str:
    """For each of the data a table of scores by contender and budget, the tables of the search, and of leads."""
    parts = [scores_table(list(found), data, table.columns) for data, found in _by(rows, "data")]
    parts += [search_table(list(found), data, table.columns, table.drawn) for data, found in _by(search, "data")]
    parts += [leads(rows, table.columns, over, of) for over, of in table.leads]
    return "\n\n".join(parts)


def scores_table(rows: Sequence[Row], title: str, columns: dict[str, str]) -> str:
    """A line for each contender and budget, with the mean over the seeds and its 95% interval.

    Beside the budget are the CPU seconds that its steps took in the end, the mean over the seeds.
    """
    header = [title.replace("_", " "), "CPU seconds", "steps", "seeds", "seconds taken", *columns.values()]
    lines = []
    for _, group in _by(rows, "contender", "budget_s"):
        same = list(group)
        first = same[0]
        steps = f"{first['steps']:,}" if first["steps"] else "-"
        taken = f"{statistics.fmean(row['cpu_s'] for row in same):,.0f}" if first["steps"] else "-"
        values = [interval([row["scores"].get(name) for row in same]) for name in columns]
        lines.append([first["contender"], budget_of(first), steps, str(len(same)), taken, *values])
    return markdown_table(header, lines)


def search_table(rows: Sequence[Row], title: str, columns: dict[str, str], score: str) -> str:
    """The tries of each contender, within a budget the best one by `score` first.

    Of the first row of a contender it has all settings that any try changes, of others what they change.
    """
    shown = {name: heading for name, heading in columns.items() if any(name in row["scores"] for row in rows)}
    lines = []
    for contender, tries in _by(rows, "contender"):
        begun = _flat(tries[0]["settings"])
        changes = [changed(_flat(row["settings"]), begun) for row in tries]
        moved = {name for found in changes for name in found}
        changes[0] = {name: value for name, value in begun.items() if name in moved}
        pairs = zip(tries, changes, strict=True)
        for row, settings in sorted(pairs, key=lambda pair: (pair[0]["budget_s"] or 0, -pair[0]["scores"][score])):
            named = ", ".join(f"{name}={value}" for name, value in settings.items())
            scores = [interval([row["scores"].get(name)]) for name in shown]
            if row is tries[0]:
                named = f"begun with {named}" if named else "-"
            lines.append([contender, budget_of(row), named or "as begun", *scores])
    return markdown_table([f"search on {title.replace('_', ' ')}", "CPU seconds", "settings", *shown.values()], lines)


def changed(settings: Mapping[str, Any], begun: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that have other values than others, or are not among them."""
    return {name: value for name, value in settings.items() if name not in begun or begun[name] != value}


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with those of an encoder or a decoder, which are dictionaries, beside the others."""
    inner = [value for value in settings.values() if isinstance(value, dict)]
    plain = {name: value for name, value in settings.items() if not isinstance(value, dict)}
    return plain | {name: value for part in inner for name, value in part.items()}


def markdown_table(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *lines))


def budget_of(row: Row) -> str:
    """The budget of a row as it stands in a table: "-" if it has none."""
    return "-" if row["budget_s"] is None else f"{row['budget_s']:,.0f}"


def percent(value: float) -> str:
    """A share as it stands in a table."""
    return f"{100 * value:.1f}%"


def interval(values: Sequence[float | None], shown: Callable[[float], str] = percent) -> str:
    """The mean of the values with half of its 95% interval, if there are two or more; "-" if one is missing."""
    known = [value for value in values if value is not None]
    if len(known) < len(values) or not known:
        return "-"
    mean = shown(statistics.fmean(known))
    return mean if len(known) == 1 else f"{mean} ± {shown(half_interval(known))}"


def leads(rows: Sequence[Row], columns: dict[str, str], over: str, of: Sequence[str]) -> str:
    """How many points some contenders are ahead of another with the same seed and budget: the mean, with its 95%
    interval.

    If only the other one has no budget, it is the same for all budgets. Nothing if no seed has both.
    """
    lines = []
    for (data, contender, budget), same in _by(rows, "data", "contender", "budget_s"):
        others = [row for row in rows if (row["data"], row["contender"]) == (data, over)]
        theirs = {row["seed"]: row["scores"] for row in others if row["budget_s"] in (budget, None)}
        pairs = [(row["scores"], theirs[row["seed"]]) for row in same if row["seed"] in theirs]
        if contender in of and pairs:
            gains = [[ours[name] - other[name] for ours, other in pairs if name in ours] for name in columns]
            title = f"{data.replace('_', ' ')}, {contender}, {budget:,.0f} s"
            lines.append([title, *(interval(found, in_points) for found in gains)])
    return markdown_table([f"ahead of {over}, in points", *columns.values()], lines) if lines else ""


def in_points(difference: float) -> str:
    """A difference of shares, in points."""
    return f"{100 * difference:.1f}"


@styled
def draw(table: Table, rows: Sequence[Row], path: Path) -> None:
    """A panel for each of the data: the score against the budget, a curve for each contender, 95% intervals as bars.

    Contenders without a budget are level lines. A contender looks the same in all panels.
    """
    panels = [(data, list(found)) for data, found in _by(rows, "data")]
    if not panels:
        return
    trained = dict.fromkeys(row["contender"] for row in rows if row["budget_s"] is not None)
    level = dict.fromkeys(row["contender"] for row in rows if row["budget_s"] is None)
    colours = {contender: f"C{number}" for number, contender in enumerate(trained)}
    dashes = dict(zip(level, cycle(("--", ":", "-.")), strict=False))
    figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
    for axes, (data, found) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        axes.set(title=data.replace("_", " "), xlabel="CPU seconds of training", xscale="log")
        for contender, group in _by(found, "contender"):
            by_budget = [(budget, list(same)) for budget, same in _by(list(group), "budget_s")]
            scores = [[100 * row["scores"][table.drawn] for row in same] for _, same in by_budget]
            means = [statistics.fmean(values) for values in scores]
            if by_budget[0][0] is None:
                axes.axhline(means[0], color="#999999", linestyle=dashes[contender], label=contender)
                continue
            halves = [half_interval(values) if len(values) > 1 else 0.0 for values in scores]
            places, colour = [budget for budget, _ in by_budget], colours[contender]
            axes.errorbar(places, means, halves, color=colour, marker="o", capsize=3, label=contender)
        budgets = sorted({row["budget_s"] for row in found if row["budget_s"] is not None})
        if budgets:
            axes.set_xlim(budgets[0] / MARGIN, budgets[-1] * MARGIN)  # one budget alone would have no limits
        axes.set_xticks(budgets, [f"{budget:,.0f}" for budget in budgets], minor=False)
        axes.minorticks_off()
        axes.grid(axis="y")
    legends = [axes.get_legend_handles_labels() for axes in figure.axes]
    handles = {label: handle for found in legends for handle, label in zip(*found, strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4)
    figure.axes[0].set_ylabel(f"{table.columns[table.drawn]}, %")
    save(figure, path)


@styled
def draw_bars(table: Table, rows: Sequence[Row], path: Path) -> None:
    """A panel for each of the data, for tables of one budget: a bar for each contender, 95% intervals as lines.

    The panels share their contenders; one that has no rows of some data has no bar there.
    """
    panels = [(data, list(found)) for data, found in _by(rows, "data")]
    if not panels:
        return
    figure = Figure(figsize=(WIDTH, 2.6), layout="constrained")
    grid = figure.subplots(1, len(panels), squeeze=False, sharey=True)
    for axes, (data, found) in zip(grid[0], panels, strict=True):
        scores = {name: [100 * row["scores"][table.drawn] for row in same] for name, same in _by(found, "contender")}
        halves = [half_interval(values) if len(values) > 1 else 0.0 for values in scores.values()]
        axes.barh(list(scores), [statistics.fmean(values) for values in scores.values()], xerr=halves, capsize=3)
        axes.set(title=data.replace("_", " "), xlabel=f"{table.columns[table.drawn]}, %")
        axes.grid(axis="x")
    grid[0, 0].invert_yaxis()
    save(figure, path)


def _by(rows: Sequence[Row], *names: str) -> Any:
    """Groups of rows by one value, or by a tuple of several, in the order in which these come first."""
    keys = [tuple(row[name] for name in names) for row in rows]
    order = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    numbered = sorted(zip(keys, rows, strict=True), key=lambda pair: order[pair[0]])
    for key, group in groupby(numbered, key=lambda pair: pair[0]):
        yield key if len(key) > 1 else key[0], [row for _, row in group]
