"""Reads the data of a table."""

from pathlib import Path

from datasets import Dataset, load_dataset


def read(path: Path) -> Dataset:
    """The rows of a parquet file.

    Raises:
        FileNotFoundError: there is none, with what to do.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no {path}, whose rows are compared on. Run the commands that fetch the data of this table: "
            "benchmarks/README.md has them."
        )
    return load_dataset("parquet", data_files=str(path), split="train")
