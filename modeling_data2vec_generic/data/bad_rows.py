"""The file in the output directory that lists every bad row."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


class BadRows:
    """`bad_rows.jsonl`: a line for each bad row with its `split`, its number in the source (`row`), the `path` of its
    file if it has one, and the `reason`. There is no file as long as there are none.

    One process writes at a time: the main one, and of a stream the loader worker that reads for it, to which this
    travels by pickling. A row is listed once, however often it is met.

    Args:
        directory: where the file is, made if need be.
        anew: whether to forget what an earlier run has listed; otherwise it is gone on with.
    """

    def __init__(self, directory: str | Path, anew: bool) -> None:
        self.path = Path(directory, "bad_rows.jsonl")
        self._listed: set[tuple[str, int]] | None = None  # not read yet
        if anew:
            self.path.unlink(missing_ok=True)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_listed": None}  # another process may have added some

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append those of the rows (`split`, `row`, `path` where there is one, `reason`) that are not listed yet."""
        if self._listed is None:
            self._listed = self._read()
        lines = []
        for row in rows:
            if (key := (row["split"], row["row"])) not in self._listed:
                self._listed.add(key)
                lines.append(json.dumps(row, ensure_ascii=False) + "\n")
        if lines:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "a", encoding="utf-8", errors="backslashreplace") as file:
                file.writelines(lines)

    def _read(self) -> set[tuple[str, int]]:
        """The rows listed so far, after a line that an interrupted run left unfinished is cut off."""
        if not self.path.exists():
            return set()
        content = self.path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            self.path.write_bytes(whole)
        rows = map(json.loads, whole.splitlines())
        return {(row["split"], row["row"]) for row in rows}
