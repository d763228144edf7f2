"""The folder in which the vectors of each piece are kept until all are there, so that a stopped run can go on."""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow
from numpy.typing import NDArray
from transformers.utils import logging

from ..data.arrow_cache import whole_file

logger = logging.get_logger(__name__)

VECTOR = "vector"
_PLAN = "plan.json"
_ABOUT = b"about"


class PieceId(NamedTuple):
    """A piece: its shard, and its number among the pieces of the shard."""

    shard: int
    number: int


@dataclass(frozen=True)
class Done:
    """What has been done of a shard.

    Args:
        pieces: how many.
        rows: how many rows were read for them.
        ended: whether the shard has no further rows.
    """

    pieces: int = 0
    rows: int = 0
    ended: bool = False


@dataclass(frozen=True)
class Progress:
    """What has been done of each shard; nothing of those that are not in `shards`."""

    shards: Mapping[int, Done] = field(default_factory=dict)

    def of(self, shard: int) -> Done:
        return self.shards.get(shard, Done())

    @property
    def rows(self) -> int:
        return sum(done.rows for done in self.shards.values())


@dataclass(frozen=True)
class Saved:
    """A piece on the disk.

    Args:
        name: which piece.
        path: an Arrow file, see `Workspace.write`.
        read: how many rows were read for it.
        bad: those that have no vector since they are bad, as `BadRows` lists them.
        last: whether it is the last one of its shard.
    """

    name: PieceId
    path: Path
    read: int
    bad: Sequence[dict[str, Any]]
    last: bool

    def table(self) -> pyarrow.Table:
        """Its rows, mapped into memory."""
        with pyarrow.memory_map(str(self.path)) as file:
            return pyarrow.ipc.open_file(file).read_all()


class Workspace:
    """The folder with the pieces of one output. Several processes may write into it at a time.

    Args:
        output: the file that the pieces are for. The folder lies beside it.
    """

    def __init__(self, output: Path) -> None:
        self.folder = output.with_name(f"{output.name}.pieces")

    def clear(self) -> None:
        """Removes the folder."""
        if self.folder.exists():
            shutil.rmtree(self.folder)

    def begin(self, plan: Mapping[str, Any]) -> dict[str, Any]:
        """Makes the folder, or checks that what is in it was begun with the same settings.

        Args:
            plan: `settings`, which must be the same, and what else is settled when a run begins.

        Returns:
            The plan that the folder was begun with.

        Raises:
            ValueError: it was begun with other settings.
        """
        path = self.folder / _PLAN
        if not path.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            with whole_file(path) as file:
                file.write(json.dumps(plan, indent=2).encode())
        begun = self.plan()
        settings = json.loads(json.dumps(plan["settings"]))
        if changes := [
            f"{name} was {begun['settings'].get(name)!r} and is {value!r}"
            for name, value in settings.items()
            if begun["settings"].get(name) != value
        ]:
            raise ValueError(
                f"{str(self.folder)!r} holds the beginning of other vectors: {'; '.join(changes)}. Give the settings "
                "from before to go on, or --overwrite to start over."
            )
        return begun

    def plan(self) -> dict[str, Any]:
        """The plan that the folder was begun with."""
        found: dict[str, Any] = json.loads((self.folder / _PLAN).read_text(encoding="utf-8"))
        return found

    def is_begun(self) -> bool:
        """Whether there is a plan."""
        return (self.folder / _PLAN).exists()

    def write(
        self,
        name: PieceId,
        about: pyarrow.Table,
        vectors: NDArray[Any] | Sequence[NDArray[Any]],
        places: Sequence[int],
        read: int,
        bad: Sequence[Mapping[str, Any]],
        last: bool,
    ) -> None:
        """Writes a piece.

        Args:
            name: which piece.
            about: what stands beside the vector of each of its samples.
            vectors: of the samples that have one: (N, C), or for each of N a (length, C).
            places: of these samples, (N,), in any order.
            read, bad, last: as in `Saved`.
        """
        order = np.argsort(places)
        table = about.take(pyarrow.array(np.asarray(places, dtype=np.int64)[order]))
        if len(order):
            if isinstance(vectors, np.ndarray):
                column: Any = _lists(vectors[order])
            else:
                ends = np.cumsum([0, *(len(vectors[place]) for place in order)])
                flat = np.concatenate([vectors[place] for place in order])
                column = pyarrow.ListArray.from_arrays(pyarrow.array(ends, pyarrow.int32()), _lists(flat))
            table = table.append_column(VECTOR, column)
        else:
            table = table.append_column(VECTOR, pyarrow.nulls(0))
        note = json.dumps({"read": read, "bad": [dict(row) for row in bad], "last": last})
        table = table.replace_schema_metadata({_ABOUT: note.encode()})
        path = self.folder / f"{name.shard:07d}-{name.number:07d}.arrow"
        with whole_file(path) as file, pyarrow.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)

    def saved(self) -> Iterator[Saved]:
        """The pieces on the disk, in the order of the rows. One that is damaged is passed over, with a warning."""
        for path in sorted(self.folder.glob("*.arrow")):
            try:
                with pyarrow.memory_map(str(path)) as file:
                    note = json.loads((pyarrow.ipc.open_file(file).schema.metadata or {})[_ABOUT])
            except (pyarrow.ArrowInvalid, KeyError) as error:
                logger.warning(f"{path} is damaged and made again ({error}).")
                continue
            shard, number = map(int, path.stem.split("-"))
            yield Saved(PieceId(shard, number), path, note["read"], note["bad"], note["last"])

    def progress(self) -> Progress:
        """What has been done: of each shard the pieces from its beginning on."""
        done: dict[int, Done] = {}
        for piece in self.saved():
            before = done.get(piece.name.shard, Done())
            if piece.name.number == before.pieces and not before.ended:
                done[piece.name.shard] = Done(before.pieces + 1, before.rows + piece.read, piece.last)
        return Progress(done)


def _lists(vectors: NDArray[Any]) -> pyarrow.FixedSizeListArray:
    return pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(vectors.reshape(-1)), vectors.shape[1])
