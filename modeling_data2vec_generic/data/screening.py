"""The one policy for bad samples: skip them, say how many and which, and give up if there are too many."""

from collections.abc import Callable, Sequence

import numpy as np
from transformers.utils import logging

logger = logging.get_logger(__name__)

_NAMED = 5  # bad samples that are named in the message; the rest are only counted


def good_rows(
    problems: Sequence[str], name_of: Callable[[int], str], *, noun: str, split: str, max_bad_fraction: float
) -> np.ndarray:
    """Positions, ascending, of the rows whose entry in `problems` is empty.

    Bad rows are counted and the first five named in one warning. Raises a ValueError if they are more than
    `max_bad_fraction` of all rows, or all of them.
    """
    bad = [position for position, problem in enumerate(problems) if problem]
    if bad:
        named = "; ".join(f"{name_of(position)}: {problems[position]}" for position in bad[:_NAMED])
        more = f"; and {len(bad) - _NAMED} more" if len(bad) > _NAMED else ""
        found = f"{len(bad)} of {len(problems)} {split} {noun}s are bad ({named}{more})"
        if len(bad) > max_bad_fraction * len(problems):
            raise ValueError(
                f"{found}: more than max_bad_fraction={max_bad_fraction} allows. "
                "Repair or remove them, or raise --max_bad_fraction to skip them."
            )
        if len(bad) == len(problems):
            raise ValueError(f"{found}: nothing is left to use. Repair them or choose other data.")
        logger.warning(f"{found}. They are skipped.")
    return np.array([position for position, problem in enumerate(problems) if not problem], dtype=np.int64)
