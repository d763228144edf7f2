"""The tri-stage schedule of speech recognition, and freezing the encoder in the first steps."""

import math
from collections.abc import Sequence
from typing import Any

from torch import nn
from transformers import TrainerCallback
from transformers.utils import logging

logger = logging.get_logger(__name__)

# The first and the last learning rate as shares of the highest, as in fairseq for wav2vec 2.0 and data2vec.
INITIAL, FINAL = 0.01, 0.05


def tri_stage_factor(step: int, total: int, shares: Sequence[float]) -> float:
    """Factor of the learning rate at an optimizer step.

    It rises linearly from INITIAL to 1, stays at 1, and falls exponentially to FINAL (SpecAugment, arXiv 1904.08779,
    section 4.2, with fairseq's numbers).

    Args:
        step: number of the step, counted from 0.
        total: number of steps.
        shares: of the steps in the three stages, which sum to 1.
    """
    rise, hold, fall = (share * total for share in shares)
    if step < rise:
        return INITIAL + (1 - INITIAL) * step / rise
    if step < rise + hold:
        return 1.0
    done = min((step - rise - hold) / fall, 1.0) if fall else 1.0
    return math.exp(math.log(FINAL) * done)


class FreezeCallback(TrainerCallback):
    """Freezes an encoder in the first optimizer steps: its parameters get no gradient.

    Parameters that were frozen before stay frozen. With several processes, DistributedDataParallel must search for
    parameters without a gradient, which is Trainer's default.

    Args:
        encoder: part of the model that is trained.
        steps: number of steps; if it is below 1, a share of all steps.
    """

    def __init__(self, encoder: nn.Module, steps: float):
        self.parameters = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
        self.steps = steps

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.steps < 1:
            self.steps = math.ceil(self.steps * state.max_steps)
        logger.info(f"The encoder is frozen for the first {self.steps:.0f} of {state.max_steps} steps.")

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        for parameter in self.parameters:
            parameter.requires_grad_(state.global_step >= self.steps)
            if state.global_step < self.steps:
                parameter.grad = None

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        for parameter in self.parameters:
            parameter.requires_grad_(True)
