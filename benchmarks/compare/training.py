"""Pre-training for a table, with a clock: data2vec by the package's `pretrain`, others by transformers' Trainer.

Budgets that share their beginning are trained as a trunk with branches (`Branches`).
"""

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor
from torch.utils.data import Dataset
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from modeling_data2vec_generic import pretrain
from modeling_data2vec_generic.runs import pretraining
from modeling_data2vec_generic.training.monitoring.health import PREFIX

from .table import Outcome

CLOCK_NAME = "cpu_seconds.json"
DIGITS = 4  # of the numbers of a look that are kept

QUIET = {
    "save_strategy": "no",
    "report_to": "none",
    "disable_tqdm": True,
    "dataloader_num_workers": 0,
    "logging_steps": 25,
}
"""Arguments of all runs, by transformers' names, which a table may override."""


class Clock(TrainerCallback):
    """Reads the CPU seconds of this process during training, and writes them into each checkpoint, as its last file.

    Args:
        on_cpu: whether the model is on the CPU; with an accelerator the seconds that pass are read.

    Attributes:
        marks: seconds since the beginning of training, at the beginning and after each step.
        before: those that the run had taken before it was resumed.
    """

    def __init__(self, on_cpu: bool):
        self.marks: list[float] = []
        self.before = 0.0
        self._now = time.process_time if on_cpu else time.perf_counter
        self._began, self._ended = self._now(), None

    @property
    def seconds(self) -> float:
        """Seconds of training until now or its end, with those before it was resumed."""
        return self.before + (self._ended or self._now()) - self._began

    @property
    def of_steps(self) -> list[float]:
        """Seconds of each step."""
        return [after - before for before, after in zip(self.marks, self.marks[1:], strict=False)]

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._began, self._ended = self._now(), None
        self.marks = [0.0]

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.marks.append(self._now() - self._began)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        checkpoint = Path(args.output_dir, f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}")
        (checkpoint / CLOCK_NAME).write_text(json.dumps(self.seconds), encoding="utf-8")

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._ended = self._now()

    def resume(self, checkpoint: str | Path) -> None:
        """Go on from what the clock had written into a checkpoint."""
        self.before = json.loads(Path(checkpoint, CLOCK_NAME).read_text(encoding="utf-8"))


@dataclass
class Trained:
    """A run of training.

    Args:
        encoder_dir: folder of the plain encoder and its processor.
        clock: that of the run.
        steps: optimizer steps, with those before it was resumed.
        health, final_loss, looks, warmup_steps: as in `Outcome`.
    """

    encoder_dir: Path
    clock: Clock
    steps: int
    final_loss: float | None
    health: str | None = None
    looks: list[dict[str, Any]] | None = None
    warmup_steps: int = 0

    def outcome(self, scores: dict[str, float], untrained: dict[str, float] | None = None) -> Outcome:
        """The outcome of the run, with its scores."""
        return Outcome(
            steps=self.steps,
            cpu_s=self.clock.seconds,
            scores=scores,
            untrained=untrained,
            health=self.health,
            final_loss=self.final_loss,
            looks=self.looks,
            warmup_steps=self.warmup_steps,
        )


def pretrain_data2vec(recipe: Mapping[str, Any], folder: Path, **arguments: Any) -> Trained:
    """Pre-trains by `modeling_data2vec_generic.pretrain`, with a clock.

    No rows are held out, which others train on too. The health is measured before the first step and at the end.

    Args:
        recipe: flags of `data2vec pretrain`.
        folder: the output directory. What it holds is overwritten, unless the run is resumed.
        arguments: further flags, which override those of the recipe; `max_steps` is one of them.
            `resume_from_checkpoint` sets the clock too.
    """
    clock = Clock(on_cpu=arguments.get("use_cpu", False))
    checkpoint = arguments.get("resume_from_checkpoint")
    if checkpoint is not None:
        clock.resume(checkpoint)
    place = {"output_dir": str(folder), "overwrite_output_dir": checkpoint is None}
    fixed = {**QUIET, **place, "validation_split_percentage": 0, "health_steps": arguments["max_steps"]}
    with _observed_by(clock):
        run = pretrain({**fixed, **recipe, **arguments})
    state = run.trainer.state
    return Trained(
        run.encoder_dir,
        clock,
        state.global_step,
        last_loss(state.log_history),
        health=run.metrics.get("health"),
        looks=looks_in(state.log_history),
        warmup_steps=run.trainer.args.get_warmup_steps(state.max_steps),
    )


class PeerTrainer(Trainer):
    """transformers' Trainer, which resumes models whose weights have other names in files than in memory, too.

    Trainer itself leaves such weights as they are, with a warning: those of ViTMAEForPreTraining, for instance.
    """

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        saved = type(self.model).from_pretrained(resume_from_checkpoint)
        self.model.load_state_dict(saved.state_dict())


def train_peer(
    model: PreTrainedModel,
    dataset: Dataset | list[Any],
    collate: Callable[[list[Any]], dict[str, Any]],
    plain: Callable[[Any], PreTrainedModel],
    processor: Any,
    folder: Path,
    callbacks: Sequence[TrainerCallback] = (),
    **arguments: Any,
) -> Trained:
    """Pre-trains a model of transformers by its own Trainer, with a clock.

    Args:
        model: with the head and the loss of its pre-training.
        dataset: its samples.
        collate: makes batches of them.
        plain: takes the plain encoder out of the trained model; see `plain_encoder`.
        processor: saved beside the encoder; None if it has none.
        folder: where checkpoints are written, and the encoder to `encoder/`.
        callbacks: further ones of the Trainer.
        arguments: of `TrainingArguments`; `resume_from_checkpoint` sets the clock too.
    """
    clock = Clock(on_cpu=arguments.get("use_cpu", False))
    checkpoint = arguments.pop("resume_from_checkpoint", None)
    if checkpoint is not None:
        clock.resume(checkpoint)
    settings = {**QUIET, "remove_unused_columns": False, **arguments}
    trainer = PeerTrainer(
        model,
        TrainingArguments(str(folder), **settings),
        collate,
        train_dataset=dataset,
        callbacks=[clock, *callbacks],
    )
    trainer.train(resume_from_checkpoint=checkpoint)
    encoder_dir = folder / "encoder"
    plain(model).save_pretrained(encoder_dir)
    if processor is not None:
        processor.save_pretrained(encoder_dir)
    return Trained(encoder_dir, clock, trainer.state.global_step, last_loss(trainer.state.log_history))


