"""Arrays of four channels and 16 bits, made of scikit-learn's digits, as an example of satellite or medical images.

It writes {0..9}/N.npy, (32, 32, 4) uint16: the brightness, how it changes downwards and to the right, and its mean
over 5 x 5 pixels. Values are far from 0 and of other ranges in each channel, as those of sensors are.
"""

import argparse
import logging
from pathlib import Path

import numpy as np
from scipy.ndimage import uniform_filter
from sklearn.datasets import load_digits

logger = logging.getLogger(__name__)


def bands_of(image: np.ndarray) -> np.ndarray:
    """The channels (H, W, 4), uint16, of an image (H, W) with values from 0 to 16."""
    down, right = np.gradient(image)
    channels = [1000 + 250 * image, 3000 + 60 * down, 3000 + 60 * right, 8000 + 400 * uniform_filter(image, 5)]
    return np.stack(channels, axis=-1).astype(np.uint16)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", type=Path, default=Path("data/bands"))
    data_dir: Path = parser.parse_args().data_dir
    logging.basicConfig(level=logging.INFO, format="%(message)s")

    digits = load_digits()
    for number, (image, digit) in enumerate(zip(digits.images, digits.target, strict=True)):
        folder = data_dir / str(digit)
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / f"{number:04d}.npy", bands_of(image.repeat(4, axis=0).repeat(4, axis=1)))
    logger.info(f"{len(digits.images)} arrays in {data_dir}")


if __name__ == "__main__":
    main()
