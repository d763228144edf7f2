"""The English voice prompts of the Asterisk telephone exchange: one speaker, wav files, 8 kHz, about 25 minutes.

The data are those of Debian's packages asterisk-core-sounds-en-wav and asterisk-core-sounds-en (CC-BY-SA 3.0). These
files are written:

    train/CLASS/NAME.wav, validation/CLASS/NAME.wav   CLASS: digits, letters, phonetic (alphabet) or prompts
    metadata.csv                                      file_name, split, label and the spoken text of every file

Silence and recordings without speech (beeps) are left out. A quarter of each class is held out, always the same files.
"""

import argparse
import csv
import gzip
import logging
import shutil
import sys
import tempfile
from collections.abc import Collection, Iterable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from debian_packages import unpack

logger = logging.getLogger(__name__)

CLASSES = ("digits", "letters", "phonetic", "prompts")
VALIDATION_SHARE = 0.25
SPLIT_SEED = 0


def transcripts(lines: Iterable[str]) -> dict[str, str]:
    """The spoken text by the name of the prompt, from lines `name: text`. A text in brackets is not spoken."""
    entries = (line.strip().split(": ", 1) for line in lines if ": " in line and not line.startswith(";"))
    return {name: text for name, text in entries if not text.startswith("[")}


def class_of(name: str) -> str:
    """The class of the prompt `folder/name` or `name`."""
    folder = name.partition("/")[0]
    return folder if folder in CLASSES else "prompts"


def held_out(names: Collection[str]) -> set[str]:
    """The names of the validation set: a fixed share of every class."""
    generator = np.random.default_rng(SPLIT_SEED)
    chosen: set[str] = set()
    for label in CLASSES:
        members = sorted(name for name in names if class_of(name) == label)
        chosen.update(generator.permutation(members)[: round(len(members) * VALIDATION_SHARE)].tolist())
    return chosen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, default=Path("data/asterisk"))
    output_dir: Path = parser.parse_args().output_dir
    logging.basicConfig(level=logging.INFO, format="%(message)s")

    with tempfile.TemporaryDirectory() as scratch:
        logger.info("Fetching the packages asterisk-core-sounds-en-wav and asterisk-core-sounds-en")
        unpack(["asterisk-core-sounds-en-wav", "asterisk-core-sounds-en"], Path(scratch))
        sounds = Path(scratch, "usr/share/asterisk/sounds/en_US_f_Allison")
        texts_file = Path(scratch, "usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz")
        with gzip.open(texts_file, "rt", encoding="utf-8") as lines:
            texts = transcripts(lines)
        names = [path.relative_to(sounds).with_suffix("").as_posix() for path in sorted(sounds.rglob("*.wav"))]
        speech = [name for name in names if name in texts and not name.startswith("silence/")]
        validation = held_out(speech)
        rows = []
        for name in speech:
            split = "validation" if name in validation else "train"
            target = Path(split, class_of(name), name.replace("/", "_") + ".wav")
            (output_dir / target).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(sounds / f"{name}.wav", output_dir / target)
            rows.append((target.as_posix(), split, class_of(name), texts[name]))

    with open(output_dir / "metadata.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("file_name", "split", "label", "text"), *rows])
    logger.info(f"{len(rows) - len(validation)} training and {len(validation)} validation files in {output_dir}")


if __name__ == "__main__":
    main()
