"""The callback that measures the vital signs of a run, interprets them, and warns."""

import math
import weakref
from collections.abc import Mapping
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
from torch import Tensor
from transformers import TrainerCallback
from transformers.utils import logging

from ...data.windowed_stream import WindowedStream
from ..checkpointing.output_dir import last_checkpoint
from .verdict import COLLAPSED, HEALTHY, RISING, TOO_EARLY, remedies, verdict
from .vital_signs import vital_signs

logger = logging.get_logger(__name__)

PREFIX = "health_"
SAMPLES = 128


class HealthCallback(TrainerCallback):
    """Measures the model on a fixed batch and says how the run is: before the first step and at each evaluation or,
    in a run without evaluation, at each log.

    Vital signs are logged as `health_...`; the verdict goes to the log and, as `health`, into the log history. Before
    the first step and until warm-up is over it is "too early": while the learning rate rises, ranks may fall and come
    back. With `stop_on_collapse` a run stops that has collapsed twice in a row.

    Args:
        trainer: whose model is measured. The batch is drawn from its evaluation data, or else its training data, and
            collated as for evaluation.
    """

    def __init__(self, trainer: Any):
        self.trainer = weakref.proxy(trainer)  # not a cycle: see ResumeCallback

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        # The batch is read now, also in a resumed run: a stream must not be opened again while training reads it.
        if self._batches and not _history(state):
            self._measure(args, state, control)

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._measure(args, state, control)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if args.eval_strategy == "no" and "loss" in logs:
            self._measure(args, state, control)

    @cached_property
    def _batches(self) -> list[Mapping[str, Tensor]]:
        trainer = self.trainer
        rows = _some_rows(trainer.train_dataset if trainer.eval_dataset is None else trainer.eval_dataset)
        size = trainer.args.per_device_eval_batch_size
        return [trainer.eval_data_collator(rows[i : i + size]) for i in range(0, len(rows), size)]

    @property
    def _mask_ratio(self) -> float:
        masks = [batch["mask"].float() for batch in self._batches]
        return float(sum(mask.sum() for mask in masks) / sum(mask.numel() for mask in masks))

    def _measure(self, args: Any, state: Any, control: Any) -> None:
        signs = vital_signs(self.trainer.model, self._batches)
        warn = logger.warning if state.is_world_process_zero else logger.debug  # all processes find the same
        if not all(map(math.isfinite, signs.values())):
            bad = ", ".join(name for name, value in signs.items() if not math.isfinite(value))
            warn(f"Step {state.global_step}: the health of the run is unknown, not finite: {bad}.")
            return
        self.trainer.log({f"{PREFIX}{name}": value for name, value in signs.items()})
        warmup = args.get_warmup_steps(state.max_steps)
        if state.global_step < max(warmup, 1):
            state.log_history[-1]["health"] = TOO_EARLY
            logger.info(
                f"Step {state.global_step}: {TOO_EARLY} for a verdict on the health of the run, which is given from "
                f"step {max(warmup, 1)} on, once warm-up is over."
            )
            return
        found = verdict(_history(state))
        # Not logged with the rest: TensorBoard takes numbers only.
        state.log_history[-1]["health"] = found.state
        message = f"Step {state.global_step}: {found.state}; {found.reason}."
        if found.state in (HEALTHY, RISING):
            logger.info(message)
            return
        warn(f"{message} What helps: {remedies(self.trainer.model.config, args, self._mask_ratio)}.")
        verdicts = [entry["health"] for entry in state.log_history if "health" in entry]
        if args.stop_on_collapse and verdicts[-2:] == [COLLAPSED] * 2:  # a single one may be an exception
            control.should_training_stop = True
            saved = last_checkpoint(args)
            kept = f"The last checkpoint is {saved}." if saved else "No checkpoint had been saved."
            warn(f"Stopped at step {state.global_step} by stop_on_collapse. {kept}")


def _history(state: Any) -> list[dict[str, float]]:
    """The vital signs logged so far, also before the run was resumed."""
    return [
        {name.removeprefix(PREFIX): value for name, value in entry.items() if name.startswith(PREFIX)}
        for entry in state.log_history
        if f"{PREFIX}loss" in entry
    ]


def _some_rows(dataset: Any) -> list[Any]:
    """At most SAMPLES rows, always the same, from all parts of the data set: files are often sorted by class."""
    if isinstance(dataset, dict):
        dataset = next(iter(dataset.values()))
    if isinstance(dataset, WindowedStream):
        dataset = dataset.from_beginning()  # also where the run has been resumed since
    if not hasattr(dataset, "__len__"):
        return list(islice(dataset, SAMPLES))
    positions = np.random.default_rng(0).permutation(len(dataset))[:SAMPLES]
    return [dataset[int(position)] for position in np.sort(positions)]
