"""The benchmark of many rows writes as many as it is asked for, and notes runs of the script."""

import tarfile

import pyarrow.parquet
import pytest

from benchmarks.rows.runs import Run, measured
from benchmarks.rows.sources import SOURCES, write_folder, write_parquet, write_tar, write_text
from benchmarks.rows.tables import compared

FILES = [b"one", b"other"]


def test_write__as_many_rows_as_asked_for(tmp_path):
    folder = write_folder(tmp_path, 2003, FILES, "png")
    written = sorted(folder.rglob("*.png"))
    assert [path.read_bytes() for path in written[:3]] == [b"one", b"other", b"one"]
    assert len(written) == 2003
    assert len(pyarrow.parquet.read_table(write_parquet(tmp_path, 12, FILES, "image"))) == 12
    assert len(write_text(tmp_path, 7).read_text().splitlines()) == 7
    members = []
    for shard in sorted(tmp_path.glob(write_tar(tmp_path, 25, FILES, "png").name)):
        with tarfile.open(shard) as file:
            members += [(name, file.extractfile(name).read()) for name in file.getnames()]
    assert len(members) == 50
    assert members[:2] == [("00000000.png", b"one"), ("00000000.cls", b"0")]


def test_measured__notes_the_first_step_and_the_log(tmp_path):
    modality, flag, write = SOURCES["vision-parquet"]
    run = measured(modality, tmp_path, flag, str(write(tmp_path, 60)))
    assert 0 < run.seconds < 300
    assert run.resident > 100
    assert run.logged["loss"] > 0
    with pytest.raises(RuntimeError, match="max_steps"):
        measured(modality, tmp_path, flag, "nowhere.parquet", "--max_steps", "-7")


def test_compared__as_a_ratio():
    assert compared(Run(seconds=2), Run(seconds=3), lambda run: run.seconds, 1) == ["2.0", "3.0", "1.50"]
    assert compared(Run(seconds=2), None, lambda run: run.seconds, 1) == ["2.0", "failed", "-"]
