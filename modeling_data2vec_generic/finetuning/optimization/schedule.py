"""The tri-stage schedule of speech recognition, and an encoder that is frozen at first."""

import math
from collections.abc import Sequence
from typing import Any

from torch import nn
from transformers import TrainerCallback
from transformers.utils import logging

logger = logging.get_logger(__name__)

# fairseq's, for wav2vec 2.0 and data2vec: the first and the last rate, as shares of the highest.
INITIAL, FINAL = 0.01, 0.05


def tri_stage_factor(step: int, total: int, shares: Sequence[float]) -> float:
    """Factor of the learning rate at optimizer step `step`, counted from 0, of `total`.

    It rises linearly from INITIAL to 1, stays, and falls exponentially to FINAL (SpecAugment, arXiv 1904.08779,
    section 4.2, with fairseq's numbers).

    Args:
        shares: of the steps in each stage; they sum to 1.
    """
    rise, hold, fall = (share * total for share in shares)
    if step < rise:
        return INITIAL + (1 - INITIAL) * step / rise
    if step < rise + hold:
        return 1.0
    done = min((step - rise - hold) / fall, 1.0) if fall else 1.0
    return math.exp(math.log(FINAL) * done)


class FreezeCallback(TrainerCallback):
    """Keeps an encoder as it is for the first optimizer steps, or this share of them if `steps` is below 1: its
    parameters get no gradient.

    What is frozen anyway stays so. With several processes DDP must look for parameters without a gradient, which is
    Trainer's default.
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
