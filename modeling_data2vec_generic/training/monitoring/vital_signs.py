"""Measurements of a model on fixed batches: spreads, ranks and cosines, which the loss alone does not show."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from ...backbone_data2vec_generic import as_sequence, first, hooked, recorded_layers
from ...evaluation.probe import effective_rank
from ...geometry_data2vec_generic import real_positions
from ...inputs_data2vec_generic import all_inputs
from ...measurements_data2vec_generic import undisturbed
from ...modeling_data2vec_generic import Data2VecGenericForPreTraining
from ...objective_data2vec_generic import regression_loss, spread

DEPTHS = ("embeddings", "middle", "top")


@torch.no_grad()
def vital_signs(model: Data2VecGenericForPreTraining, batches: Iterable[Mapping[str, Tensor]]) -> dict[str, float]:
    """Measure a model on fixed batches with fixed masks, in evaluation mode.

    Args:
        batches: what the collator returns: the encoder's inputs and `mask`.

    Returns:
        - `loss`, and `loss_to_trivial`: as a share of the loss of always predicting the mean target; from 1 on,
          nothing has been learned.
        - `target_std`, `prediction_std`: see `spread`, over masked positions.
        - `rank_DEPTH`, `cosine_DEPTH`: effective rank (RankMe, arXiv 2210.02885) and mean cosine of all pairs of
          samples. Features are those of the student on unmasked input, averaged over the content of each sample, at
          the input of the first block ("embeddings"), at the middle block and at the last one ("top").
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
    """By depth, (B, C): the encoder's features of unmasked input, averaged over the content."""
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
