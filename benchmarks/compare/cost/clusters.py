"""`python -m benchmarks.compare.cost.clusters`: what 8 and 64 GPUs would need and give, computed and not measured.

Writes the table of docs/cost.md, from measurements of one GPU in benchmarks/README.md and from the rows of the table
`cost`: weights of the base models, and the time in which a core loads a sample. docs/cost.md has the formulas.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .. import rows
from ..report import markdown_table, placed
from ..table import Row

README = rows.ROOT / "benchmarks" / "README.md"
DOCUMENT = rows.ROOT / "docs" / "cost.md"
NAME = "clusters"

# Bytes per second that a GPU sends and receives at the same time, by the makers' data sheets: NVLink of the fourth
# generation within a node, and one InfiniBand NDR port of 400 Gb/s per GPU, or per node of eight.
NVLINK, PORT = 450e9, 50e9
GPUS_PER_NODE = 8
GRADIENT, MOMENTS = 4, 8  # bytes: both are in float32, with bf16 autocast too


@dataclass(frozen=True)
class Network:
    """GPUs and the slowest link that gradients pass.

    Args:
        gpus: their number.
        link: what connects them, in words.
        bytes_per_s: of the slowest link, per GPU.
    """

    gpus: int
    link: str
    bytes_per_s: float


NETWORKS = (
    Network(8, "NVLink", NVLINK),
    Network(64, "a port per GPU", PORT * GPUS_PER_NODE),
    Network(64, "a port per node", PORT),
)


@dataclass(frozen=True)
class Step:
    """What was measured on one GPU.

    Args:
        case: encoder and data, as benchmarks/README.md names them.
        objective: "data2vec" or "data2vec2".
        samples: of a step.
        masks: per sample.
        seconds: of a step of the Trainer.
        tflop: of a step, 10^12 floating-point operations.
    """

    case: str
    objective: str
    samples: int
    masks: int
    seconds: float
    tflop: float


@dataclass(frozen=True)
class Sizes:
    """Numbers of parameters: all, those of the teacher included, and those that have a gradient."""

    weights: int
    trained: int


@dataclass(frozen=True)
class Projection:
    """Computed values of a run on several GPUs with DDP, each with the batch of one.

    Args:
        gpus: their number.
        communication: seconds in which the gradients are averaged.
        state: bytes of weights, gradients, their buckets and AdamW's moments on each GPU.
        efficiency: the share of N times the speed of one GPU that is left if nothing of that is hidden behind the
            backward pass. DDP hides most of it, so this is the least.
        samples: per second, of all GPUs, at this efficiency.
        masks: per second.
        pflops: 10^15 floating-point operations per second, of all GPUs.
        cores: that decode and prepare samples for one GPU.
    """

    gpus: int
    communication: float
    state: int
    efficiency: float
    samples: float
    masks: float
    pflops: float
    cores: float


def projection(step: Step, sizes: Sizes, loading: float, network: Network) -> Projection:
    """What N GPUs would do.

    Args:
        step: on one GPU.
        sizes: of the model. The teacher has no gradients: each process averages its own.
        loading: CPU seconds in which a core loads a sample.
        network: the GPUs.
    """
    n = network.gpus
    communication = 2 * (n - 1) / n * GRADIENT * sizes.trained / network.bytes_per_s
    seconds = step.seconds + communication
    rate = n * step.samples / seconds
    return Projection(
        gpus=n,
        communication=communication,
        state=4 * sizes.weights + (2 * GRADIENT + MOMENTS) * sizes.trained,
        efficiency=step.seconds / seconds,
        samples=rate,
        masks=rate * step.masks,
        pflops=n * step.tflop / 1000 / seconds,
        cores=rate / n * loading,
    )


def measured_steps(readme: str) -> list[Step]:
    """The steps of the table "On a GPU" of benchmarks/README.md."""
    lines = readme.split("## On a GPU")[1].split("\n## ")[0].splitlines()
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    header, _, *rows = table
    steps = []
    for row in rows:
        cells = dict(zip(header, row, strict=True))
        case, objective, *masks = cells["case"].split(", ")
        steps.append(
            Step(
                case=case,
                objective=objective.replace("data2vec 2.0", "data2vec2"),
                samples=int(cells["samples"]),
                masks=int(re.findall(r"\d+", masks[0])[0]) if masks else 1,
                seconds=float(cells["Trainer, ms"]) / 1000,
                tflop=float(cells["TFLOP per step"]),
            )
        )
    return steps


def clusters_table(steps: Iterable[Step], sizes: dict[str, Sizes], loading: dict[str, float]) -> str:
    """The table of docs/cost.md.

    Args:
        steps: on one GPU.
        sizes: of the models, by "CASE, OBJECTIVE".
        loading: CPU seconds of a core per sample, by modality.
    """
    header = (
        "case, on one H200",
        "GPUs",
        "link",
        "gradients, MB",
        "state per GPU, GB",
        "all-reduce, ms",
        "of the speed of N, at least",
        "samples per s",
        "masks per s",
        "PFLOP/s",
        "cores that load, per GPU",
    )
    lines = []
    for step in steps:
        of_model, seconds = sizes[f"{step.case}, {step.objective}"], loading[step.case.partition("-")[0]]
        masks = f", {step.masks} masks" if step.masks > 1 else ""
        name = f"{step.case}, {step.objective.replace('data2vec2', 'data2vec 2.0')}, {step.samples} samples{masks}"
        for network in NETWORKS:
            found = projection(step, of_model, seconds, network)
            lines.append(
                (
                    name,
                    str(found.gpus),
                    network.link,
                    f"{GRADIENT * of_model.trained / 1e6:.0f}",
                    f"{found.state / 1e9:.2f}",
                    f"{1000 * found.communication:.1f}",
                    f"{100 * found.efficiency:.0f}%",
                    f"{found.samples:,.0f}",
                    f"{found.masks:,.0f}",
                    f"{found.pflops:.2f}",
                    f"{found.cores:.1f}",
                )
            )
    return markdown_table(header, lines)


def written(found: Sequence[Row], document: str, readme: str) -> str:
    """docs/cost.md with the table of these rows of the table `cost` and of benchmarks/README.md."""
    measured = [entry for row in found for entry in row["measured"]]
    sizes = {e["encoder"]: Sizes(e["weights"], e["trained"]) for e in measured if "encoder" in e}
    loading = {entry["samples_of"]: entry["cpu_s"] for entry in measured if "samples_of" in entry}
    return placed(document, NAME, clusters_table(measured_steps(readme), sizes, loading))


def main() -> None:
    """Writes docs/cost.md."""
    found = rows.read(rows.KEPT / "cost.jsonl")
    document = DOCUMENT.read_text(encoding="utf-8")
    DOCUMENT.write_text(written(found, document, README.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
