"""Long samples to pieces of one length: which window of which row each piece is."""

import numpy as np
from datasets import Dataset
from transformers.utils import logging

logger = logging.get_logger(__name__)


def windows(raw: Dataset, good: np.ndarray, lengths: np.ndarray, size: int, *, noun: str, split: str) -> Dataset:
    """Columns `row` and `start` of consecutive windows of `size`, `sample_index` and, if `raw` has it, `label`.

    Rows `good` of `raw` are cut, row i being lengths[i] >= `size` long. What is left at a row's end is dropped; the
    log says how much.
    """
    counts = lengths[good] // size
    rows = np.repeat(good, counts)
    starts = np.concatenate([np.arange(count) * size for count in counts])
    if longer := int((lengths[good] > size).sum()):
        dropped = int(lengths[good].sum() - counts.sum() * size)
        logger.info(
            f"{longer} of {len(good)} {split} {noun} are longer than {size} and cut into pieces of it: {len(rows)} "
            f"pieces in all, and {dropped / lengths[good].sum():.1%} of the data, at the ends, are left out."
        )
    found = Dataset.from_dict({"row": rows, "start": starts, "sample_index": np.arange(len(rows))})
    if "label" in raw.features:
        labels = np.array(raw["label"][:])[rows]
        found = found.add_column("label", labels, feature=raw.features["label"])
    return found
