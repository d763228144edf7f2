"""Emoji in colour (1,906 pictures of 64 x 64, 9 categories) as train.parquet and test.parquet.

The pictures are those of npm's package emoji-datasource-google (MIT; the pictures, Google's Noto Emoji: Apache 2.0),
on white and without variants in other skin tones. The columns are `image` and `label`, the category. Three tenths of
each category are for testing.
"""

import argparse
import json
import logging
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from datasets import ClassLabel, Dataset, Features, Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from node_packages import unpack

logger = logging.getLogger(__name__)

PACKAGE = "emoji-datasource-google@16.0.0"
CLASSES = (
    "Smileys & Emotion",
    "People & Body",
    "Animals & Nature",
    "Food & Drink",
    "Travel & Places",
    "Activities",
    "Objects",
    "Symbols",
    "Flags",
)  # all but "Component", the skin tones themselves
TEST_SHARE = 0.3
SPLIT_SEED = 0


def split(emoji: Iterable[Mapping[str, Any]]) -> dict[str, list[tuple[str, str]]]:
    """(file name, category) of the pictures of each split.

    Args:
        emoji: the entries of the package's emoji.json.
    """
    rng = np.random.default_rng(SPLIT_SEED)
    found: dict[str, list[tuple[str, str]]] = {"train": [], "test": []}
    by_code = sorted(emoji, key=lambda entry: entry["unified"])
    for category in CLASSES:
        entries = [entry for entry in by_code if entry["category"] == category]
        pictures = [(entries[number]["image"], category) for number in rng.permutation(len(entries))]
        tested = round(TEST_SHARE * len(entries))
        found["test"] += pictures[:tested]
        found["train"] += pictures[tested:]
    return found


def on_white(path: Path) -> PIL.Image.Image:
    """The picture of a file, in RGB."""
    with PIL.Image.open(path) as picture:
        coloured = picture.convert("RGBA")
        white = PIL.Image.new("RGBA", coloured.size, "white")
        return PIL.Image.alpha_composite(white, coloured).convert("RGB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, default=Path("data/emoji"))
    output_dir: Path = parser.parse_args().output_dir
    logging.basicConfig(level=logging.INFO, format="%(message)s")

    features = Features({"image": Image(), "label": ClassLabel(names=list(CLASSES))})
    with tempfile.TemporaryDirectory() as scratch:
        logger.info(f"Fetching the package {PACKAGE}")
        package = unpack(PACKAGE, Path(scratch))
        output_dir.mkdir(parents=True, exist_ok=True)
        for name, pictures in split(json.loads((package / "emoji.json").read_text(encoding="utf-8"))).items():
            folder = package / "img/google/64"
            rows = {
                "image": [on_white(folder / file) for file, _ in pictures],
                "label": [label for _, label in pictures],
            }
            Dataset.from_dict(rows, features=features).to_parquet(output_dir / f"{name}.parquet")
            logger.info(f"{len(pictures)} pictures in {output_dir / name}.parquet")


if __name__ == "__main__":
    main()
