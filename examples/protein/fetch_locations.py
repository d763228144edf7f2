"""The locations of proteins of Gram-negative bacteria, as train.parquet, test.parquet and pretraining.fasta.

There are 5 locations in and around the cell. The labels are those of ePSORTdb in Debian's package psortb (GPL-2+):
proteins whose location is known from experiments, and their close relatives. Proteins with several locations are left
out.

Related proteins mostly have the same location, so a test on rows chosen at random would measure little more than
similarity. Proteins that share 5 different pieces of 6 residues are therefore linked, linked proteins make a cluster,
and no cluster is in both the training and the test data. The tables hold one protein of each cluster; the test table
holds 100 of each location. pretraining.fasta holds all proteins of the clusters that are not tested, and the training
proteins of `fetch_proteins.py`.
"""

import argparse
import gzip
import logging
import re
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))
from debian_packages import unpack
from fetch_proteins import entries, held_out

logger = logging.getLogger(__name__)

PLACES = ("Cytoplasmic", "CytoplasmicMembrane", "Periplasmic", "OuterMembrane", "Extracellular")
PIECE, SHARED = 6, 5
TESTED = 100  # of each place
SPLIT_SEED = 0


def clusters(sequences: list[str]) -> NDArray[np.int64]:
    """(N,) number of each sequence's cluster: sequences that share SHARED different pieces are in the same one."""
    numbers: dict[str, int] = {}
    rows, columns = [], []
    for row, sequence in enumerate(sequences):
        pieces = {sequence[start : start + PIECE] for start in range(len(sequence) - PIECE + 1)}
        rows += [row] * len(pieces)
        columns += [numbers.setdefault(piece, len(numbers)) for piece in pieces]
    holds = csr_array((np.ones(len(rows), np.int32), (rows, columns)), shape=(len(sequences), len(numbers)))
    return connected_components(holds @ holds.T >= SHARED, directed=False)[1]


def split(places: list[str], cluster: NDArray[np.int64]) -> tuple[list[int], list[int]]:
    """Positions to train on and to test on, one of each cluster. Clusters with several places are only trained on."""
    train, test = [], []
    order = np.random.default_rng(SPLIT_SEED).permutation(len(places))
    seen: set[int] = set()
    tested = dict.fromkeys(PLACES, 0)
    for position in order:
        number, place = cluster[position], places[position]
        if number in seen:
            continue
        seen.add(number)
        alike = {places[i] for i in np.flatnonzero(cluster == number)}
        if len(alike) == 1 and tested[place] < TESTED:
            tested[place] += 1
            test.append(position)
        else:
            train.append(position)
    return train, test


def located(lines: Iterable[str]) -> list[tuple[str, str]]:
    """(sequence, place) of the entries that have one place."""
    found = {}
    for header, sequence in entries(lines):
        place = re.match(r"\S+ \[(\w+)\]", header)
        if place and place[1] in PLACES:
            found[sequence] = place[1]
    return list(found.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, default=Path("data/protein_locations"))
    output_dir: Path = parser.parse_args().output_dir
    logging.basicConfig(level=logging.INFO, format="%(message)s")

    with tempfile.TemporaryDirectory() as scratch:
        logger.info("Fetching the packages psortb and mmseqs2-examples")
        unpack(["psortb", "mmseqs2-examples"], Path(scratch))
        with open(
            Path(scratch, "usr/lib/psort/conf/analysis/sclblast/gramneg/sclblast"), encoding="utf-8", errors="replace"
        ) as lines:
            sequences, places = map(list, zip(*located(lines), strict=True))
        archive = Path(scratch, "usr/share/doc/mmseqs2/example-data/DB.fasta.gz")
        with gzip.open(archive, "rt", encoding="utf-8") as lines:
            others = [sequence for _, sequence in entries(lines)]

    cluster = clusters(sequences)
    train, test = split(places, cluster)
    output_dir.mkdir(parents=True, exist_ok=True)
    for name, positions in (("train", train), ("test", test)):
        rows = {"sequence": [sequences[i] for i in positions], "place": [places[i] for i in positions]}
        Dataset.from_dict(rows).to_parquet(output_dir / f"{name}.parquet")
        logger.info(f"{len(positions)} proteins in {output_dir / name}.parquet")
    unseen = held_out(others) | {sequences[i] for i in np.flatnonzero(np.isin(cluster, cluster[test]))}
    unlabelled = sorted({*sequences, *others} - unseen)
    path = output_dir / "pretraining.fasta"
    path.write_text("".join(f">{i}\n{sequence}\n" for i, sequence in enumerate(unlabelled)), encoding="utf-8")
    logger.info(f"{len(unlabelled)} proteins in {path}")


if __name__ == "__main__":
    main()
