"""Clips of scikit-learn's 1,797 handwritten digits that move and turn, as train.parquet and validation.parquet.

Nothing is downloaded. Each digit (8 x 8 grey pixels, enlarged to 16 x 16) makes one clip of 24 x 24 pixels. It starts
at a random place in a random direction, bounces off the border, and turns at a constant speed. The columns are
`video`, a list of frames, and `label`, the digit. A fifth of each class is held out. Each call writes the same clips.
"""

import argparse
import logging
from pathlib import Path

import numpy as np
import PIL.Image
from datasets import ClassLabel, Dataset, Features, Image, List
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

logger = logging.getLogger(__name__)

FRAMES = 8
SIZE, DIGIT_SIZE = 24, 16
SLOWEST, FASTEST = 0.5, 2.0  # pixels per frame
MOST_TURN = 10.0  # degrees per frame


def bounced(places: np.ndarray, room: float) -> np.ndarray:
    """Places on a line, reflected at 0 and `room` until they lie between them."""
    return room - np.abs(places % (2 * room) - room)


def clip(digit: np.ndarray, generator: np.random.Generator) -> list[PIL.Image.Image]:
    """The frames of the clip of a digit, (8, 8) uint8."""
    picture = PIL.Image.fromarray(digit).resize((DIGIT_SIZE, DIGIT_SIZE), PIL.Image.Resampling.BICUBIC)
    room = SIZE - DIGIT_SIZE
    direction, speed = generator.uniform(0, 2 * np.pi), generator.uniform(SLOWEST, FASTEST)
    steps = np.arange(FRAMES)[:, None] * speed * np.array([np.cos(direction), np.sin(direction)])
    places = bounced(generator.uniform(0, room, size=2) + steps, room)
    angles = np.arange(FRAMES) * generator.uniform(-MOST_TURN, MOST_TURN)
    frames = []
    for place, angle in zip(places, angles, strict=True):
        frame = PIL.Image.new("L", (SIZE, SIZE))
        frame.paste(picture.rotate(angle, PIL.Image.Resampling.BILINEAR), tuple(np.rint(place).astype(int).tolist()))
        frames.append(frame)
    return frames


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, default=Path("data/moving_digits"))
    output_dir: Path = parser.parse_args().output_dir
    logging.basicConfig(level=logging.INFO, format="%(message)s")

    digits = load_digits()
    pixels = np.round(digits.images * (255 / 16)).astype(np.uint8)  # scikit-learn's grey levels run from 0 to 16
    generator = np.random.default_rng(0)
    clips = [clip(digit, generator) for digit in pixels]
    train, validation = train_test_split(np.arange(len(pixels)), test_size=0.2, stratify=digits.target, random_state=0)
    features = Features({"video": List(Image()), "label": ClassLabel(names=[str(digit) for digit in range(10)])})
    output_dir.mkdir(parents=True, exist_ok=True)
    for split, positions in (("train", np.sort(train)), ("validation", np.sort(validation))):
        rows = {"video": [clips[place] for place in positions], "label": digits.target[positions].tolist()}
        path = output_dir / f"{split}.parquet"
        Dataset.from_dict(rows, features=features).to_parquet(path)
        logger.info(f"{len(positions)} clips in {path}")


if __name__ == "__main__":
    main()