def plain_encoder(encoder: PreTrainedModel, weights: Mapping[str, Tensor], unlike: Sequence[str] = ()) -> Any:
    """Loads weights of another class into a plain encoder, and returns it.

    Args:
        encoder: of the class that AutoModel has for the backbone.
        weights: those of the encoder inside the other class, by the names that the plain one has.
        unlike: beginnings of names that only one of the two may have, such as those of a pooler that stays new.

    Raises:
        ValueError: another weight is missing, or has no place.
    """
    names = encoder.load_state_dict(dict(weights), strict=False)
    unmatched = [name for name in [*names.missing_keys, *names.unexpected_keys] if not name.startswith(tuple(unlike))]
    if unmatched:
        raise ValueError(f"The weights do not fit a {type(encoder).__name__}: {', '.join(unmatched)}.")
    return encoder


def last_loss(log_history: Sequence[Mapping[str, Any]]) -> float | None:
    """The training loss that Trainer logged last."""
    return next((entry["loss"] for entry in reversed(log_history) if "loss" in entry), None)


def looks_in(log_history: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The steps and the vital signs of all looks of the health check, as `verdict` takes them."""
    return [_look(entry) for entry in log_history if f"{PREFIX}loss" in entry]


def _look(entry: Mapping[str, Any]) -> dict[str, Any]:
    signs = {
        name.removeprefix(PREFIX): float(f"{value:.{DIGITS}g}")
        for name, value in entry.items()
        if name.startswith(PREFIX) and name != f"{PREFIX}runtime"
    }
    return {"step": entry["step"], **signs}


@contextmanager
def _observed_by(callback: TrainerCallback) -> Iterator[None]:
    """While it lasts, `pretrain` trains with one more callback and draws nothing, neither of which a flag can say."""
    trainer, pictures_of = pretraining.Data2VecTrainer, pretraining.pictures_of
    pretraining.Data2VecTrainer = partial(trainer, callbacks=[callback])  # type: ignore[assignment,misc]
    pretraining.pictures_of = lambda *arguments: None  # its features and figures would count as training
    try:
        yield
    finally:
        pretraining.Data2VecTrainer, pretraining.pictures_of = trainer, pictures_of  # type: ignore[misc]


def steps_for(budget_s: float, seconds_per_step: float) -> int:
    """How many steps a budget pays for."""
    return max(10, round(budget_s / seconds_per_step))


def checkpoints_in(folder: Path) -> list[Path]:
    """The checkpoints of a run that were written to their end, in the order of their steps."""
    whole = [path.parent for path in folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*/{CLOCK_NAME}")]
    return sorted(whole, key=lambda path: int(path.name.removeprefix(f"{PREFIX_CHECKPOINT_DIR}-")))


class Train(Protocol):
    """Trains one contender: `folder`, and arguments by transformers' names, which override the contender's own."""

    def __call__(self, folder: Path, **arguments: Any) -> Trained: ...


@dataclass(frozen=True)
class Branches:
    """Runs of several budgets that share their beginning: a trunk at a constant rate, and a branch for each budget.

    The learning rate of the trunk rises over a tenth of the smallest budget and is constant then. At 80% of each
    budget a branch leaves the trunk, in which the rate falls to nothing over the last fifth (`warmup_stable_decay` of
    transformers). So all budgets together take the time of the largest one and a fifth of each of the others. The
    trunk is saved at each branch and between them, and goes on from there, also if it was cut off.

    Args:
        budgets: all budgets, in whole CPU seconds.
        seconds_per_step: of this contender, in CPU seconds.
        folder: where the trunk and the branches lie.
    """

    budgets: Sequence[int]
    seconds_per_step: float
    folder: Path

    @property
    def unit(self) -> int:
        """Steps of the trunk between two checkpoints."""
        return max(4, round(0.8 * math.gcd(*self.budgets) / self.seconds_per_step))

    def train(self, budget_s: int, train: Train) -> Trained:
        """Lets the trunk grow as far as a budget needs it, and trains its branch, whose result it returns."""
        warmup = {"warmup_steps": round(0.1 * min(self.budgets) / self.seconds_per_step)}
        trunk, branch = self.folder / "trunk", self.folder / f"{budget_s}_s"
        leaves_at = self.unit * (budget_s // math.gcd(*self.budgets))
        checkpoint = trunk / f"{PREFIX_CHECKPOINT_DIR}-{leaves_at}"
        saved = checkpoints_in(trunk)
        if checkpoint not in saved:
            train(
                trunk,
                max_steps=leaves_at,
                lr_scheduler_type="constant_with_warmup",
                save_strategy="steps",
                save_steps=self.unit,
                resume_from_checkpoint=str(saved[-1]) if saved else None,
                **warmup,
            )
        decay = max(1, leaves_at // 4)
        return train(
            branch,
            max_steps=leaves_at + decay,
            lr_scheduler_type="warmup_stable_decay",
            lr_scheduler_kwargs={"num_decay_steps": decay},
            resume_from_checkpoint=str(checkpoint),
            **warmup,
        )
