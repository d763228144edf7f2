"""The glosses of WordNet 3.0 (117,659 definitions, most with an example), with their lexicographer files as labels.

The data are those of Debian's package wordnet-base (WordNet licence). Four files with the columns `text` and `label`:

    nouns_train.parquet, nouns_validation.parquet   the 82,115 noun glosses, 26 classes
    all_train.parquet, all_validation.parquet       nouns, verbs, adjectives and adverbs, 45 classes

5% of the glosses are held out, always the same ones, and the same ones in both pairs of files. Synsets with the same
gloss are in the same file.
"""

import argparse
import logging
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from datasets import ClassLabel, Dataset, Features, Value

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from debian_packages import unpack

logger = logging.getLogger(__name__)

# In the order of their numbers, as lexnames(5WN) lists them.
LEXICOGRAPHER_FILES = (
    "adj.all adj.pert adv.all noun.Tops noun.act noun.animal noun.artifact noun.attribute noun.body noun.cognition "
    "noun.communication noun.event noun.feeling noun.food noun.group noun.location noun.motive noun.object "
    "noun.person noun.phenomenon noun.plant noun.possession noun.process noun.quantity noun.relation noun.shape "
    "noun.state noun.substance noun.time verb.body verb.change verb.cognition verb.communication verb.competition "
    "verb.consumption verb.contact verb.creation verb.emotion verb.motion verb.perception verb.possession verb.social "
    "verb.stative verb.weather adj.ppl"
).split()
VALIDATION_SHARE = 0.05
SPLIT_SEED = 0


def glosses(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    """(gloss, lexicographer file) of every synset in the lines of a data file."""
    for line in lines:
        if not line.startswith("  "):  # the licence at the head of the file
            synset, gloss = line.split(" | ", 1)
            yield gloss.strip(), LEXICOGRAPHER_FILES[int(synset.split(" ", 2)[1])]


def read_glosses(directory: Path) -> list[tuple[str, str]]:
    """(gloss, lexicographer file) of every synset of the package, unpacked below `directory`."""
    rows: list[tuple[str, str]] = []
    for part_of_speech in ("noun", "verb", "adj", "adv"):
        with open(directory / "usr/share/wordnet" / f"data.{part_of_speech}", encoding="utf-8") as lines:
            rows.extend(glosses(lines))
    return rows


def held_out(texts: Iterable[str]) -> set[str]:
    """The texts of the validation set: a fixed share of the different ones."""
    distinct = sorted(set(texts))
    chosen = np.random.default_rng(SPLIT_SEED).permutation(len(distinct))[: round(len(distinct) * VALIDATION_SHARE)]
    return {distinct[position] for position in chosen}


def write(rows: list[tuple[str, str]], path: Path) -> None:
    names = sorted({label for _, label in rows}, key=LEXICOGRAPHER_FILES.index)
    features = Features({"text": Value("string"), "label": ClassLabel(names=names)})
    columns = {"text": [text for text, _ in rows], "label": [label for _, label in rows]}
    Dataset.from_dict(columns, features=features).to_parquet(path)
    logger.info(f"{len(rows)} glosses of {len(names)} classes in {path}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, default=Path("data/wordnet"))
    output_dir: Path = parser.parse_args().output_dir
    logging.basicConfig(level=logging.INFO, format="%(message)s")

    with tempfile.TemporaryDirectory() as scratch:
        logger.info("Fetching the package wordnet-base")
        unpack(["wordnet-base"], Path(scratch))
        rows = read_glosses(Path(scratch))

    validation_texts = held_out(text for text, _ in rows)
    output_dir.mkdir(parents=True, exist_ok=True)
    for name, prefix in (("nouns", "noun."), ("all", "")):
        of_kind = [row for row in rows if row[1].startswith(prefix)]
        write([row for row in of_kind if row[0] not in validation_texts], output_dir / f"{name}_train.parquet")
        write([row for row in of_kind if row[0] in validation_texts], output_dir / f"{name}_validation.parquet")


if __name__ == "__main__":
    main()
