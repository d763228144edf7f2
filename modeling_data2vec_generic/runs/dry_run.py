"""The steps of a dry run: taken with batch, precision and devices of the run, measured, and thrown away."""

import copy
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import torch
from transformers import IntervalStrategy, PrinterCallback, TrainerCallback
from transformers.trainer_utils import SaveStrategy, has_length

from ..reporting.dry_run import Cost
from ..training.base_trainer import ResumableTrainer
from ..training.monitoring.health import HealthCallback

FOLDER = "dry_run"  # in the output directory
STEPS = 3  # of which the first warms up


def without_traces(arguments: Any) -> Any:
    """A copy of training arguments with which nothing is evaluated, saved, pushed or reported to trackers, and whose
    output directory is the folder of the dry run. The length of the run stays as it is."""
    own = copy.copy(arguments)
    own.output_dir = str(Path(str(arguments.output_dir), FOLDER))
    own.eval_strategy, own.save_strategy = IntervalStrategy.NO, SaveStrategy.NO
    own.eval_on_start = own.load_best_model_at_end = own.push_to_hub = False
    own.resume_from_checkpoint, own.report_to, own.disable_tqdm = None, [], True
    own.logging_strategy, own.logging_steps = IntervalStrategy.STEPS, 1
    return own


class _Watch(TrainerCallback):
    """Notes when each step ends, and stops after STEPS of them."""

    began = 0.0
    ends: Sequence[float] = ()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.began, self.ends = time.perf_counter(), []  # anew if auto_find_batch_size begins again
        if args.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(args.device)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if args.device.type == "cuda":
            torch.cuda.synchronize(args.device)
        self.ends = [*self.ends, time.perf_counter()]
        control.should_training_stop |= len(self.ends) >= STEPS


def take_steps(trainer: ResumableTrainer) -> Cost:
    """Take STEPS optimizer steps, or all if the run has fewer, and measure them.

    The model of the trainer is of no use afterwards: its schedules have begun.

    Args:
        trainer: made with `without_traces`. It has not trained yet.
    """
    watch, args = _Watch(), trainer.args
    for callback in (HealthCallback, PrinterCallback):
        trainer.remove_callback(callback)
    trainer.add_callback(watch)
    batch: dict[str, Any] = {}
    model: Any = trainer.model
    hook = model.register_forward_pre_hook(lambda module, args, inputs: batch.update(inputs), with_kwargs=True)
    before = psutil.Process().memory_info().rss
    trainer.train()
    hook.remove()
    ends = watch.ends
    seconds = (ends[-1] - ends[0]) / (len(ends) - 1) if len(ends) > 1 else ends[0] - watch.began
    waits = [entry["data_wait"] for entry in trainer.state.log_history if "data_wait" in entry]
    rows: Any = trainer.train_dataset
    on_gpu = args.device.type == "cuda"
    if on_gpu:
        peak, total = torch.cuda.max_memory_allocated(args.device), torch.cuda.mem_get_info(args.device)[1]
    else:
        peak, total = _peak_of_process(), psutil.virtual_memory().total
    return Cost(
        steps=trainer.state.max_steps,
        samples=trainer.get_total_train_batch_size(args),
        rows=len(rows) if has_length(rows) else None,
        epochs=trainer.state.max_steps * float(trainer.state.epoch or 0) / len(ends),
        seconds=seconds,
        measured=len(ends) - 1,
        peak=peak,
        grown=max(0, peak - before),
        total=total,
        on_gpu=on_gpu,
        waited=sum(waits[1:]) / len(waits[1:]) if waits[1:] else None,
        batch=batch,
    )


def _peak_of_process() -> int:
    """The most memory that this process has taken, in bytes."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # kilobytes on Linux
