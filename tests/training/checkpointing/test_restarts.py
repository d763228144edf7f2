"""A trainer that begins anew: with a model from `model_init`, in further trials of a search, with smaller batches."""

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import default_collate
from transformers import TrainerCallback
from transformers.hyperparameter_search import ALL_HYPERPARAMETER_SEARCH_BACKENDS
from transformers.trainer_utils import BestRun, HPSearchBackend

from modeling_data2vec_generic import (
    Data2VecGenericConfig,
    Data2VecGenericForPreTraining,
    Data2VecTrainer,
    Data2VecTrainingArguments,
)
from modeling_data2vec_generic.training.monitoring.speed import MEASURED

from ...tiny import tiny_encoder
from ..small_runs import Images


def new_model() -> Data2VecGenericForPreTraining:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Data2VecGenericForPreTraining(Data2VecGenericConfig(), tiny_encoder("vit"))


def new_trainer(output_dir: Path, callbacks: Any = (), model_init: Any = None, **flags: Any) -> Data2VecTrainer:
    defaults = {"max_steps": 4, "per_device_train_batch_size": 4, "learning_rate": 0.01, "logging_steps": 1}
    defaults |= {"save_strategy": "no", "report_to": "none", "disable_tqdm": True, "use_cpu": True}
    defaults |= {"ema_decay": 0.5, "ema_end_decay": 0.9, "ema_anneal_steps": 4, "eval_strategy": "steps"}
    return Data2VecTrainer(
        model=None if model_init else new_model(),
        model_init=model_init,
        args=Data2VecTrainingArguments(output_dir=str(output_dir), **defaults | flags),
        train_dataset=Images(),
        eval_dataset=Images(),
        data_collator=default_collate,
        callbacks=list(callbacks),
    )


def logs(trainer: Data2VecTrainer) -> list[dict[str, float]]:
    clock = (*MEASURED, "total_flos")
    return [{k: v for k, v in entry.items() if not k.endswith(clock)} for entry in trainer.state.log_history]


def assert_same_weights(one: torch.nn.Module, other: torch.nn.Module) -> None:
    weights, expected = one.state_dict(), other.state_dict()
    assert [name for name in weights if not torch.equal(weights[name], expected[name])] == []


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Data2VecTrainer:
    trainer = new_trainer(tmp_path_factory.mktemp("plain"))
    trainer.train()
    return trainer


def test_model_init__trains_as_the_model_itself_does(plain, tmp_path):
    trainer = new_trainer(tmp_path, model_init=new_model)
    trainer.train()
    assert logs(trainer) == logs(plain)
    assert_same_weights(trainer.model, plain.model)
    assert trainer.teacher_updates == 4


class Backend:
    """A search as that of Optuna runs it, over trials that are given."""

    default_hp_space = staticmethod(dict)
    outcomes: list[tuple[list[dict[str, float]], int, dict[str, torch.Tensor]]] = []

    def ensure_available(self) -> None:
        pass

    def run(self, trainer: Any, n_trials: int, direction: str) -> BestRun:
        for number in range(n_trials):
            trainer.objective = None
            trainer.train(trial={"learning_rate": (0.02, 0.01)[number]})
            weights = {name: value.clone() for name, value in trainer.model.state_dict().items()}
            self.outcomes.append((logs(trainer), trainer.teacher_updates, weights))
            trainer.model_wrapped = trainer.model = None  # as Optuna's does
            trainer.accelerator.clear()
        return BestRun("1", trainer.objective, {})


def test_hyperparameter_search__begins_each_trial_anew(plain, tmp_path, monkeypatch):
    monkeypatch.setitem(ALL_HYPERPARAMETER_SEARCH_BACKENDS, HPSearchBackend.WANDB, Backend)
    monkeypatch.setattr("transformers.integrations.hp_params", dict)
    monkeypatch.setattr(Data2VecTrainer, "_get_output_dir", lambda trainer, trial: str(tmp_path))
    monkeypatch.setattr(Backend, "outcomes", [])
    trainer = new_trainer(tmp_path, model_init=new_model)
    trainer.hyperparameter_search(n_trials=2, backend="wandb", compute_objective=lambda metrics: metrics["eval_loss"])
    (first, _, _), (second, updates, weights) = Backend.outcomes
    assert first != second
    assert second == logs(plain)  # the second trial has its settings
    assert updates == 4
    expected = plain.model.state_dict()
    assert [name for name in weights if not torch.equal(weights[name], expected[name])] == []


class OutOfMemory(TrainerCallback):
    """Runs out of memory in the third step, until batches are smaller than 4."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 2 and state.train_batch_size >= 4:
            raise RuntimeError("CUDA out of memory. Tried to allocate more.")


def test_auto_find_batch_size__ends_as_the_run_with_that_batch(tmp_path):
    flags = {"reference_batch_size": 2, "warmup_steps": 6}
    expected = new_trainer(tmp_path / "expected", per_device_train_batch_size=3, **flags)
    expected.train()
    before = signal.getsignal(signal.SIGTERM)
    trainer = new_trainer(tmp_path / "found", [OutOfMemory()], auto_find_batch_size=True, **flags)
    trainer.train()
    assert trainer.state.train_batch_size == 3
    assert trainer.args.warmup_steps == expected.args.warmup_steps == 4  # 12 samples
    assert trainer.teacher_updates == 4
    assert logs(trainer) == logs(expected)
    assert_same_weights(trainer.model, expected.model)
    assert signal.getsignal(signal.SIGTERM) is before
