"""`python -m benchmarks.soak`: checks that the memory and the file handles of a long run do not grow.

Prints a Markdown table; exits with 1 if they do. See README.md in this folder. Linux only.
"""

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from modeling_data2vec_generic.training.checkpointing.signals import STOPPED

from .step import table

# Everything that a run does repeatedly: epochs of a few seconds with new workers, logs, evaluations with probe and
# health check, and saves that remove older checkpoints.
FLAGS = (
    "--dataset_name digits --modality vision --label_column_name label --model_type vit --config_overrides "
    "image_size=8,patch_size=2,num_channels=3,hidden_size=32,num_hidden_layers=2,num_attention_heads=2,"
    "intermediate_size=64 --average_top_k_layers 2 --max_steps 10000000 --lr_scheduler_type constant "
    "--per_device_train_batch_size 32 --dataloader_num_workers 2 --logging_steps 100 --eval_strategy steps "
    "--eval_steps 500 --save_strategy steps --save_steps 500 --save_total_limit 2 --probe_train_samples 500 "
    "--use_cpu --disable_tqdm true --report_to none"
).split()
SETTLE_MINUTES = 5.0  # allocators and caches fill up at first
MAX_GROWTH = 0.02
SAMPLE_S = 2.0
COLUMNS = ("minute", "resident, MiB", "file handles", "processes")


@dataclass(frozen=True)
class Sample:
    """The run at one moment.

    Args:
        minute: minutes since its start.
        resident: resident memory of the main process, in MiB.
        handles: open file handles of the main process.
        processes: the main process and its children.
    """

    minute: float
    resident: float
    handles: int
    processes: int


def take(pid: int, minute: float) -> Sample:
    """Reads the state of a process from /proc."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    resident = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()
    return Sample(minute, resident / 1024, len(os.listdir(f"/proc/{pid}/fd")), 1 + len(children))


def typical(samples: Sequence[Sample], begin: float) -> Sample:
    """The medians of the minute that begins at `begin`, since workers and evaluations take more for a moment."""
    within = [sample for sample in samples if begin <= sample.minute < begin + 1]
    return Sample(
        begin,
        statistics.median(sample.resident for sample in within),
        int(statistics.median_low(sample.handles for sample in within)),
        int(statistics.median_low(sample.processes for sample in within)),
    )


def observe(minutes: float, folder: Path, flags: Sequence[str]) -> list[Sample]:
    """Trains for some minutes, ends the run by SIGTERM, and returns a sample for every two seconds.

    Raises:
        RuntimeError: the run ended by itself, or with an error.
    """
    log = folder / "log.txt"
    with log.open("w") as file:
        command = [sys.executable, "run_pretraining.py", *FLAGS, "--output_dir", str(folder / "run"), *flags]
        run = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
        samples, start = [], time.monotonic()
        try:
            while run.poll() is None and (minute := (time.monotonic() - start) / 60) < minutes:
                samples.append(take(run.pid, minute))
                time.sleep(SAMPLE_S)
            run.send_signal(signal.SIGTERM)
            code = run.wait(timeout=120)
        finally:
            run.kill()
    if code != STOPPED or not any((folder / "run").glob("checkpoint-*")):
        raise RuntimeError(f"The run ended with {code}:\n{log.read_text(encoding='utf-8')[-3000:]}")
    return samples


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0, help="length of the run, at least 2; default 20")
    options, flags = parser.parse_known_args(arguments)
    if options.minutes < 2:
        parser.error(f"--minutes {options.minutes} is too short: give 2 at least.")
    with tempfile.TemporaryDirectory() as folder:
        samples = observe(options.minutes, Path(folder), flags)
    settled, last = min(SETTLE_MINUTES, options.minutes / 2), options.minutes - 1
    rows = [typical(samples, float(minute)) for minute in range(int(options.minutes))]
    lines = [[f"{row.minute:.0f}", f"{row.resident:.1f}", str(row.handles), str(row.processes)] for row in rows]
    sys.stdout.write(table(COLUMNS, lines))
    first, end = typical(samples, min(settled, last)), typical(samples, last)
    growth = end.resident / first.resident - 1
    sys.stdout.write(
        f"\nresident memory from minute {first.minute:g} to {end.minute:g}: {100 * growth:+.2f}%; file handles: "
        f"{first.handles} and {end.handles}\n"
    )
    return int(growth > MAX_GROWTH or end.handles > first.handles)


if __name__ == "__main__":
    sys.exit(main())
