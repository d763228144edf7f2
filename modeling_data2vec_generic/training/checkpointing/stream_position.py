"""Where a run over a stream stands: `stream.json` of each checkpoint."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...data.windowed_stream import Position

STREAM_NAME = "stream.json"


def save_position(checkpoint: Path, identity: dict[str, Any] | None, position: str) -> None:
    """Write the position behind the last batch that was trained on.

    Args:
        identity: what the stream was made of.
        position: as `Position.to_json` gives it.
    """
    saved = {"stream": identity, "position": json.loads(position)}
    (checkpoint / STREAM_NAME).write_text(json.dumps(saved, indent=2), encoding="utf-8")


def load_position(checkpoint: Path, identity: dict[str, Any] | None) -> Position:
    """What `save_position` wrote.

    Args:
        identity: what the stream of this run is made of.

    Raises:
        ValueError: there is no position, or that of another stream.
    """
    path = checkpoint / STREAM_NAME
    if not path.is_file():
        raise ValueError(
            f"{checkpoint} has no {STREAM_NAME}: it is of a run without --streaming, so there is no place in the "
            "stream to go on from. Resume it without --streaming."
        )
    saved = json.loads(path.read_text(encoding="utf-8"))
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
    return replace(Position(), **saved["position"])
