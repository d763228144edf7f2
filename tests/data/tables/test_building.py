"""Rows in the cache: in batches that are large enough to be opened fast, and small enough for the memory."""

import pyarrow
import pytest
from datasets import Dataset

from modeling_data2vec_generic.data.tables import building
from modeling_data2vec_generic.data.tables.opening import open_files

pytestmark = pytest.mark.fast


def test_load__writes_few_batches(tmp_path):
    Dataset.from_dict({"text": [str(row) for row in range(5000)]}).to_parquet(tmp_path / "a.parquet", batch_size=500)
    rows = open_files([str(tmp_path / "a.parquet")], "train_file").load({"text": "text"})
    assert rows["text"][:] == [str(row) for row in range(5000)]
    assert rows.data.column("text").num_chunks == 1


def test_batches__end_at_a_number_of_rows_and_of_bytes(monkeypatch):
    monkeypatch.setattr(building, "_ROWS_TOGETHER", 5)
    monkeypatch.setattr(building, "_BYTES", 1000)
    small, large = pyarrow.table({"a": [b"x", b"y"]}), pyarrow.table({"a": [b"x" * 1000]})
    given = [small, small, small, large, small, large]
    found = list(building._together(iter(given)))
    assert [len(table) for table in found] == [6, 1, 3]
    assert pyarrow.concat_tables(found) == pyarrow.concat_tables(given)
