"""Fashion-MNIST (60,000 training and 10,000 test images, 28 x 28, 10 classes) as train.parquet and test.parquet.

The data are those of Debian's package dataset-fashion-mnist (MIT licence). The columns are `image` and `label`.
"""

import argparse
import gzip
import logging
import sys
import tempfile
from pathlib import Path

import numpy as np
import PIL.Image
from datasets import ClassLabel, Dataset, Features, Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from debian_packages import unpack

logger = logging.getLogger(__name__)

CLASSES = "T-shirt/top Trouser Pullover Dress Coat Sandal Shirt Sneaker Bag Ankle-boot".split()


def read_idx(path: Path) -> np.ndarray:
    """Read the uint8 array of a gzipped IDX file: a magic number with the rank as last byte, the sizes, the values."""
    content = gzip.decompress(path.read_bytes())
    rank = content[3]
    shape = np.frombuffer(content, dtype=">u4", count=rank, offset=4)
    return np.frombuffer(content, dtype=np.uint8, offset=4 + 4 * rank).reshape(shape)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, default=Path("data/fashion_mnist"))
    output_dir: Path = parser.parse_args().output_dir
    logging.basicConfig(level=logging.INFO, format="%(message)s")

    features = Features({"image": Image(), "label": ClassLabel(names=CLASSES)})
    with tempfile.TemporaryDirectory() as scratch:
        logger.info("Fetching the package dataset-fashion-mnist")
        unpack(["dataset-fashion-mnist"], Path(scratch))
        folder = Path(scratch, "usr/share/datasets/fashion-mnist")
        output_dir.mkdir(parents=True, exist_ok=True)
        for split, prefix in (("train", "train"), ("test", "t10k")):
            images = read_idx(folder / f"{prefix}-images-idx3-ubyte.gz")
            labels = read_idx(folder / f"{prefix}-labels-idx1-ubyte.gz")
            rows = {"image": [PIL.Image.fromarray(image) for image in images], "label": labels}
            path = output_dir / f"{split}.parquet"
            Dataset.from_dict(rows, features=features).to_parquet(path)
            logger.info(f"{len(labels)} images in {path}")


if __name__ == "__main__":
    main()
