"""`--reference_batch_size`: schedules of a recipe that stay the same in samples when the batch differs."""

from transformers.utils import logging

from .arguments import Data2VecTrainingArguments

SCALED = ("ema_decay", "ema_end_decay", "ema_anneal_steps", "warmup_steps")

logger = logging.get_logger(__name__)


class BatchScaling:
    """Rescales warm-up and the teacher's schedule from `reference_batch_size` to the batch of the run.

    Warm-up and EMA annealing take the same number of samples as in the recipe. The teacher forgets half of its old
    weights within the same number of samples: a decay d per step of n samples becomes d^(m / n) per step of m.
    Learning rate and `max_steps` are not changed. Without `reference_batch_size` nothing changes.

    Args:
        arguments: the arguments of the run, which are changed in place.
    """

    def __init__(self, arguments: Data2VecTrainingArguments):
        self.arguments = arguments
        self._written: dict[str, int | float] = {}
        self._scaled: dict[str, int | float] = {}

    def apply(self, batch: int) -> None:
        """Scale the values written for the reference to `batch` samples per optimizer step.

        An earlier scaling is undone first. Values that were set since, such as by a trial of a search, count as
        written.
        """
        for name, value in self._scaled.items():
            if getattr(self.arguments, name) == value:
                setattr(self.arguments, name, self._written[name])
        self._written = {name: getattr(self.arguments, name) for name in SCALED}
        _scale(self.arguments, batch)
        self._scaled = {name: getattr(self.arguments, name) for name in SCALED}


def _scale(arguments: Data2VecTrainingArguments, batch: int) -> None:
    reference = arguments.reference_batch_size
    if reference is None:
        return
    ratio = batch / reference
    scaled: dict[str, int | float] = {
        "ema_decay": arguments.ema_decay**ratio,
        "ema_end_decay": arguments.ema_end_decay**ratio,
    }
    if arguments.warmup_steps >= 1:  # below 1 it is a share of the run
        scaled["warmup_steps"] = max(1, round(arguments.warmup_steps / ratio))
    if arguments.ema_anneal_steps is not None:
        scaled["ema_anneal_steps"] = max(1, round(arguments.ema_anneal_steps / ratio))
    changes = ", ".join(f"{name} {getattr(arguments, name):g} -> {value:g}" for name, value in scaled.items())
    for name, value in scaled.items():
        setattr(arguments, name, value)
    logger.info(
        f"The recipe is for batches of {reference} samples and this run has {batch} per optimizer step, so schedules "
        f"are kept in samples: {changes}. The learning rate ({arguments.learning_rate:g}) and the length of the run "
        "are left as they are."
    )
