"""Where a run over a stream stands: `stream.json` of each checkpoint."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from accelerate.utils import gather_object
from transformers.utils import logging

from ...data.streams.layout import Layout
from ...data.streams.ring import Place
from ...data.streams.sample_stream import Progress, StreamPosition
from ...data.streams.windows import LanePosition

STREAM_NAME = "stream.json"

logger = logging.get_logger(__name__)


@dataclass
class TrainedOn:
    """What has been trained on of a stream, by what its batches say.

    Args:
        start: where training begins.
        samples: samples that all processes have trained on.
        lanes: the positions of lanes that this process has read.
        broken: shards that could not be read on, by name, with the reason.
    """

    start: StreamPosition
    samples: int = 0
    lanes: dict[int, LanePosition] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.samples, self.lanes = self.start.samples, dict(self.start.lanes)

    def add(self, progress: Progress) -> None:
        """Note that a batch is trained on; warn of shards that it is the first to name."""
        self.samples = progress.samples
        self._add_lanes(progress.lanes)
        self._add_broken(progress.broken)

    def save(self, checkpoint: Path, identity: dict[str, Any] | None, should_save: bool) -> None:
        """Write the position behind the last batches of all processes. Called on all of them.

        Args:
            identity: what the stream was made of.
            should_save: whether this process writes it.
        """
        for lanes, broken in gather_object([(self.lanes, self.broken)]):
            self._add_lanes(lanes)
            self._add_broken(broken)
        if not should_save:
            return
        lanes = {number: [*at.place, at.windows, at.samples] for number, at in sorted(self.lanes.items())}
        layout = asdict(self.start.layout)
        saved = {"stream": identity, "layout": layout, "position": {"samples": self.samples, "lanes": lanes}}
        (checkpoint / STREAM_NAME).write_text(json.dumps(saved, indent=2), encoding="utf-8")

    def _add_lanes(self, lanes: dict[int, LanePosition]) -> None:
        for number, position in lanes.items():
            if number not in self.lanes or self.lanes[number].windows < position.windows:
                self.lanes[number] = position

    def _add_broken(self, broken: dict[str, str]) -> None:
        for name, reason in broken.items():
            if name not in self.broken:
                self.broken[name] = reason
                logger.warning(f"{name} of the stream cannot be read on ({reason}). The run goes on with the others.")


def load_position(checkpoint: Path, identity: dict[str, Any] | None) -> StreamPosition:
    """What `TrainedOn.save` wrote.

    Args:
        identity: what the stream of this run is made of.

    Raises:
        ValueError: there is no position, or that of another stream, or of one in another order.
    """
    path = checkpoint / STREAM_NAME
    if not path.is_file():
        raise ValueError(
            f"{checkpoint} has no {STREAM_NAME}: it is of a run without --streaming, so there is no place in the "
            "stream to go on from. Resume it without --streaming."
        )
    saved = json.loads(path.read_text(encoding="utf-8"))
    if "layout" not in saved:
        raise ValueError(
            f"{path} is of an earlier version, which read streams in another order, so its place in the stream means "
            "nothing now. Start a new run from its weights with --model_name_or_path."
        )
    changed = [
        f"{name} was {saved['stream'].get(name)!r} and is {value!r}"
        for name, value in (identity or {}).items()
        if saved["stream"].get(name) != value
    ]
    if changed:
        raise ValueError(
            f"{checkpoint} stands in another stream: {'; '.join(changed)}. Resume with the same settings, or start a "
            "new run from its weights with --model_name_or_path."
        )
    position = saved["position"]
    lanes = {
        int(number): LanePosition(Place(shard, row), windows, samples)
        for number, (shard, row, windows, samples) in position["lanes"].items()
    }
    return StreamPosition(Layout(**saved["layout"]), position["samples"], lanes)
