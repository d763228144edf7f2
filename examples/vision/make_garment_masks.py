"""Masks for Fashion-MNIST (from fetch_fashion_mnist.py): which pixels are the garment, and which garment it is.

It writes masks_train.parquet and masks_test.parquet with the columns `image` and `label`, an image of 28 x 28 numbers:
0 where the pixel is at most as bright as `THRESHOLD`, else 1 + the class of the garment.
"""

import argparse
import logging
from pathlib import Path

import numpy as np
import PIL.Image
from datasets import Dataset, Features, Image, load_dataset

logger = logging.getLogger(__name__)

THRESHOLD = 32  # of 255; the background is 0, except around the rim of some garments


def mask_of(image: PIL.Image.Image, garment: int) -> PIL.Image.Image:
    return PIL.Image.fromarray(np.where(np.asarray(image) > THRESHOLD, 1 + garment, 0).astype(np.uint8))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", type=Path, default=Path("data/fashion_mnist"))
    data_dir: Path = parser.parse_args().data_dir
    logging.basicConfig(level=logging.INFO, format="%(message)s")

    for split in ("train", "test"):
        source = load_dataset("parquet", data_files=str(data_dir / f"{split}.parquet"), split="train")
        rows = {
            "image": [row["image"] for row in source],
            "label": [mask_of(row["image"], row["label"]) for row in source],
        }
        path = data_dir / f"masks_{split}.parquet"
        Dataset.from_dict(rows, Features({"image": Image(), "label": Image()})).to_parquet(path)
        logger.info(f"{len(source)} images with their masks in {path}")


if __name__ == "__main__":
    main()
