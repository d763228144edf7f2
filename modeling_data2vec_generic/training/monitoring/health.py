"""The callback that measures the vital signs of a run, interprets them, and warns."""

import math
import time
import weakref
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object
from torch.utils.data import DataLoader, Subset
from transformers import TrainerCallback
from transformers.utils import logging

from ...data.quality.reading import ROWS_READ
from ...data.streams.sample_stream import SampleStream
from ..acceleration.global_batch import REPEATED
from ..checkpointing.output_dir import last_checkpoint
from .row_counts import bad_of
from .verdict import COLLAPSED, HEALTHY, RISING, TOO_EARLY, Verdict, first_verdict, remedies, verdict
from .vital_signs import vital_signs

logger = logging.get_logger(__name__)

PREFIX = "health_"
SAMPLES = 128
LOOKS = 10  # over a run without evaluation
_RUNTIMES = ("health_runtime", "probe_runtime")  # endings of the logged times of looks and of the probe


class HealthCallback(TrainerCallback):
    """Measures the model on a fixed batch and says how the run is: before the first step and every `health_steps`; by
    default at each evaluation or, in a run without evaluation, ten times over the run.

    Vital signs are logged as `health_...`, and the seconds that the look took as `health_runtime`; the verdict goes to
    the log and, as `health`, into the log history. Until warm-up is over, and in any run within the first steps
    (`EARLIEST`), it is "too early": there, ranks may fall and come back. With `stop_on_collapse` a run stops that has
    collapsed twice in a row.

    The model is measured under the run's autocast, uncompiled. Each process measures its share of the samples, and all
    come to the same verdict.

    Args:
        trainer: whose model is measured. The batch is drawn from its evaluation data, or else its training data, and
            collated as for evaluation.
    """

    def __init__(self, trainer: Any):
        self.trainer = weakref.proxy(trainer)  # not a cycle: see ResumeCallback

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        # The batch is read now, also in a resumed run: a stream must not be opened again while training reads it.
        if self._batches and not _history(state.log_history):
            self._measure(args, state, control)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if not _is_due(args, state):
            return
        should_log = control.should_log
        self._measure(args, state, control)
        control.should_log = should_log  # the log of the step is still to come

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        # At the end of a run its best weights may have been loaded.
        same_weights = self.trainer.is_in_train or not args.load_best_model_at_end
        looked = any(f"{PREFIX}loss" in entry and entry["step"] == state.global_step for entry in state.log_history)
        if args.health_steps is None and not (looked and same_weights):
            self._measure(args, state, control)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        seconds = sum(
            value for entry in state.log_history for name, value in entry.items() if name.endswith(_RUNTIMES)
        )
        share = seconds / max(time.time() - self.trainer._train_began, seconds, 1e-9)
        logger.info(f"Looks at the health and the probe took {seconds:.1f} s, {share:.1%} of the run's time.")

    @cached_property
    def _batches(self) -> list[Mapping[str, Any]]:
        """This process's share of the samples, on the host, in as many batches as all other processes have."""
        trainer, args = self.trainer, self.trainer.args
        training = trainer.eval_dataset is None
        data = trainer.train_dataset if training else trainer.eval_dataset
        rows, share = _some_rows(data, args.process_index, args.world_size)
        rows, collator = trainer.reading(rows, trainer.eval_data_collator, is_training=training)
        size = args.per_device_eval_batch_size
        batches, bad = [], []
        for start in range(share.start, share.stop, size):
            own = [rows[i] for i in range(start, min(start + size, share.stop, len(rows)))]
            batch = collator(own or [rows[0]])
            bad += bad_of(batch.pop(ROWS_READ, []))
            batches.append(batch if own else {**batch, REPEATED: True})
        trainer.rows.report(gather_object(bad))
        # A loader, since it can pin memory; without workers, and with a generator that no one else draws from.
        return list(
            DataLoader(
                batches,  # type: ignore[arg-type]
                batch_size=None,
                collate_fn=_unchanged,
                pin_memory=args.dataloader_pin_memory,
                generator=torch.Generator(),
            )
        )

    @cached_property
    def _mask_ratio(self) -> float:
        masks = [batch["mask"].float() for batch in self._batches if REPEATED not in batch]
        parts = gather_object([(sum(float(mask.sum()) for mask in masks), sum(mask.numel() for mask in masks))])
        masked, positions = map(sum, zip(*parts, strict=True))
        return masked / positions

    def _measure(self, args: Any, state: Any, control: Any) -> None:
        trainer = self.trainer
        # Compiled blocks would be compiled anew for these batches.
        with trainer.speed.paused(), trainer.accelerator.autocast(), torch.compiler.set_stance("force_eager"):
            began = time.perf_counter()
            signs = vital_signs(trainer.model, self._batches)
            runtime = time.perf_counter() - began
        warn = logger.warning if state.is_world_process_zero else logger.debug  # all processes find the same
        if not all(map(math.isfinite, signs.values())):
            bad = ", ".join(name for name, value in signs.items() if not math.isfinite(value))
            warn(f"Step {state.global_step}: the health of the run is unknown, not finite: {bad}.")
            return
        trainer.log({f"{PREFIX}{name}": value for name, value in {**signs, "runtime": runtime}.items()})
        first = first_verdict(args.get_warmup_steps(state.max_steps))
        if state.global_step < first:
            state.log_history[-1]["health"] = TOO_EARLY
            logger.info(
                f"Step {state.global_step}: {TOO_EARLY} for a verdict on the health of the run, which is given from "
                f"step {first} on."
            )
            return
        found = verdict_of(state.log_history)
        # Not logged with the rest: TensorBoard takes numbers only.
        state.log_history[-1]["health"] = found.state
        message = f"Step {state.global_step}: {found.state}; {found.reason}."
        if found.state in (HEALTHY, RISING):
            logger.info(message)
            return
        batch_size = trainer.get_total_train_batch_size(args)
        warn(f"{message} What helps: {remedies(trainer.model.config, args, self._mask_ratio, batch_size)}.")
        verdicts = [entry["health"] for entry in state.log_history if "health" in entry]
        if args.stop_on_collapse and verdicts[-2:] == [COLLAPSED] * 2:  # a single one may be an exception
            control.should_training_stop = True
            saved = last_checkpoint(args)
            kept = f"The last checkpoint is {saved}." if saved else "No checkpoint had been saved."
            warn(f"Stopped at step {state.global_step} by stop_on_collapse. {kept}")


