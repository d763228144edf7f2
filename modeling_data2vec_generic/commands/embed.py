"""`data2vec embed`: vectors of rows by a frozen encoder."""

import sys

from ..cli.help import help_for
from ..embedding.arguments import ARGUMENTS

_USAGE = """
usage: data2vec embed MODEL DATA --output FILE [--flag VALUE ...]

Computes vectors of images, text, sound and other data with a frozen encoder.

  data2vec embed output/digits digits --output digits.parquet
  data2vec embed output/mine my_images --output vectors.npy --normalize l2

MODEL is a folder or a Hub id; DATA are files, a folder, built-in data or a dataset of the Hub.
"""
_TOPICS = {
    "Vectors": ("output", "overwrite", "pooling", "layer", "top_k_layers", "normalize", "output_dtype", "neighbours"),
    "Data": ("modality", "split", "label_column_name", "text_column_name", "streaming"),
    "Running": ("batch_size", "dtype", "device", "dataloader_num_workers"),
}


def main(argv: list[str] | None = None) -> None:
    """Computes vectors as the words of a command line say, or prints its help; default: those of this process."""
    words = sys.argv[1:] if argv is None else argv
    if (text := help_for(words, _USAGE, _TOPICS, ARGUMENTS)) is not None:
        sys.stdout.write(text)
        return
    from ..runs import embedding  # which takes seconds to import, and help does not need it

    embedding.main(words)
