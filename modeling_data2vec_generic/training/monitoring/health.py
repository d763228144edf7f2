"""Is the run learning, or collapsing: what a fixed batch shows, and what it means in words.

The loss alone can't tell. It may rise in a run that is well, and fall in one that has collapsed to a constant that is
easy to predict.
"""

import math
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import TrainerCallback
from transformers.utils import logging

from ...backbone_data2vec_generic import as_sequence, first, hooked, recorded_layers
from ...configuration_data2vec_generic import Data2VecGenericConfig
from ...data.streams import WindowedStream
from ...evaluation.probe import effective_rank
from ...geometry_data2vec_generic import real_positions
from ...measurements_data2vec_generic import all_inputs, undisturbed
from ...modeling_data2vec_generic import Data2VecGenericForPreTraining
from ...objective_data2vec_generic import regression_loss, spread
from ..arguments import Data2VecTrainingArguments
from ..checkpointing.output_dir import last_checkpoint

logger = logging.get_logger(__name__)

PREFIX = "health_"
DEPTHS = ("embeddings", "middle", "top")
HEALTHY = "healthy"
RISING = "rising loss with a rising target"
PARTIAL = "partial collapse of the embeddings"
COLLAPSED = "collapsed"
TOO_EARLY = "too early"
STATES = (HEALTHY, RISING, PARTIAL, COLLAPSED, TOO_EARLY)

# Beside what the run itself has shown, since spread, rank and cosine of an untrained encoder depend on its type, its
# position embeddings and its input, so that no absolute limit holds for all. Digits that learn lose at most a fifth of
# their rank on the way, WordNet two thirds during its warm-up, which come back; without normalised targets, or at
# fifty times the learning rate, digits lose over nine tenths within thirty steps.
COLLAPSED_SPREAD = 0.1  # of the targets' spread before the first step
COLLAPSED_LOSS_OF_RANK = 0.85  # of the effective rank above 1 that the last block once had
PARTIAL_LOSS_OF_RANK = 0.5  # the same, at any depth
LOWEST_RANK = 1.5  # what never had more directions than this can't be judged by losing them
RISE = 1.05  # of the loss above its lowest, and of the targets' spread above what it was then
SAMPLES = 128


@torch.no_grad()
def vital_signs(model: Data2VecGenericForPreTraining, batches: Iterable[Mapping[str, Tensor]]) -> dict[str, float]:
    """What a model makes of fixed batches with fixed masks, in evaluation mode.

    Args:
        batches: what the collator gives: the encoder's inputs and `mask`.

    Returns:
        - `loss`, and `loss_to_trivial`: its share of what predicting the mean target everywhere would cost; from 1 on,
          nothing has been learned.
        - `target_std`, `prediction_std`: see `spread`, over masked positions.
        - `rank_DEPTH`, `cosine_DEPTH`: effective rank (RankMe, arXiv 2210.02885) and mean cosine of all pairs of
          samples, of the student's features on full input, averaged over the content of each sample, at the input of
          the first block ("embeddings"), at the middle block and at the last one ("top").
        - `teacher_distance`: 1 minus the cosine of the student's and the teacher's features at the top.
    """
    losses, targets, predictions, masked = [], [], [], 0
    features: dict[str, list[Tensor]] = {name: [] for name in (*DEPTHS, "teacher")}
    with undisturbed(model):
        torch.manual_seed(0)  # the noise in the masked places of a decoder's input
        for batch in batches:
            batch = {name: value.to(model.device) for name, value in batch.items()}
            output = model(**batch)
            losses.append(output.loss * output.num_masked)
            masked += output.num_masked
            targets.append(output.targets)
            predictions.append(output.predictions)
            for name, values in _features(model, model.encoder, batch).items():
                features[name].append(values)
            features["teacher"].append(_features(model, model.teacher, batch)["top"])
    target, prediction = torch.cat(targets), torch.cat(predictions)
    pooled = {name: torch.cat(values) for name, values in features.items()}
    config = model.config
    trivial = regression_loss(target.mean(0).expand_as(target), target, config.loss_beta, config.loss_scale)
    predicted = regression_loss(prediction, target, config.loss_beta, config.loss_scale)
    signs: dict[str, Tensor | float] = {
        "loss": torch.stack(losses).sum() / masked,
        "loss_to_trivial": predicted / trivial,
        "target_std": spread(target),
        "prediction_std": spread(prediction),
        "teacher_distance": 1 - torch.cosine_similarity(pooled["top"], pooled["teacher"]).mean(),
    }
    for depth in DEPTHS:
        finite = bool(pooled[depth].isfinite().all())
        signs[f"rank_{depth}"] = effective_rank(pooled[depth].cpu().numpy()) if finite else math.nan
        signs[f"cosine_{depth}"] = mean_cosine(pooled[depth])
    return {name: float(value) for name, value in signs.items()}


