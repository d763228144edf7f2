"""Small runs on noise, that can be killed or stopped, and what is compared of two runs."""

import os
import signal
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import TrainerCallback, set_seed

from modeling_data2vec_generic import (
    Data2VecGenericConfig,
    Data2VecGenericForPreTraining,
    Data2VecTrainer,
    Data2VecTrainingArguments,
)
from modeling_data2vec_generic.training.monitoring.speed import MEASURED

from ..tiny import tiny_encoder

PATCHES = 16


class Images(torch.utils.data.Dataset):
    """22 noise images, each with a mask that belongs to it."""

    def __len__(self) -> int:
        return 22

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        noise = torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(index))
        return {"pixel_values": noise, "mask": (torch.arange(PATCHES)[None] + index) % PATCHES < 3 + index % 4}


class Killed(BaseException):
    """Stands for SIGKILL: nothing of ours runs any more."""


class Kill(TrainerCallback):
    def __init__(self, step: int):
        self.step = step

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            raise Killed


class Signal(TrainerCallback):
    """SIGTERM, or another signal, in the middle of a step."""

    def __init__(self, step: int, number: int = signal.SIGTERM):
        self.step, self.number = step, number

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step + 1 == self.step:
            os.kill(os.getpid(), self.number)


def trainer(output_dir: Path, seed: int = 0, dtype: Any = torch.float32, callbacks: Any = (), **flags: Any) -> Any:
    set_seed(seed)
    encoder = tiny_encoder("vit", hidden_dropout_prob=0.1)
    for module in encoder.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.1  # what draws from the random state within a step
    model = Data2VecGenericForPreTraining(Data2VecGenericConfig(), encoder).to(dtype)
    defaults = {"max_steps": 7, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}
    defaults |= {"learning_rate": 0.01, "logging_steps": 3, "save_strategy": "steps", "save_steps": 2}
    defaults |= {"report_to": "none", "disable_tqdm": True, "use_cpu": True, "ema_decay": 0.5, "ema_end_decay": 0.9}
    return Data2VecTrainer(
        model=model,
        args=Data2VecTrainingArguments(output_dir=str(output_dir), **defaults | flags),
        train_dataset=Images(),
        eval_dataset=Images(),
        data_collator=torch.utils.data.default_collate,
        callbacks=list(callbacks),
    )


def last_checkpoint(folder: Path) -> str:
    return str(max(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2])))


def history(run: Any) -> list[dict[str, float]]:
    """What was logged, to the last bit, but for what a clock says."""
    return [{k: v for k, v in entry.items() if not k.endswith(MEASURED)} for entry in run.state.log_history]


def everything(run: Any) -> dict[str, torch.Tensor]:
    state = {f"model.{name}": tensor for name, tensor in run.model.state_dict().items()}
    accumulators = load_file(Path(last_checkpoint(Path(run.args.output_dir)), "teacher.safetensors"))
    state |= {f"teacher.{name}": tensor for name, tensor in accumulators.items()}
    for index, slots in run.optimizer.state_dict()["state"].items():
        state |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in slots.items()}
    return state


def assert_same_run(run: Any, other: Any, rng: torch.Tensor) -> None:
    assert history(run) == history(other)
    mine, its = everything(run) | {"rng": torch.get_rng_state()}, everything(other) | {"rng": rng}
    assert mine.keys() == its.keys()
    assert [name for name in mine if not torch.equal(mine[name], its[name])] == []
    assert run.lr_scheduler.state_dict() == other.lr_scheduler.state_dict()
    assert run.teacher_updates == other.teacher_updates


def files(folder: Path) -> dict[str, int | None]:
    """Sizes by name; None for files that hold a clock's values or the folder's own path."""
    varying = ("trainer_state.json", "training_args.bin")
    return {path.name: None if path.name in varying else path.stat().st_size for path in folder.iterdir()}
