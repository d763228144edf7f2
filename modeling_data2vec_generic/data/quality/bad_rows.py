"""The file in the output directory that lists every bad row."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


class BadRows:
    """A file, `bad_rows.jsonl`, with a line for each bad row. It is created with the first one.

    A line has the `split`, the number of the row in the source (`row`), the `path` of its file if it has one, and the
    `reason`. In a stream of several files, rows are numbered in each, and the `path` of a row without a file is its
    part of the source.

    The main process writes it. A row is listed once, even if it is read several times.

    Args:
        directory: the folder of the file, which is created if needed.
        start_over: whether to remove the list of an earlier run; otherwise rows are added to it.
        name: of the file.
    """

    def __init__(self, directory: str | Path, start_over: bool, name: str = "bad_rows.jsonl") -> None:
        self.path = Path(directory, name)
        self._listed: set[tuple[str, int, str | None]] | None = None  # not read yet
        if start_over:
            self.path.unlink(missing_ok=True)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_listed": None}  # another process may have added some

    def add(self, rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """Appends the rows that are not listed yet, and returns them.

        Args:
            rows: for each its `split`, `row`, `reason` and, if it has a file, `path`.
        """
        if self._listed is None:
            self._listed = self._read()
        new = []
        for row in rows:
            if (key := _key(row)) not in self._listed:
                self._listed.add(key)
                new.append(row)
        if new:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "a", encoding="utf-8", errors="backslashreplace") as file:
                file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in new)
        return new

    def _read(self) -> set[tuple[str, int, str | None]]:
        """The keys of the rows listed so far. Removes a last line that an interrupted run left unfinished."""
        if not self.path.exists():
            return set()
        content = self.path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            self.path.write_bytes(whole)
        rows = map(json.loads, whole.splitlines())
        return set(map(_key, rows))


def _key(row: Mapping[str, Any]) -> tuple[str, int, str | None]:
    return row["split"], row["row"], row.get("path")