def mean_cosine(features: Tensor) -> Tensor:
    """Mean cosine over all pairs of different rows of features (N, C), N > 1."""
    count = len(features)
    total = torch.nn.functional.normalize(features, dim=1).sum(0).square().sum()
    return (total - count) / (count * (count - 1))


def _features(model: Data2VecGenericForPreTraining, encoder: Any, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """(B, C) at each depth: means over the content of what the encoder makes of its full input."""
    measurements, layout = model.measurements, model.layout
    assert measurements is not None  # the model has run
    inputs = {name: value for name, value in batch.items() if name != "mask" and not name.startswith("student_")}
    length, prefix = batch["mask"].shape[-1], measurements.prefix
    entered: list[Tensor] = []

    def enter(block: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        hidden = args[0] if args else next(iter(kwargs.values()))
        entered.append(as_sequence(first(hidden), layout.quirks.channels_first))

    block = encoder.get_submodule(layout.blocks[0])
    with (
        hooked(block.register_forward_pre_hook, enter, with_kwargs=True),
        recorded_layers(encoder, layout, "block") as layers,
    ):
        encoder(**all_inputs(layout, inputs, length))
    real = real_positions(encoder, inputs, length, measurements.stride)
    found = {}
    for name, hidden in zip(DEPTHS, (entered[0], layers[(len(layers) - 1) // 2], layers[-1]), strict=True):
        content = hidden[:, prefix : prefix + length].float()
        if real is None:
            found[name] = content.mean(1)
        else:
            weight = real.unsqueeze(-1)
            found[name] = torch.where(weight, content, 0.0).sum(1) / weight.sum(1)
    return found


@dataclass(frozen=True)
class Verdict:
    """How a run is.

    Args:
        state: one of STATES.
        reason: what shows it, in words and figures.
    """

    state: str
    reason: str


def verdict(history: list[dict[str, float]]) -> Verdict:
    """What the latest vital signs mean beside the earlier ones.

    Args:
        history: what `vital_signs` gave, oldest first, beginning before the first step.
    """
    now, start = history[-1], history[0]
    if now["target_std"] < COLLAPSED_SPREAD * start["target_std"]:
        return Verdict(
            COLLAPSED,
            f"the targets' spread has fallen from {start['target_std']:.3g} to {now['target_std']:.3g}: the teacher "
            "gives nearly the same everywhere",
        )
    lost = {depth: _lost_rank(history, depth) for depth in DEPTHS}
    worst = max(DEPTHS, key=lambda depth: lost[depth])
    if lost["top"] > COLLAPSED_LOSS_OF_RANK:
        return Verdict(COLLAPSED, f"{_fall_of_rank(history, 'top')}: inputs look alike to the encoder")
    if lost[worst] > PARTIAL_LOSS_OF_RANK:
        return Verdict(PARTIAL, f"{_fall_of_rank(history, worst)}: features lie in few directions there")
    best = min(history, key=lambda signs: signs["loss"])
    if now["loss"] > RISE * best["loss"] and now["target_std"] > RISE * best["target_std"]:
        return Verdict(
            RISING,
            f"the loss has risen from {best['loss']:.3g} to {now['loss']:.3g} while the targets' spread rose from "
            f"{best['target_std']:.3g} to {now['target_std']:.3g}. That is normal: as the teacher learns, its targets "
            "tell more and are harder to predict. Judge by the probe, and by the loss as a share of what always "
            f"predicting the mean costs, {best['loss_to_trivial']:.2f} then and {now['loss_to_trivial']:.2f} now",
        )
    return Verdict(
        HEALTHY,
        f"targets' spread {now['target_std']:.3g}, effective rank {now['rank_top']:.1f}, loss "
        f"{now['loss_to_trivial']:.2f} of what always predicting the mean costs",
    )


def _lost_rank(history: list[dict[str, float]], depth: str) -> float:
    """The share of the effective rank above 1, its least, that is gone since it was highest."""
    ranks = [signs[f"rank_{depth}"] for signs in history]
    return (max(ranks) - ranks[-1]) / (max(ranks) - 1) if max(ranks) > LOWEST_RANK else 0.0


def _fall_of_rank(history: list[dict[str, float]], depth: str) -> str:
    ranks = [signs[f"rank_{depth}"] for signs in history]
    place = {"embeddings": "the embeddings'", "middle": "the middle block's", "top": "the last block's"}[depth]
    return (
        f"{place} effective rank has fallen from {max(ranks):.1f} to {ranks[-1]:.1f}, mean cosine of two inputs "
        f"{history[-1][f'cosine_{depth}']:.3f}"
    )


def remedies(config: Data2VecGenericConfig, args: Data2VecTrainingArguments, mask_ratio: float) -> str:
    """Which settings to change in a run that collapses, with their present values, the likeliest first.

    `mask_ratio` is the share of positions that are masked.
    """
    found = []
    if not config.target_layer_norms and not config.target_final_norms:
        found.append("normalise the targets: target_layer_norms (now none) layer or instance")
    if args.ema_decay < 0.99:
        found.append(f"raise ema_decay (now {args.ema_decay}) towards .999: the teacher follows the student too fast")
    found.append(f"lower learning_rate (now {args.learning_rate}) or raise warmup_steps (now {args.warmup_steps})")
    batch_size = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
    found.append(
        f"raise average_top_k_layers (now {config.average_top_k_layers or 'all'}), mask_ratio (now {mask_ratio:.2f} "
        f"of all positions), or the batch (now {batch_size} samples)"
    )
    return "; ".join(found)


class HealthCallback(TrainerCallback):
    """Looks at the model on a fixed batch before the first step and at each evaluation, or, in a run without
    evaluation, at each log, and says how the run is.

    Vital signs are logged as `health_...`; the verdict goes to the log and, as `health`, into the log history. Before
    the first step and until warm-up is over it is "too early": while the learning rate rises, ranks may fall and come
    back. With `stop_on_collapse` a run stops that has collapsed twice in a row.

    Args:
        trainer: whose model is looked at; the batch is drawn from its evaluation data, or else its training data, and
            collated as for evaluation.
    """

    def __init__(self, trainer: Any):
        self.trainer = weakref.proxy(trainer)  # not a cycle: workers of loaders are to end with the trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        # The batch is read now, also in a resumed run: a stream must not be opened anew while training reads it.
        if self._batches and not _history(state):
            self._look(args, state, control)

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._look(args, state, control)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if args.eval_strategy == "no" and "loss" in logs:
            self._look(args, state, control)

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

    def _look(self, args: Any, state: Any, control: Any) -> None:
        signs = vital_signs(self.trainer.model, self._batches)
        warn = logger.warning if state.is_world_process_zero else logger.debug  # processes find the same
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
        if args.stop_on_collapse and verdicts[-2:] == [COLLAPSED] * 2:  # one alone may pass
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
    """At most SAMPLES rows, always the same, from all over the dataset: files are often sorted by class."""
    if isinstance(dataset, dict):
        dataset = next(iter(dataset.values()))
    if isinstance(dataset, WindowedStream):
        dataset = dataset.from_beginning()  # also where the run has been resumed since
    if not hasattr(dataset, "__len__"):
        return list(islice(dataset, SAMPLES))
    positions = np.random.default_rng(0).permutation(len(dataset))[:SAMPLES]
    return [dataset[int(position)] for position in np.sort(positions)]
