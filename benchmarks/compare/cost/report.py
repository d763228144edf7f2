"""What a reader sees of the rows of the table `cost`: Markdown and a figure."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from modeling_data2vec_generic.figures.drawing import WIDTH, save, styled

from ..report import markdown_table
from ..table import Row
from .growth import GROWTHS, Growth, fit
from .measuring import Cost

LABELS = {"data2vec2": "data2vec 2.0"}
GIGA = 1e9
STEP_HEADER = (
    "samples per step",
    "masks",
    "ms",
    "x the peer",
    "masks per s",
    "x the peer",
    "GFLOP",
    "peak memory, MiB",
    "x the peer",
)
GROWN = {"seconds": "time", "operations": "FLOP", "activations": "activations"}


def markdown(rows: Sequence[Row]) -> str:
    """The tables of steps, of growth and of processes, as far as their rows are there."""
    by_data = {row["data"]: row["measured"] for row in rows}
    parts = [_steps_table(name, by_data[name]) for name in ("images", "text", "speech") if name in by_data]
    grown = [growth for growth in GROWTHS if growth.name in by_data]
    if grown:
        parts.append(_growth_table(grown, by_data))
    if "processes" in by_data:
        parts.append(_processes_table(by_data["processes"]))
    if "loading" in by_data:
        lines = [(entry["samples_of"], f"{1000 * entry['cpu_s']:.1f}") for entry in by_data["loading"]]
        parts.append(markdown_table(("loading", "CPU ms per sample"), lines))
    return "\n\n".join(parts)


def _cost(entry: dict[str, Any]) -> Cost:
    fields = {name: entry[name] for name in Cost.__dataclass_fields__}
    return Cost(**fields)


def _steps_table(name: str, measured: Sequence[dict[str, Any]]) -> str:
    """Contenders of a kind of data; the peer is the last one."""
    found = [(entry["contender"], _cost(entry)) for entry in measured]
    peer = found[-1][1]
    lines = []
    for contender, cost in found:
        times = cost.ratio(peer)
        lines.append(
            (
                LABELS.get(contender, contender),
                str(cost.samples),
                str(cost.masks),
                f"{1000 * cost.seconds:,.0f}",
                f"{times:.2f}",
                f"{cost.masks / cost.seconds:.1f}",
                f"{cost.masks / peer.masks / times:.2f}",
                f"{cost.operations / GIGA:,.0f}",
                f"{cost.peak:,.0f}",
                f"{cost.peak / peer.peak:.2f}",
            )
        )
    return markdown_table((name, *STEP_HEADER), lines)


def _growth_table(growths: Iterable[Growth], by_data: dict[str, Sequence[dict[str, Any]]]) -> str:
    """Exponents with their standard errors."""
    lines = []
    for growth in growths:
        for contender, values, costs in _curves(growth, by_data[growth.name]):
            exponents = [fit(values, [getattr(cost, name) for cost in costs]) for name in GROWN]
            lines.append(
                (
                    f"{growth.name}, {values[0]:g} to {values[-1]:g}",
                    LABELS.get(contender, contender),
                    *(f"{found.exponent:.2f} ± {found.error:.2f}" for found in exponents),
                    f"{1000 * costs[0].seconds:,.0f} → {1000 * costs[-1].seconds:,.0f}",
                    f"{costs[0].activations:,.0f} → {costs[-1].activations:,.0f}",
                )
            )
    header = ("grows with", "contender", *(f"exponent of {name}" for name in GROWN.values()), "ms", "activations, MiB")
    return markdown_table(header, lines)


def _curves(growth: Growth, measured: Sequence[dict[str, Any]]) -> Iterator[tuple[str, list[float], list[Cost]]]:
    for contender in growth.contenders:
        own = [entry for entry in measured if entry["contender"] == contender]
        yield contender, [entry["value"] for entry in own], [_cost(entry) for entry in own]


def _processes_table(measured: Sequence[dict[str, Any]]) -> str:
    lines = []
    for contender in dict.fromkeys(entry["contender"] for entry in measured):
        own = [entry for entry in measured if entry["contender"] == contender]
        alone = own[0]["cpu_s"]
        for entry in own:
            lines.append(
                (
                    LABELS.get(contender, contender),
                    str(entry["processes"]),
                    f"{1000 * entry['cpu_s']:,.0f}",
                    f"{entry['cpu_s'] / alone:.2f}",
                )
            )
    return markdown_table(("Trainer", "processes", "CPU ms of each per step", "x one process"), lines)


@styled
def draw(rows: Sequence[Row], path: Path) -> None:
    """A panel for each property that was varied: the time of a step, on logarithmic axes."""
    by_data = {row["data"]: row["measured"] for row in rows}
    grown = [growth for growth in GROWTHS if growth.name in by_data]
    if not grown:
        return
    figure = Figure(figsize=(WIDTH, 4.4), layout="constrained")
    grid = figure.subplots(2, (len(grown) + 1) // 2, squeeze=False, sharey=True)
    panels = grid.flatten()
    colors: dict[str, Any] = {}
    for axes, growth in zip(panels, grown, strict=False):
        for contender, values, costs in _curves(growth, by_data[growth.name]):
            label = None if contender in colors else LABELS.get(contender, contender)
            color = colors.setdefault(contender, f"C{len(colors)}")
            axes.plot(values, [1000 * cost.seconds for cost in costs], marker="o", color=color, label=label)
        axes.set(title=growth.name, xscale="log", yscale="log")
        axes.set_xticks(growth.values, [f"{value:g}" for value in growth.values])
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.minorticks_off()
        axes.grid(axis="y")
    for axes in panels[len(grown) :]:
        axes.set_visible(False)
    for row in grid:
        row[0].set_ylabel("ms per step")
    figure.legend(loc="outside lower center", ncols=len(colors))
    save(figure, path)
