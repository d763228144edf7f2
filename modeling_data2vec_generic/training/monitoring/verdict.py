"""What vital signs mean: whether a run learns or collapses, and what to change.

The loss alone does not show this. It may rise in a run that learns, and fall in one that has collapsed to a constant,
which is easy to predict.
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

# The first steps say nothing, with or without a warm-up: a student first learns the mean of the targets, which is the
# same for all inputs, so the rank of the upper blocks falls and comes back. Runs on digits at their recipe's rate have
# lost nine tenths of it after six to ten steps and are well later.
EARLIEST = 40  # the first step that has a verdict

# Limits are relative to earlier values of the same run: spread, rank and cosine of an untrained encoder depend on its
# type, its position embeddings and its input, so no absolute limit suits all. They were set on short runs of which the
# probe told how they ended (`python -m benchmarks.compare health`). Runs on text at a low rate lose half of the upper
# ranks for a hundred steps while the embeddings keep theirs; where the probe fell, these lost half and more as well,
# or the last block nearly everything.
COLLAPSED_SPREAD = 0.1  # of the targets' spread before the first step
COLLAPSED_LOSS_OF_RANK = 0.85  # of the effective rank above 1 that the last block once had
PARTIAL_LOSS_OF_RANK = {"embeddings": 0.5, "middle": 0.7, "top": 0.7}  # the same, by depth
# There is an absolute limit as well. Speech encoders whose first filters are given begin with ranks of 60 among 128
# samples and keep 8 to 30, while letters can be told apart better and better. Where the probe fell, fewer than 6 were
# left at some depth.
FEW_DIRECTIONS = 6.0  # an effective rank that is not below this counts as not lost
LOWEST_RANK = 1.5  # a smaller rank is too small for a loss of rank to mean anything
# Nor does rank count as lost while the student predicts its targets. Features of a whole sample may lie in three
# directions and tell inputs apart better than the twenty that they had before: runs on sound and on images whose loss
# was half of that of the mean, and less, had gained by the probe. Runs that had lost by it along with their rank had
# .9 of that loss and more, or a last block of rank 1.4.
PREDICTED = 0.8  # of the loss of always predicting the mean: below it, the targets are predicted
DIVERGED = 2.0  # of the loss of always predicting the mean, and of the loss before the first step, if that is more
RISE = 1.05  # of the loss, relative to its lowest value, and of the targets' spread, relative to its value then


@dataclass(frozen=True)
class Verdict:
    """The state of a run.

    Args:
        state: one of STATES.
        reason: what shows this state, in words and numbers.
    """

    state: str
    reason: str


def first_verdict(warmup_steps: int) -> int:
    """The step from which a run has a verdict: once its warm-up is over, and not before `EARLIEST`."""
    return max(warmup_steps, EARLIEST)


def verdict(history: list[dict[str, float]]) -> Verdict:
    """What the latest vital signs mean, compared with the earlier ones.

    Args:
        history: results of `vital_signs`, oldest first; the first one is from before the first step.
    """
    now, start = history[-1], history[0]
    if now["target_std"] < COLLAPSED_SPREAD * start["target_std"]:
        return Verdict(
            COLLAPSED,
            f"the targets' spread has fallen from {start['target_std']:.3g} to {now['target_std']:.3g}: the teacher "
            "gives nearly the same everywhere",
        )
    if now["loss_to_trivial"] > DIVERGED * max(1.0, start["loss_to_trivial"]):
        return Verdict(
            COLLAPSED,
            f"the loss is {now['loss_to_trivial']:.3g} times what always predicting the mean costs, and was "
            f"{start['loss_to_trivial']:.3g} times that before the first step: training has diverged",
        )
    lost = {depth: _lost_rank(history, depth) for depth in DEPTHS}
    worst = max(DEPTHS, key=lambda depth: lost[depth] / PARTIAL_LOSS_OF_RANK[depth])
    if lost["top"] > COLLAPSED_LOSS_OF_RANK:
        return Verdict(COLLAPSED, f"{_fall_of_rank(history, 'top')}: inputs look alike to the encoder")
    if lost[worst] > PARTIAL_LOSS_OF_RANK[worst]:
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
    """The share of the effective rank, counted from its minimum 1, that was lost since it was highest.

    It is 0 where the rank never said anything, where features still lie in more than a few directions, and where the
    targets are predicted from features that lie in more than one.
    """
    ranks = [signs[f"rank_{depth}"] for signs in history]
    enough = LOWEST_RANK if history[-1]["loss_to_trivial"] < PREDICTED else FEW_DIRECTIONS
    if max(ranks) <= LOWEST_RANK or ranks[-1] >= enough:
        return 0.0
    return (max(ranks) - ranks[-1]) / (max(ranks) - 1)


def _fall_of_rank(history: list[dict[str, float]], depth: str) -> str:
    ranks = [signs[f"rank_{depth}"] for signs in history]
    place = {"embeddings": "the embeddings'", "middle": "the middle block's", "top": "the last block's"}[depth]
    return (
        f"{place} effective rank has fallen from {max(ranks):.1f} to {ranks[-1]:.1f}, mean cosine of two inputs "
        f"{history[-1][f'cosine_{depth}']:.3f}"
    )


def remedies(
    config: Data2VecGenericConfig, args: Data2VecTrainingArguments, mask_ratio: float, batch_size: int
) -> str:
    """Which settings to change in a run that collapses, with their present values, the most promising first.

    `mask_ratio` is the share of positions that are masked, `batch_size` the number of samples per optimizer step.
    """
    found = []
    if not config.target_layer_norms and not config.target_final_norms:
        found.append("normalise the targets: target_layer_norms (now none) layer or instance")
    if args.ema_decay < 0.99:
        found.append(f"raise ema_decay (now {args.ema_decay}) towards .999: the teacher follows the student too fast")
    found.append(f"lower learning_rate (now {args.learning_rate}) or raise warmup_steps (now {args.warmup_steps})")
    found.append(
        f"raise average_top_k_layers (now {config.average_top_k_layers or 'all'}), mask_ratio (now {mask_ratio:.2f} "
        f"of all positions), or the batch (now {batch_size} samples)"
    )
    return "; ".join(found)
