"""Definitions without labels for pre-training, as train.parquet with the column `text`, a gloss or sentence per row.

They are the glosses of WordNet 3.0 and the sentences of the Collaborative International Dictionary of English (GCIDE,
mainly Webster's of 1913), from Debian's packages wordnet-base (WordNet licence) and dict-gcide (GPL).

The glosses that fetch_wordnet.py holds out are left out, and so are the entries of GCIDE that quote WordNet.
"""

import argparse
import gzip
import logging
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from datasets import Dataset

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from debian_packages import unpack
from fetch_wordnet import held_out, read_glosses

logger = logging.getLogger(__name__)

FEWEST_WORDS = 4  # sentences with fewer words are references: "See Coke."

BRACKETS = re.compile(r"\[[^][]*\]")  # etymology, usage, source; may be nested
PRONUNCIATION = re.compile(r"(?:--\s?)?\\[^\\]*\\(?: \([^)]*\))?[^A-Z(]*")  # and the part of speech that follows it
AUTHOR = re.compile(r"(?:^|\s)--\s?[A-Z][\w.,&\'() -]*$")
LABEL = re.compile(r"^(?:Syn:|Note:|\(\w\)|\d+\.)\s+")
SENTENCE_END = re.compile(r'(?<=[.?!]["\s])\s*(?=[A-Z"])')


def entries(lines: Iterable[str]) -> Iterator[list[str]]:
    """The entries of GCIDE in dictd's format, each as a list of paragraphs. A line without indent begins an entry."""
    paragraphs: list[str] = []
    lines_so_far: list[str] = []
    for line in [*lines, "end"]:
        begins = bool(line) and not line[0].isspace()
        if (begins or not line.strip()) and lines_so_far:
            paragraphs.append(" ".join(lines_so_far))
            lines_so_far = []
        if begins and paragraphs:
            yield paragraphs
            paragraphs = []
        if line.strip():
            lines_so_far.append(line.strip())


def sentences(entry: list[str]) -> Iterator[str]:
    """The sentences of an entry without its headword, sources and dictd's markup; none if it quotes WordNet."""
    if any("WordNet" in paragraph for paragraph in entry):
        return
    headword = entry[0].partition("\\")[0]
    for text in [entry[0].removeprefix(headword), *entry[1:]]:
        while BRACKETS.search(text):
            text = BRACKETS.sub("", text)
        text = PRONUNCIATION.sub("", text)
        text = AUTHOR.sub("", text.replace("{", "").replace("}", "").strip())
        for sentence in SENTENCE_END.split(LABEL.sub("", text)):
            words = sentence.split()
            if len(words) >= FEWEST_WORDS:
                yield " ".join(words)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, default=Path("data/definitions"))
    output_dir: Path = parser.parse_args().output_dir
    logging.basicConfig(level=logging.INFO, format="%(message)s")

    with tempfile.TemporaryDirectory() as scratch:
        logger.info("Fetching the packages wordnet-base and dict-gcide")
        unpack(["wordnet-base", "dict-gcide"], Path(scratch))
        glosses = [text for text, _ in read_glosses(Path(scratch))]
        with gzip.open(Path(scratch, "usr/share/dictd/gcide.dict.dz"), "rt", encoding="cp1252") as lines:
            definitions = [sentence for entry in entries(lines) for sentence in sentences(entry)]
    texts = dict.fromkeys(glosses + definitions)  # each once
    for text in held_out(glosses):
        del texts[text]
    output_dir.mkdir(parents=True, exist_ok=True)
    Dataset.from_dict({"text": list(texts)}).to_parquet(output_dir / "train.parquet")
    logger.info(f"{len(texts)} texts in {output_dir / 'train.parquet'}")


if __name__ == "__main__":
    main()
