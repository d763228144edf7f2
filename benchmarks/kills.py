"""`python -m benchmarks.kills`: kills runs by SIGKILL at random moments, resumes them, and compares the results with
an uninterrupted run.

Prints a Markdown table; exits with 1 if anything differs. Other flags go to run_pretraining.py. See README.md in this
folder.
"""

import argparse
import functools
import json
import multiprocessing
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import TrainerCallback
from transformers.trainer_pt_utils import safe_globals
from transformers.trainer_utils import get_last_checkpoint

import run_pretraining
from modeling_data2vec_generic.runs import pretraining
from modeling_data2vec_generic.training.checkpointing.staging import UNFINISHED_DIR
from modeling_data2vec_generic.training.monitoring.speed import MEASURED

from .step import table

# Checkpoints are saved often: in the middle of epochs (6 steps), and between logs (5 steps). The encoder (dropout) and
# the augmentation draw random numbers, and data come from loader workers.
FLAGS = (
    "--dataset_name digits --modality vision --label_column_name label --max_train_samples 96 --max_eval_samples 32 "
    "--model_type vit --config_overrides image_size=8,patch_size=2,num_channels=3,hidden_size=16,num_hidden_layers=2,"
    "num_attention_heads=2,intermediate_size=32,hidden_dropout_prob=0.1 --average_top_k_layers 2 --crop_scale_min 0.6 "
    "--max_steps 40 --per_device_train_batch_size 8 --gradient_accumulation_steps 2 --learning_rate 0.001 "
    "--logging_steps 5 --eval_strategy steps --eval_steps 7 --save_strategy steps --save_steps 2 --seed 0 "
    "--use_cpu --disable_tqdm true --report_to none --dataloader_num_workers 2 --resume_from_checkpoint true"
).split()
COLUMNS = ("run", "kills", "of them during a save", "steps done twice", "equal")
START_S, STEP_S, SAVE_S = 4.0, 0.1, 0.15  # about how long the start, a step and a save take, in seconds
POLL_S = 0.0005
TIMEOUT_S = 300

processes = multiprocessing.get_context("forkserver")  # imports modules once; children do not inherit threads
PRELOADED = (
    "run_pretraining",
    "modeling_data2vec_generic.modalities.vision.modality",
    "sklearn.linear_model",
    "matplotlib.figure",
)
processes.set_forkserver_preload([*PRELOADED])


class _StepCounter(TrainerCallback):
    def __init__(self, steps: Any, reached: Any):
        self.steps, self.reached = steps, reached

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.steps.value += 1
        self.reached.value = state.global_step


def train(flags: list[str], log: Path, steps: Any, reached: Any) -> None:
    """Runs the script in this process. `steps` counts its steps, and `reached` is the number of the last one."""
    multiprocessing.set_start_method("fork", force=True)  # for loader workers, as when the script is run by itself
    with log.open("a") as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())
    trainer_class = pretraining.Data2VecTrainer
    counter = _StepCounter(steps, reached)
    pretraining.Data2VecTrainer = functools.partial(trainer_class, callbacks=[counter])  # type: ignore[assignment,misc]
    run_pretraining.main(flags)


class Attempt:
    """One process that trains in `output_dir` until it is done or killed."""

    def __init__(self, output_dir: Path, *flags: str):
        self.output_dir = output_dir
        self.log = output_dir.with_suffix(".log")
        self.steps, self.reached = (processes.Value("q", 0, lock=False) for _ in range(2))
        argv = [*FLAGS, "--output_dir", str(output_dir), *flags]
        self.process = processes.Process(target=train, args=(argv, self.log, self.steps, self.reached))
        self.process.start()

    def finish(self) -> None:
        self.process.join(TIMEOUT_S)
        if self.process.exitcode != 0:
            self.process.kill()
            raise RuntimeError(f"The run ended with {self.process.exitcode}:\n{self.log.read_text()[-3000:]}")

    def kill_after(self, seconds: float) -> bool:
        """Kills the run after `seconds`. Returns whether it was still running."""
        self.process.join(seconds)
        if self.process.exitcode is not None:
            self.finish()
            return False
        self.process.kill()
        self.process.join()
        return True

    def kill_in_step(self, number: int, share: float) -> bool:
        """Kills the run in the `number`-th step of this attempt; 0 is the time before the first step."""
        while self.process.is_alive() and self.steps.value < number:
            time.sleep(POLL_S)
        return self.kill_after(share * (STEP_S if number else START_S))

    def kill_in_save(self, number: int, seconds: float) -> bool:
        """Kills the run `seconds` after the `number`-th save of this attempt has begun."""
        folder, before = self.output_dir / UNFINISHED_DIR, True
        while number and self.process.is_alive():
            saving = folder.exists()
            number -= saving and not before
            before = saving
            time.sleep(POLL_S)
        return self.kill_after(seconds)


