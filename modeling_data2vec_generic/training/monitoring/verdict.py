"""Is a run learning, or collapsing: what vital signs mean in words, and what to change.

The loss alone can't tell. It may rise in a run that is well, and fall in one that has collapsed to a constant that is
easy to predict.
"""

from dataclasses import dataclass

from ...configuration_data2vec_generic import Data2VecGenericConfig
from ..arguments import Data2VecTrainingArguments
from .vital_signs import DEPTHS

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
