"""What the page of nearest neighbours shows: the rows at some places, read again from their source."""

from collections import defaultdict
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .neighbours import chosen_rows, nearest
from .outputs import Joined, flat
from .page import Shown, picture_of_curves, picture_of_image, picture_of_text, write_page
from .pieces import VECTOR
from .reading import Reader


def write_neighbours(found: Joined, reader: Reader, path: Path, k: int, title: str) -> None:
    """Writes a page of some rows and the `k` nearest neighbours of each.

    Args:
        found: all vectors, one for each sample.
        reader: of the rows that they are of.
        path: of the page.
        k: neighbours of each row.
        title: what the vectors are.
    """
    queries = chosen_rows(found.counts().vectors)
    vectors, first = [], 0
    for table in found.tables():
        own = queries[(queries >= first) & (queries < first + len(table))] - first
        vectors.append(flat(table[VECTOR])[own])
        first += len(table)
    neighbours = nearest(queries, np.concatenate(vectors), (flat(table[VECTOR]) for table in found.tables()), k)
    shown = _shown(found, reader, {*queries.tolist(), *neighbours.places.ravel().tolist()})
    write_page(path, neighbours, shown, title, reader.sources[0].modality)


def _shown(found: Joined, reader: Reader, places: Collection[int]) -> dict[int, Shown]:
    shown: dict[int, Shown] = {}
    before: dict[int, int] = defaultdict(int)  # rows of each shard before the piece
    first = first_row = 0
    for piece in found.pieces:
        table = piece.table()
        own = sorted(place for place in places if first <= place < first + len(table))
        if own:
            columns = [name for name in table.column_names if name != VECTOR]
            about = table.select(columns).take([place - first for place in own]).to_pylist()
            wanted = [(row["row"], row["part"]) for row in about]
            read = reader.samples_of(piece.name, before[piece.name.shard], wanted)
            for place, known, (row, sample) in zip(own, about, read, strict=True):
                number = known["row"] if found.numbered else known["row"] + first_row
                name = f"{number}, part {known['part']}" if known["part"] else str(number)
                picture = _picture(reader.sources[0].modality, row, sample)
                shown[place] = Shown(name, known.get("path"), known.get("label"), picture)
        first, first_row = first + len(table), first_row + piece.read
        before[piece.name.shard] += piece.read
    return shown


def _picture(modality: str, row: Mapping[str, Any], sample: Mapping[str, Any]) -> str:
    if modality == "text":
        return picture_of_text(row["text"])
    if modality == "speech":
        return picture_of_curves(sample["audio"][:, None])
    if modality == "series":
        return picture_of_curves(np.asarray(sample["series"]))
    from ..modalities.vision.arrays.array_image import as_picture  # which needs Pillow

    return picture_of_image(as_picture(sample["image"] if modality == "vision" else sample["video"][0]))