@dataclass
class Result:
    """The result of one run.

    Args:
        kills: how often it was killed.
        in_save: how often during a save.
        repeated: steps that were taken twice.
        differences: how it differs from the reference.
    """

    kills: int = 0
    in_save: int = 0
    repeated: int = 0
    differences: tuple[str, ...] = ()


def killed_run(output_dir: Path, reference: Path, kills: int, chance: random.Random, flags: Sequence[str]) -> Result:
    """Kills one run at most `kills` times, every second time during a save, resumes it each time, and compares it."""
    result = Result()
    while result.kills < kills:
        attempt = Attempt(output_dir, *flags, "--save_total_limit", "2")
        if result.kills % 2 == 0:
            killed = attempt.kill_in_save(chance.randint(1, 4), chance.uniform(0, SAVE_S))
        else:
            killed = attempt.kill_in_step(chance.randint(0, 8), chance.random())
        if not killed:
            break
        result.kills += 1
        result.in_save += (output_dir / UNFINISHED_DIR).exists()
        last = get_last_checkpoint(str(output_dir)) if output_dir.exists() else None
        saved = 0 if last is None else int(last.rpartition("-")[2])
        result.repeated += max(attempt.reached.value - saved, 0)
        result.differences += tuple(checkpoint_differences(output_dir, reference))
    else:
        Attempt(output_dir, *flags, "--save_total_limit", "2").finish()
    result.differences += tuple(final_differences(output_dir, reference))
    return result


def checkpoint_differences(output_dir: Path, reference: Path) -> Iterator[str]:
    """How the checkpoints differ from those that the reference saved at the same steps."""
    for checkpoint in output_dir.glob("checkpoint-*"):
        yield from differences(checkpoint, reference / checkpoint.name)


def final_differences(output_dir: Path, reference: Path) -> Iterator[str]:
    """How the files of a finished run, including its last checkpoints, differ from those of the reference."""
    yield from checkpoint_differences(output_dir, reference)
    yield from differences(output_dir / "encoder", reference / "encoder")
    yield from differences(output_dir, reference)


def differences(folder: Path, reference: Path) -> Iterator[str]:
    """Files that only one folder has, and files whose contents differ. Times and flags are ignored."""
    names, expected = ({path.name for path in side.iterdir() if path.is_file()} for side in (folder, reference))
    yield from (f"{folder / name}: only in one of the runs" for name in names ^ expected)
    for name in sorted(names & expected):
        if not same(content(folder / name), content(reference / name)):
            yield f"{folder / name} differs"


def content(path: Path) -> Any:
    """The part of a file's content that must be equal."""
    if path.suffix == ".safetensors":
        return {name: tensor for name, tensor in load_file(path).items() if name != "seconds"}
    if path.suffix in (".pt", ".pth"):
        with safe_globals():
            return torch.load(path, weights_only=True)
    if path.suffix == ".json":
        return _without_clock(json.loads(path.read_text(encoding="utf-8")))
    return None  # not compared: training_args.bin and README.md (flags and times), and figures


def same(one: Any, other: Any) -> bool:
    """Whether two contents are equal bit by bit: NaN equals NaN, but 0.0 does not equal -0.0."""
    if type(one) is not type(other):
        return False
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and one.shape == other.shape and _bytes(one) == _bytes(other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return repr(one) == repr(other)  # the repr of a float has all its digits


def _bytes(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes()


def _without_clock(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_clock(v) for k, v in value.items() if not k.endswith((*MEASURED, "best_model_checkpoint"))}
    if isinstance(value, list):
        return [_without_clock(item) for item in value]
    return value


def main(arguments: Sequence[str] | None = None) -> int:
    options, flags = _parser().parse_known_args(arguments)
    chance, results = random.Random(options.seed), list[Result]()
    with tempfile.TemporaryDirectory() as folder:
        reference = Path(folder, "reference")
        Attempt(reference, *flags).finish()
        while (left := options.kills - sum(result.kills for result in results)) > 0:
            run = Path(folder, f"run-{len(results) + 1}")
            results.append(killed_run(run, reference, left, chance, flags))
            sys.stderr.write("".join(f"{line}\n" for line in results[-1].differences))
    rows = [
        (number, result.kills, result.in_save, result.repeated, "no" if result.differences else "yes")
        for number, result in enumerate(results, 1)
    ]
    totals = [sum(row[i] for row in rows) for i in (1, 2, 3)]  # type: ignore[misc]
    equal = not any(result.differences for result in results)
    sys.stdout.write(table(COLUMNS, [*rows, ("all", *totals, "yes" if equal else "no")]))
    return 0 if equal else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=20, help="number of kills, over several runs; default 20")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random moments; default 0")
    return parser


if __name__ == "__main__":
    sys.exit(main())