def verdict_of(log_history: Sequence[Mapping[str, Any]]) -> Verdict:
    """What the last look at the health of a run says, whether or not it was too early for a verdict.

    Args:
        log_history: Trainer's `state.log_history`, which holds one look or more.
    """
    return verdict(_history(log_history))


def _history(log_history: Sequence[Mapping[str, Any]]) -> list[dict[str, float]]:
    """The vital signs logged so far, also before the run was resumed."""
    return [
        {name.removeprefix(PREFIX): value for name, value in entry.items() if name.startswith(PREFIX)}
        for entry in log_history
        if f"{PREFIX}loss" in entry
    ]


def _is_due(args: Any, state: Any) -> bool:
    """Whether the model is measured after this step, whatever is evaluated."""
    every = args.health_steps
    if every is None:
        if args.eval_strategy != "no":
            return False
        every = 1 / LOOKS
    steps = math.ceil(state.max_steps * every) if every < 1 else int(every)
    return state.global_step % steps == 0 or (args.health_steps is None and state.global_step == state.max_steps)


def _some_rows(dataset: Any, process: int, processes: int) -> tuple[Any, range]:
    """At most SAMPLES rows, always the same, from all parts of the data set: files are often sorted by class.

    Rows of a data set are read when they are indexed, those of a stream now.

    Returns:
        Rows, and the positions among them of those that this process measures. There may be fewer rows than that.
    """
    if isinstance(dataset, dict):
        dataset = next(iter(dataset.values()))
    if isinstance(dataset, SampleStream):
        own = dataset.opening(math.ceil(SAMPLES / processes), process, processes)
        return own, range(len(own))
    rows: Any
    if hasattr(dataset, "__len__"):
        positions = np.random.default_rng(0).permutation(len(dataset))[:SAMPLES]
        rows = Subset(dataset, np.sort(positions).tolist())
    else:
        rows = list(islice(dataset, SAMPLES))
    share = math.ceil(len(rows) / processes)
    return rows, range(share * process, share * (process + 1))


def _unchanged(batch: Any) -> Any:
    return batch
