"""A page of nearest neighbours: one HTML file that needs no other file, with small pictures of the rows."""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .neighbours import Neighbours

_SIDE = 96  # pixels of a picture
_LETTERS = 240  # of a text that are shown
_POINTS = 160  # of a curve
_STYLE = """
body { font: 15px/1.4 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; color: #222;
  background: #fff }
.row { display: flex; flex-wrap: wrap; gap: .6rem; padding: .8rem 0; border-top: 1px solid #ddd }
figure { margin: 0; width: 8.5rem; overflow-wrap: anywhere }
.text figure { width: 13rem }
figure.query { border-right: 3px solid #555; padding-right: .6rem }
figcaption { font-size: 12px; color: #555 }
img, svg { width: 96px; height: 96px; object-fit: contain; background: #f4f4f4; image-rendering: auto }
svg { width: 100% }
.same { color: #1b7837; font-weight: 600 } .other { color: #b35806 }
@media (prefers-color-scheme: dark) { body { background: #181818; color: #ddd } figcaption { color: #aaa }
  .row { border-color: #444 } img, svg { background: #262626 }
  .same { color: #7fbf7b } .other { color: #fdb863 } }
"""


@dataclass(frozen=True)
class Shown:
    """A row as the page shows it.

    Args:
        row: its number, and of a row with several vectors also which part.
        path: of its file, if it has one.
        label: its label, if it has one.
        picture: HTML.
    """

    row: str
    path: str | None
    label: Any
    picture: str


def write_page(path: Path, found: Neighbours, shown: Mapping[int, Shown], title: str, kind: str) -> None:
    """Writes the page.

    Args:
        path: of the file.
        found: the neighbours.
        shown: all rows that are shown, by their places.
        title: what the vectors are.
        kind: "text" for wider columns.
    """
    lines = [
        "<!doctype html>",
        f'<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>',
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body class="{kind}">',
        f"<h1>Nearest neighbours</h1><p>{html.escape(title)}</p>",
        "<p>On the left a row, a fixed random choice; beside it those whose vectors are most like its own, by the "
        "cosine of the angle between them, which is 1 where they point in the same direction."
        f"{_agreement(found, shown)}</p>",
    ]
    for query, places, cosines in zip(found.queries.tolist(), found.places.tolist(), found.cosines, strict=True):
        cells = [_cell(shown[query], None, None)]
        cells += [
            _cell(shown[place], float(cosine), shown[query].label)
            for place, cosine in zip(places, cosines, strict=True)
        ]
        lines.append(f'<div class="row">{"".join(cells)}</div>')
    lines.append("</body></html>")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", errors="backslashreplace")


def _agreement(found: Neighbours, shown: Mapping[int, Shown]) -> str:
    pairs = [
        shown[query].label == shown[place].label
        for query, places in zip(found.queries.tolist(), found.places.tolist(), strict=True)
        for place in places
        if shown[query].label is not None
    ]
    return f" {np.mean(pairs):.0%} of the neighbours here have the label of their row." if pairs else ""


def _cell(row: Shown, cosine: float | None, label: Any) -> str:
    name = html.escape(Path(row.path).name) if row.path else f"row {row.row}"
    hover = f' title="row {row.row}: {html.escape(row.path)}"' if row.path else ""
    lines = [f"<b>{cosine:.3f}</b>"] if cosine is not None else []
    if row.label is not None:
        agrees = "" if cosine is None else ' class="same"' if row.label == label else ' class="other"'
        lines.append(f"<span{agrees}>{html.escape(str(row.label))}</span>")
    lines.append(f"<span{hover}>{name}</span>")
    opened = '<figure class="query">' if cosine is None else "<figure>"
    return f"{opened}{row.picture}<figcaption>{'<br>'.join(lines)}</figcaption></figure>"


def picture_of_text(text: str) -> str:
    """The beginning of a text."""
    text = " ".join(text.split())
    return f"<div>{html.escape(text[:_LETTERS])}{'…' if len(text) > _LETTERS else ''}</div>"


def picture_of_image(pixels: NDArray[np.uint8]) -> str:
    """A small copy of an image (H, W, 3)."""
    from PIL import Image  # an optional dependency

    image = Image.fromarray(pixels)
    image.thumbnail((_SIDE, _SIDE))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=80)
    return f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}">'


def picture_of_curves(values: NDArray[np.floating]) -> str:
    """The course of a series (T, channels), each channel scaled by itself: its smallest and largest value by time."""
    lines = [f'<polyline fill="none" stroke="#4a90c8" points="{_points(channel)}"/>' for channel in values.T]
    return f'<svg viewBox="0 0 {_POINTS} {_SIDE}" preserveAspectRatio="none">{"".join(lines)}</svg>'


def _points(channel: NDArray[np.floating]) -> str:
    groups: Sequence[NDArray[np.floating]] = np.array_split(channel, min(len(channel), _POINTS // 2))
    ends = np.array([(group.min(), group.max()) for group in groups]).ravel()
    low, high = ends.min(), ends.max()
    heights = (_SIDE - 4) * (1 - (ends - low) / max(high - low, 1e-12)) + 2
    steps = np.linspace(0, _POINTS, len(heights))
    return " ".join(f"{step:.0f},{height:.0f}" for step, height in zip(steps, heights, strict=True))
