"""20,000 protein sequences of UniProt, the example data of MMseqs2, as train.fasta and validation.fasta.

The data are those of Debian's package mmseqs2-examples (UniProt: CC-BY 4.0). 5% of the sequences are held out, always
the same ones. Equal sequences are in the same file. The split does not depend on the similarity of sequences, so that
relatives of a held-out protein may be in the training data.
"""

import argparse
import gzip
import logging
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from debian_packages import unpack

logger = logging.getLogger(__name__)

VALIDATION_SHARE = 0.05
SPLIT_SEED = 0


def entries(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    """(header without its `>`, sequence) of every entry of a FASTA file."""
    header, parts = None, []
    for line in map(str.strip, lines):
        if line.startswith(">"):
            if header is not None:
                yield header, "".join(parts)
            header, parts = line[1:], []
        else:
            parts.append(line)
    if header is not None:
        yield header, "".join(parts)


def held_out(sequences: Iterable[str]) -> set[str]:
    """The sequences of the validation set: a fixed share of the different ones."""
    distinct = sorted(set(sequences))
    chosen = np.random.default_rng(SPLIT_SEED).permutation(len(distinct))[: round(len(distinct) * VALIDATION_SHARE)]
    return {distinct[position] for position in chosen}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, default=Path("data/proteins"))
    output_dir: Path = parser.parse_args().output_dir
    logging.basicConfig(level=logging.INFO, format="%(message)s")

    with tempfile.TemporaryDirectory() as scratch:
        logger.info("Fetching the package mmseqs2-examples")
        unpack(["mmseqs2-examples"], Path(scratch))
        archive = Path(scratch, "usr/share/doc/mmseqs2/example-data/DB.fasta.gz")
        with gzip.open(archive, "rt", encoding="utf-8") as lines:
            found = list(entries(lines))

    validation = held_out(sequence for _, sequence in found)
    output_dir.mkdir(parents=True, exist_ok=True)
    for split in ("train", "validation"):
        chosen = [entry for entry in found if (entry[1] in validation) == (split == "validation")]
        path = output_dir / f"{split}.fasta"
        path.write_text("".join(f">{header}\n{sequence}\n" for header, sequence in chosen), encoding="utf-8")
        logger.info(f"{len(chosen)} proteins in {path}")


if __name__ == "__main__":
    main()
