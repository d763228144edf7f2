"""Sections that the model cards of pre-trained and of fine-tuned models share: settings, limits, figures, licence."""

from collections.abc import Iterable, Sequence

from .provenance import Setting, shown
from .run_summary import RunSummary

# What the samples of a modality are called.
NOUNS = {"text": "sequences", "vision": "images", "speech": "recordings", "series": "series", "video": "clips"}
# Settings that a reader looks for first.
_SHOWN = (
    *("model_name_or_path", "model_type", "config_overrides", "objective", "mask_strategy", "mask_ratio", "num_masks"),
    *("average_top_k_layers", "ema_decay", "ema_end_decay", "layer_decay", "max_steps", "num_train_epochs"),
    *("per_device_train_batch_size", "max_tokens_per_batch", "learning_rate", "seed"),
)


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table.

    Args:
        header: titles of the columns.
        rows: the cells of each row.
    """

    def line(cells: Iterable[object]) -> str:
        return "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    return "\n".join([line(header), "|---" * len(header) + "|", *map(line, rows)])


def duration(seconds: float) -> str:
    """A time in words, in its two largest units: "2 hours 5 minutes"."""
    if seconds < 9.95:
        return f"{seconds:.1f} seconds"
    left = round(seconds)
    parts: list[str] = []
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1)):
        count, left = divmod(left, size)
        if count or parts:
            parts.append(f"{count} {unit}{'' if count == 1 else 's'}")
    return " ".join(part for part in parts[:2] if not part.startswith("0 "))


def training_data(summary: RunSummary) -> str:
    """How many samples of what, in words: "1,437 images of `digits`"."""
    count = "" if summary.train_rows is None else f"{summary.train_rows:,} "
    names = " and ".join(
        f"[{name}](https://huggingface.co/datasets/{name})" if name in summary.datasets else f"`{name}`"
        for name in summary.sources
    )
    made = ""
    if summary.train_rows is not None and summary.source_rows not in (None, summary.train_rows):
        made = f", made of {summary.source_rows:,} rows"
    return f"{count}{NOUNS[summary.modality]}{made} of {names}"


def amount(summary: RunSummary) -> str:
    """How long a run was, in words."""
    noun = NOUNS[summary.modality]
    passes = ""
    if summary.epochs is not None and summary.train_rows is not None:
        times = f"{summary.epochs:.3g} times all" if summary.epochs >= 1 else f"{summary.epochs:.1%} of all"
        passes = f", which is {times} {summary.train_rows:,} that there are"
    return (
        f"{summary.steps:,} optimizer steps read {summary.samples:,} {noun}{passes}. They took "
        f"{duration(summary.seconds)}, evaluations included, on {summary.hardware}."
    )


def settings_section(summary: RunSummary) -> str:
    """The settings that say most about the run, and all that have an effect folded away."""
    few = [setting for setting in summary.settings if setting.name in _SHOWN]
    software = ", ".join(f"{name} {number}" for name, number in summary.versions.items())
    return f"""## Settings

{_settings_table(few)}

<details>
<summary>All settings that have an effect, and the versions of the software</summary>

{_settings_table(summary.settings)}

{software}

</details>"""


def _settings_table(settings: Iterable[Setting]) -> str:
    rows = [(f"`{setting.name}`", shown(setting.value), setting.origin) for setting in settings]
    return table(("setting", "value", "from"), rows)


def figures_section(summary: RunSummary) -> str:
    """The figures, each with a sentence; empty without figures."""
    if not summary.figures:
        return ""
    parts = [f"![{caption}]({path})\n\n{caption}" for path, caption in summary.figures]
    return "## Figures\n\n" + "\n\n".join(parts)


def license_section(summary: RunSummary) -> str:
    """The licence, or that there is none."""
    if summary.license is not None:
        return (
            f"## License\n\n`{summary.license}`. The licences of the data, and of the weights that it was made of, "
            "hold too."
        )
    return (
        "## License\n\n**No licence has been chosen for this model**, so nobody else may use it. Before you share it, "
        "add a line such as `license: apache-2.0` to the head of this file, or train with `--license`."
    )


def joined(sections: Iterable[str]) -> str:
    """The sections that are not empty, as one text."""
    return "\n\n".join(section.strip() for section in sections if section.strip()) + "\n"
