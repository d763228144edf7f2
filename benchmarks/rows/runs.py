"""Runs of run_pretraining.py with tiny encoders, each in a process of its own, and what is noted of them."""

import contextlib
import functools
import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
from transformers import TrainerCallback

import run_pretraining
from modeling_data2vec_generic import Data2VecTrainer
from modeling_data2vec_generic.runs import pretraining

from ..kills import processes

VISION = (
    "--modality vision --model_type vit --config_overrides image_size=8,patch_size=2,num_channels=3,hidden_size=16,"
    "num_hidden_layers=2,num_attention_heads=2,intermediate_size=32 --average_top_k_layers 2"
)
TEXT = (
    "--modality text --model_type bert --config_overrides hidden_size=16,num_hidden_layers=2,num_attention_heads=2,"
    "intermediate_size=32 --average_top_k_layers 2 --max_seq_length 64"
)
SPEECH = (
    "--modality speech --model_type data2vec-audio --config_overrides hidden_size=32,num_hidden_layers=2,"
    "num_attention_heads=2,intermediate_size=32,conv_dim=[16,16,16,16,16,16,16],num_conv_pos_embedding_groups=4,"
    "conv_pos_kernel_size=5,num_conv_pos_embeddings=2,vocab_size=32,mask_time_prob=0.0 --average_top_k_layers 2"
)
ENCODERS = {"vision": VISION.split(), "text": TEXT.split(), "speech": SPEECH.split()}
ALWAYS = (
    "--objective data2vec --per_device_train_batch_size 16 --health_steps 1000000 --probe_train_samples 100 "
    "--probe_test_samples 100 --eval_strategy no --save_strategy no --seed 0 --use_cpu --disable_tqdm true "
    "--report_to none --overwrite_output_dir"
).split()
TIMEOUT_S = 1800


@dataclass
class Run:
    """What is noted of a run.

    Args:
        seconds: from the call of `run_pretraining.main` to the end of the first optimizer step.
        resident: largest resident memory, in MiB, of its process or of one that it started, whichever is larger.
        logged: its last training log.
    """

    seconds: float = 0.0
    resident: float = 0.0
    logged: dict[str, float] = field(default_factory=dict)


class Stop(BaseException):
    """Ends a run whose steps have been taken, since what a run does after its last step is not measured."""


class Notes(TrainerCallback):
    def __init__(self, run: Run, began: float):
        self.run, self.began = run, began

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 1:
            self.run.seconds = time.perf_counter() - self.began
            usage = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
            self.run.resident = max(usage) / 1024

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if "loss" in logs and state.global_step == args.max_steps:
            self.run.logged = logs
            raise Stop


def noted_run(run: Run, began: float) -> Any:
    """A trainer whose run is noted."""
    return functools.partial(Data2VecTrainer, callbacks=[Notes(run, began)])


def measured(
    modality: str, folder: Path, *flags: str, steps: int = 1, noted: Callable[[Run, float], Any] = noted_run
) -> Run:
    """Trains for some steps in a new process, and logs after half of them and after all.

    Args:
        modality: one of ENCODERS.
        folder: holds the cache, and the output.
        flags: of run_pretraining.py, besides the encoder's.
        noted: makes what takes the place of `Data2VecTrainer`, from what is to be filled in and the time of the start.

    Raises:
        RuntimeError: the run failed; the end of its log is in the message.
    """
    often = ["--max_steps", str(steps), "--logging_steps", str(max(steps // 2, 1))]
    argv = [*ENCODERS[modality], *ALWAYS, *often, "--output_dir", str(folder / "output"), *flags]
    receiver, sender = processes.Pipe(duplex=False)
    process = processes.Process(target=_train, args=(argv, folder, noted, sender))
    process.start()
    sender.close()
    run = receiver.recv() if receiver.poll(TIMEOUT_S) else None
    process.kill()
    process.join()
    if run is None:
        raise RuntimeError(f"The run took longer than {TIMEOUT_S} s:\n{_end_of_log(folder)}")
    if isinstance(run, str):
        raise RuntimeError(f"The run failed: {run}\n{_end_of_log(folder)}")
    return run


def _end_of_log(folder: Path) -> str:
    return (folder / "log.txt").read_text(encoding="utf-8")[-3000:]


def _train(argv: Sequence[str], folder: Path, noted: Callable[[Run, float], Any], sender: Any) -> None:
    """Runs the script in this process."""
    datasets.config.HF_DATASETS_CACHE = folder / "cache"
    with (folder / "log.txt").open("a") as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())
    run = Run()
    pretraining.Data2VecTrainer = noted(run, time.perf_counter())  # type: ignore[misc]
    try:
        with contextlib.suppress(Stop):
            run_pretraining.main(list(argv))
        sender.send(run)
    except BaseException as error:
        sender.send(f"{type(error).__name__}: {error}")
        raise
