"""Data sets of time series from the Python package aeon, each as train.parquet and test.parquet.

The package (BSD licence) is downloaded without being installed, and only its data are unpacked. The data sets and
their splits are those of the UCR and UEA archives of time series classification (timeseriesclassification.com). The
columns are `series` (T lists with a number per channel) and `label`.
"""

import argparse
import logging
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

from datasets import ClassLabel, Dataset, Features, List, Value

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from python_packages import download

logger = logging.getLogger(__name__)

WHEEL = "aeon==1.6.0"
NAMES = ("OSULeaf", "BasicMotions")


def read_ts(lines: Iterable[str]) -> tuple[list[list[list[float]]], list[str], list[str]]:
    """Read the lines of a file in aeon's format.

    The file begins with lines that start with `@`. Each other line is a series: its channels and its class, separated
    by colons. The values of a channel are separated by commas, and `?` is a missing value.

    Returns:
        The series, each (T, channels), the class of each series, and the names of all classes.
    """
    classes: list[str] = []
    series, labels = [], []
    for line in map(str.strip, lines):
        if line.lower().startswith("@classlabel true"):
            classes = line.split()[2:]
        elif line and not line.startswith(("#", "@")):
            *channels, label = line.split(":")
            values = [[float("nan" if value == "?" else value) for value in row.split(",")] for row in channels]
            series.append([list(row) for row in zip(*values, strict=True)])
            labels.append(label)
    return series, labels, classes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(NAMES), help=f"which sets; default: {' '.join(NAMES)}")
    parser.add_argument("--output_dir", type=Path, default=Path("data"), help="has a folder for each set")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")

    with tempfile.TemporaryDirectory() as scratch:
        logger.info(f"Fetching {WHEEL}")
        with zipfile.ZipFile(download(WHEEL, Path(scratch))) as wheel:
            for name in arguments.names:
                for split in ("train", "test"):
                    member = f"aeon/datasets/data/{name}/{name}_{split.upper()}.ts"
                    if member not in wheel.namelist():
                        raise SystemExit(f"{WHEEL} has no {member}. Its sets are listed in aeon/datasets/data.")
                    series, labels, classes = read_ts(wheel.read(member).decode("utf-8").splitlines())
                    features = Features({"series": List(List(Value("float32"))), "label": ClassLabel(names=classes)})
                    path = arguments.output_dir / name / f"{split}.parquet"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    Dataset.from_dict({"series": series, "label": labels}, features=features).to_parquet(path)
                    logger.info(f"{len(series)} series of {len(classes)} classes in {path}")


if __name__ == "__main__":
    main()
