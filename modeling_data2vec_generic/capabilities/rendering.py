"""What was found, as text: all of one type, or a table of all types for the documentation."""

import re
from collections.abc import Iterable
from pathlib import Path

from .encoder_types import ENCODER_TYPES
from .survey import Capability, capability_of

# Between these, a file holds the table.
BEGIN = "<!-- capabilities: begin -->"
END = "<!-- capabilities: end -->"


def as_text(found: Capability) -> str:
    """All that is known of one type, a line for each point."""
    lines = [f"{found.model_type}"]
    lines.append(f"student_input='mask_token': {_yes(found.mask_token)}")
    lines.append(f"student_input='visible': {_yes(found.visible)}")
    if found.reason:
        lines.append(f"why not: {found.reason}")
    if found.packing is not None:
        lines.append(f"--packing: {_yes(found.packing)}")
    if found.packing_reason:
        lines.append(f"why not: {found.packing_reason}")
    if found.reads:
        lines.append(f"reads: {found.reads}")
    if found.layout is not None:
        lines.append(f"content module: {found.layout.content}, {found.layout.content_width} channels")
        lines.append(f"blocks: {found.layout.blocks[0]} and the like, {found.layout.width} channels")
        lines.append(f"works in stages: {_yes(found.layout.hierarchical)}")
    if found.measurements is not None:
        lines.append(f"prefix tokens: {found.measurements.prefix}")
        lines.append(f"premix: {_yes(found.measurements.mixes_neighbours)}")
        lines.append(f"stride: {found.measurements.stride}")
    return "\n".join(lines) + "\n"


def as_table(found: Iterable[Capability]) -> str:
    """A Markdown table, a row for each type."""
    rows = [
        "| type | mask token | visible only | packing | prefix | premix | stages | why not |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in found:
        seen, layout = one.measurements, one.layout
        cells = [
            f"`{one.model_type}`",
            _yes(one.mask_token),
            _yes(one.visible),
            _packing(one),
            "" if seen is None else str(seen.prefix),
            "" if seen is None else _yes(seen.mixes_neighbours),
            "" if layout is None else _yes(layout.hierarchical),
            _short(one.reason),
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def _packing(found: Capability) -> str:
    if found.packing is None:
        return ""
    return "yes" if found.packing else f"no: {_short(found.packing_reason)}"


def _yes(value: bool | None) -> str:
    return "not known" if value is None else "yes" if value else "no"


def _short(reason: str) -> str:
    """What it says before it goes into numbers and names, which differ between versions of torch and transformers."""
    return re.split(r": |, as \(| \(|\. ", reason)[0].rstrip(".")


def written(text: str, table: str, path: Path) -> str:
    """A file's text with a new table between its two markers.

    Raises:
        ValueError: it does not have the markers, in this order.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"{path} has no place for the table: a line {BEGIN} and, below it, a line {END}.")
    return f"{before}{begin}\n{table}{end}{after}"


def whole_table() -> str:
    """A table of all types for each kind of data."""
    tables = []
    for kind, rows in ENCODER_TYPES.items():
        tables.append(f"\n### {kind[0].upper()}{kind[1:]}\n\n{as_table(map(capability_of, rows))}")
    return "".join(tables) + "\n"
