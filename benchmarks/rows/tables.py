"""The tables of `python -m benchmarks.data --rows N`; README.md in the folder above explains each column."""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet

from .loading import PROCESSES, WORKERS, counting, padding, timing
from .runs import Run, measured
from .sources import SOURCES, images, photographs, write_folder, write_parquet, write_tokenizer

FEW = 10_000  # rows that others are compared with
LOADER_WORKERS = (0, 1, 2)
START = ("source", "run", "s, few rows", "s, many", "ratio", "MiB, few rows", "MiB, many", "ratio")
SPEED = ("photographs", *(f"samples per s, {workers} workers" for workers in LOADER_WORKERS))
PADDING = ("data", "batches", "padding", "batches read")
LARGER = [
    "--config_overrides",
    "image_size=224,patch_size=56,hidden_size=16,num_hidden_layers=2,num_attention_heads=2,intermediate_size=32",
]
STREAM = ["--streaming"]
KINDS: dict[str, list[str]] = {"first": [], "second": [], "stream": STREAM}
BATCHES: dict[str, list[str]] = {
    "random": [],
    "group_by_length": ["--train_sampling_strategy", "group_by_length"],
    "max_tokens_per_batch": ["--max_tokens_per_batch"],
}


def main(options: argparse.Namespace) -> None:
    """Prints each row as soon as it is measured."""
    if options.rows is not None:
        _print(START, _starts(options.source or list(SOURCES), options.rows))
        _print(SPEED, _speeds())
        sys.stdout.write(_decodes())
    if options.padding:
        _print(PADDING, _paddings(options.padding))


def _print(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    for line in (columns, ["---"] * len(columns)):
        sys.stdout.write(f"| {' | '.join(line)} |\n")
    for row in rows:
        sys.stdout.write(f"| {' | '.join(row)} |\n")
        sys.stdout.flush()
    sys.stdout.write("\n")


def _attempted(name: str, *args: Any, **kwargs: Any) -> Run | None:
    """A run that is measured; None, and the error printed, if it fails."""
    try:
        return measured(*args, **kwargs)
    except RuntimeError as error:
        sys.stderr.write(f"{name}: {error}\n")
        return None


def _starts(names: Sequence[str], rows: int) -> Iterable[list[str]]:
    for name in names:
        few, many = (_runs(name, count) for count in (FEW, rows))
        for kind in KINDS:
            yield [
                name,
                kind,
                *compared(few[kind], many[kind], lambda run: run.seconds, 1),
                *compared(few[kind], many[kind], lambda run: run.resident, 0),
            ]


def _runs(name: str, rows: int) -> dict[str, Run | None]:
    """How runs begin: the first one, one with what that has cached, and one that reads a stream."""
    modality, flag, write = SOURCES[name]
    with tempfile.TemporaryDirectory() as written:
        folder = Path(written)
        flags = [flag, str(write(folder, rows))]
        if modality == "text":
            flags += ["--processor_name", str(write_tokenizer(folder / "tokenizer"))]
        return {
            kind: _attempted(f"{name}, {kind}, {rows} rows", modality, folder, *flags, *more)
            for kind, more in KINDS.items()
        }


def compared(few: Run | None, many: Run | None, value: Callable[[Run], float], digits: int) -> list[str]:
    cells = ["failed" if run is None else f"{value(run):.{digits}f}" for run in (few, many)]
    return [*cells, "-" if few is None or many is None else f"{value(many) / value(few):.2f}"]


def _speeds() -> Iterable[list[str]]:
    with tempfile.TemporaryDirectory() as written:
        folder = Path(written)
        root = write_folder(folder, 4000, photographs(), "jpg")
        for kind, more in (("loaded", []), ("streamed", STREAM)):
            cells = []
            for workers in LOADER_WORKERS:
                flags = ["--train_dir", str(root), *LARGER, "--dataloader_num_workers", str(workers), *more]
                run = _attempted(kind, "vision", folder, *flags, noted=timing)
                cells.append("failed" if run is None else f"{run.logged['samples_per_second']:.1f}")
            yield [kind, *cells]


def _decodes() -> str:
    with tempfile.TemporaryDirectory() as written:
        folder = Path(written)
        path = write_parquet(folder, FEW, images(), "image")
        flags = ["--train_file", str(path), *STREAM, "--dataloader_num_workers", str(WORKERS)]
        run = _attempted("decodes", "vision", folder, *flags, noted=counting)
    if run is None:
        return "The count of decodes failed.\n"
    samples, decodes = run.logged["samples"], run.logged["decodes"]
    return (
        f"{PROCESSES} processes with {WORKERS} workers each decoded {decodes} images for {samples} samples of a "
        f"stream: {decodes / samples:.2f} per sample.\n"
    )


def _paddings(sources: Sequence[str]) -> Iterable[list[str]]:
    for source in sources:
        path = Path(source)
        flags = ["--train_dir" if path.is_dir() else "--train_file", source]
        text = path.is_file() and "audio" not in pyarrow.parquet.read_schema(path).names
        flags += ["--line_by_line", "--train_tokenizer"] if text else []
        most = "2048" if text else "4096"
        with tempfile.TemporaryDirectory() as folder:
            for name, more in BATCHES.items():
                more = [*more, most] if name == "max_tokens_per_batch" else more
                modality = "text" if text else "speech"
                run = _attempted(f"{source}, {name}", modality, Path(folder), *flags, *more, noted=padding)
                cells = ["failed", "-"]
                if run is not None:
                    cells = [f"{100 * run.logged['padding']:.1f}%", str(run.logged["batches"])]
                yield [source, name, *cells]
