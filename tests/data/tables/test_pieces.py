"""Tables in pieces: each is read on its own, and together they are all rows in the order of the file."""

import bz2
import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from modeling_data2vec_generic.data.tables import building
from modeling_data2vec_generic.data.tables.opening import open_files
from modeling_data2vec_generic.data.tables.table import Table

pytestmark = pytest.mark.fast

ROWS = [f"row {number} " + "äx" * (number % 17) for number in range(500)]
CHOICE = {"text": "text"}


def write(path: Path) -> Path:
    """The rows in a file of the kind that its name says."""
    name = path.name.removesuffix(".gz").removesuffix(".bz2").removesuffix(".xz").removesuffix(".zst")
    if name.endswith(".parquet"):
        pyarrow.parquet.write_table(pyarrow.table({"text": ROWS}), path, row_group_size=60)
        return path
    if name.endswith((".csv", ".tsv")):
        lines = ["text", *(f'"{row}"' for row in ROWS)]
    elif name.endswith(".json"):
        lines = [json.dumps([{"text": row} for row in ROWS])]
    elif name.endswith(".jsonl"):
        lines = [json.dumps({"text": row}, ensure_ascii=False) for row in ROWS]
    elif name.endswith((".fasta", ".fa")):
        lines = [line for number in range(len(ROWS)) for line in (f">{number}", "ACD", "EF" * number)]
    else:
        lines = [line for row in ROWS for line in (row, "")]
    content = "\n".join(lines).encode()
    compress: dict[str, Callable[[bytes], Any]] = {
        ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": pyarrow.Codec("zstd").compress,
    }  # fmt: skip
    path.write_bytes(compress[path.suffix](content) if path.suffix in compress else content)
    return path


def texts(table: Table, *pieces: Any, skip_rows: int = 0) -> list[str]:
    batches = [batch for piece in pieces for batch in table.tables_of(piece, CHOICE, skip_rows)]
    return [text for batch in batches for text in batch["text"].to_pylist()]


@pytest.mark.parametrize("count", [1, 2, 7, 10_000])
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.parquet"])
def test_pieces__are_all_rows_in_order(tmp_path, name, count):
    table = open_files([str(write(tmp_path / name))], "train_file")
    pieces = table.shards(count)
    assert [text for piece in pieces for text in texts(table, piece)] == ROWS
    assert 1 < len(pieces) <= count if count > 1 else len(pieces) == 1
    if count == 7 and not name.endswith("parquet"):
        sizes = [len(texts(table, piece)) for piece in pieces]
        assert max(sizes) < 3 * min(sizes)


@pytest.mark.parametrize(
    "name", ["a.csv", "a.json", "a.fasta", "a.txt.gz", "a.jsonl.bz2", "a.csv.xz", "a.tsv.zst", "a.json.gz", "a.fa.bz2"]
)
def test_piece__is_one_where_it_cannot_be_cut(tmp_path, name):
    path = write(tmp_path / name)
    table = open_files([str(path)], "train_file")
    (piece,) = table.shards(9)
    assert len(texts(table, piece)) == len(ROWS)
    plain = write(tmp_path / f"b{Path(name).suffixes[0]}")
    assert texts(table, piece) == texts(
        open_files([str(plain)], "train_file"), *open_files([str(plain)], "x").shards(1)
    )


@pytest.mark.parametrize("name", ["a.csv", "a.json", "a.jsonl", "a.txt", "a.parquet", "a.fasta", "a.jsonl.zst"])
def test_piece__from_any_row_on(tmp_path, name):
    table = open_files([str(write(tmp_path / name))], "train_file")
    for piece in table.shards(3):
        whole = texts(table, piece)
        for skipped in (1, 59, 60, 61, len(whole) - 1, len(whole), len(whole) + 5):
            assert texts(table, piece, skip_rows=skipped) == whole[skipped:]


def test_pieces__of_lines_with_other_ends(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("\r\n".join(ROWS).encode())
    table = open_files([str(path)], "train_file")
    assert texts(table, *table.shards(9)) == ROWS


def test_json__that_is_one_object_over_many_lines_is_not_cut(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps([{"text": row} for row in ROWS], indent=1))
    table = open_files([str(tmp_path / "a.json")], "train_file")
    assert texts(table, *table.shards(9)) == ROWS


def test_json__a_bad_line_has_its_number_in_the_file(tmp_path):
    path = write(tmp_path / "a.jsonl")
    with path.open("ab") as file:
        file.write(b"\n\n{cut off")
    table = open_files([str(path)], "train_file")
    last = table.shards(7)[-1]
    assert last.start > 0
    problems = [text for batch in table.tables_of(last, CHOICE) for text in batch["problem"].to_pylist() if text]
    assert problems == ["line 502 of a.jsonl: it is not JSON (Expecting property name enclosed in double quotes at "
                        "character 1)"]  # fmt: skip


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.parquet"])
def test_several_processes__give_the_same_rows_in_order(tmp_path, name, monkeypatch):
    monkeypatch.setattr(building, "_BYTES", 1)
    table = open_files([str(write(tmp_path / name))], "train_file")
    rows = table.load(CHOICE, most_processes=2)
    assert rows["text"][:] == ROWS
    monkeypatch.setattr(Table, "tables_of", None)  # a second time they are in the cache
    assert table.load(CHOICE, most_processes=1)["text"][:] == ROWS


def test_several_processes__an_error_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(building, "_BYTES", 1)
    path = write(tmp_path / "a.txt")
    with path.open("ab") as file:
        file.write(b"\n\xff\xfe")
    with pytest.raises(ValueError, match=r"^train_file='.*a.txt' cannot be read as text: 'utf-8' codec can't"):
        open_files([str(path)], "train_file").load(CHOICE, most_processes=2)


def test_csv__that_is_compressed_but_not_by_its_name(tmp_path):
    write(tmp_path / "a.csv.gz").rename(tmp_path / "a.csv")
    with pytest.raises(ValueError, match=r"is no \.csv file: its first bytes are those of \.gz files"):
        open_files([str(tmp_path / "a.csv")], "train_file")


@pytest.mark.parametrize("ending", ["gz", "bz2", "xz", "zst"])
@pytest.mark.parametrize("damage", ["plain", "cut"])
def test_compressed__that_is_damaged(tmp_path, ending, damage):
    path = write(tmp_path / f"a.jsonl.{ending}")
    path.write_bytes(b'{"text": "a"}\n' * 9 if damage == "plain" else path.read_bytes()[:-30])
    with pytest.raises(ValueError, match=rf"a.jsonl.{ending}' cannot be read as json: "):
        open_files([str(path)], "train_file").load(CHOICE)
