"""Measurements of a model on fixed batches: spreads, ranks and cosines, which the loss alone does not show."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather, gather_object, send_to_device
from torch import Tensor

from ...backbone_data2vec_generic import as_sequence, first, hooked, recorded_layers
from ...evaluation.probe import effective_rank
from ...geometry_data2vec_generic import real_positions
from ...inputs_data2vec_generic import all_inputs
from ...mask_positions_data2vec_generic import MaskPositions
from ...measurements_data2vec_generic import undisturbed
from ...modeling_data2vec_generic import Data2VecGenericForPreTraining
from ...objective_data2vec_generic import regression_loss
from ...padding_data2vec_generic import known_padding
from ..acceleration.global_batch import REPEATED
from .running_stats import RunningSpread, merged, spread_of

DEPTHS = ("embeddings", "middle", "top")
_OF_THE_OBJECTIVE = (
    "mask",
    "mask_positions",
    "document_ids",
)  # keys of a batch that the encoder does not read, and `student_...`


@torch.no_grad()
def vital_signs(model: Data2VecGenericForPreTraining, batches: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Measure a model on fixed batches with fixed masks, in evaluation mode.

    With several processes, each gives its own share of the samples, in as many batches as all others, and gets the
    result for all samples. The device is waited for once, at the end.

    Args:
        batches: what the collator returns: the encoder's inputs and `mask`. A batch with `REPEATED` goes through the
            model and counts for nothing.

    Returns:
        - `loss`, and `loss_to_trivial`: as a share of the loss of always predicting the mean target; from 1 on,
          nothing has been learned.
        - `target_std`, `prediction_std`: see `spread`, over masked positions.
        - `rank_DEPTH`, `cosine_DEPTH`: effective rank (RankMe, arXiv 2210.02885) and mean cosine of all pairs of
          samples. Features are those of the student on unmasked input, averaged over the content of each sample, at
          the input of the first block ("embeddings"), at the middle block and at the last one ("top").
        - `teacher_distance`: 1 minus the cosine of the student's and the teacher's features at the top.
    """
    with undisturbed(model):
        torch.manual_seed(PartialState().process_index)  # the noise in the masked places of a decoder's input
        measured = _measured(model, batches)
        if model.config.loss_beta:
            # Moments do not give this loss. It needs the mean target, so the targets are made once more.
            mean = merged(gather(measured["targets"][None]))[1]
            measured["trivial"] = _loss_of(mean, model, batches)
    parts = gather_object([_on_host(measured)])
    signs = _signs(parts, model.config.loss_beta, model.config.loss_scale) if PartialState().is_main_process else {}
    return broadcast_object_list([signs])[0]  # so that all processes come to the same verdict


def _measured(model: Data2VecGenericForPreTraining, batches: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
    """What `_signs` reads, of this process's samples, on the device."""
    targets, predictions = RunningSpread(), RunningSpread()
    sums = torch.zeros(3, device=model.device)
    features: dict[str, list[Tensor]] = {name: [] for name in (*DEPTHS, "teacher")}
    for batch, own in _on_device(batches, model):
        with recorded_layers(model.teacher, model.layout, "block") as layers:
            output = model(**batch)
        regression = regression_loss(
            output.predictions, output.targets, model.config.loss_beta, model.config.loss_scale
        )
        sums += torch.stack([output.loss * output.num_masked, output.num_masked, regression]) * own
        rows = slice(None) if own else slice(0)
        targets.add(output.targets[rows])
        predictions.add(output.predictions[rows])
        found = _features(model, batch) | {"teacher": _content_mean(model, batch, layers[-1])}
        for name, values in found.items():
            features[name].append(values[rows])
    pooled = {name: torch.cat(values) for name, values in features.items()}
    return {"sums": sums, "targets": targets.moments[0], "predictions": predictions.moments[0], **pooled}


def _loss_of(mean: Tensor, model: Data2VecGenericForPreTraining, batches: Sequence[Mapping[str, Any]]) -> Tensor:
    """The regression loss of always predicting `mean` (C), summed over masked positions and channels."""
    total = torch.zeros((), device=model.device)
    config = model.config
    for batch, own in _on_device(batches, model):
        mask = batch["mask"].bool()
        with _read(model, batch) as inputs:
            targets = model.all_targets(mask, batch.get("document_ids"), **inputs)
        for one in mask.unsqueeze(1).unbind(1) if mask.ndim == 2 else mask.unbind(1):
            masked = torch.where(one.unsqueeze(-1), targets, mean)  # elsewhere the loss is 0
            total += regression_loss(mean.expand_as(masked), masked, config.loss_beta, config.loss_scale) * own
    return total


def _signs(parts: list[dict[str, Tensor]], beta: float, scale: float | None) -> dict[str, float]:
    """The vital signs of the samples of all processes; `beta` and `scale` are those of `regression_loss`."""
    loss, masked, predicted = torch.stack([part["sums"] for part in parts]).sum(0)
    targets, predictions = (merged(part[name] for part in parts) for name in ("targets", "predictions"))
    if beta:
        trivial = torch.stack([part["trivial"] for part in parts]).sum()
    else:
        deviations = targets[2].sqrt()  # of each channel, from its mean
        trivial = regression_loss(deviations, torch.zeros_like(deviations), beta, scale)
    pooled = {name: torch.cat([part[name] for part in parts]) for name in (*DEPTHS, "teacher")}
    signs: dict[str, Tensor | float] = {
        "loss": loss / masked,
        "loss_to_trivial": predicted / trivial,
        "target_std": spread_of(targets),
        "prediction_std": spread_of(predictions),
        "teacher_distance": 1 - torch.cosine_similarity(pooled["top"], pooled["teacher"]).mean(),
    }
    for depth in DEPTHS:
        finite = bool(pooled[depth].isfinite().all())
        signs[f"rank_{depth}"] = effective_rank(pooled[depth].numpy()) if finite else math.nan
        signs[f"cosine_{depth}"] = mean_cosine(pooled[depth])
    return {name: float(value) for name, value in signs.items()}


def mean_cosine(features: Tensor) -> Tensor:
    """Mean cosine over all pairs of different rows of features (N, C), N > 1."""
    count = len(features)
    total = torch.nn.functional.normalize(features, dim=1).sum(0).square().sum()
    return (total - count) / (count * (count - 1))


def _on_device(
    batches: Sequence[Mapping[str, Any]], model: Data2VecGenericForPreTraining
) -> Iterator[tuple[dict[str, Any], bool]]:
    """Each batch on the model's device, and whether its samples count."""
    for batch in batches:
        read = {name: value for name, value in batch.items() if name != REPEATED}
        yield send_to_device(read, model.device, non_blocking=True), REPEATED not in batch


def _on_host(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors in float32 on the host, in one copy."""
    values = torch.cat([tensor.float().flatten() for tensor in tensors.values()]).cpu()
    parts = values.split([tensor.numel() for tensor in tensors.values()])
    return {name: part.view(tensors[name].shape) for name, part in zip(tensors, parts, strict=True)}


@contextmanager
def _read(model: Data2VecGenericForPreTraining, batch: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """What the encoder reads of a batch, unmasked; as in `forward`, it does not have to look for padding."""
    inputs = {
        name: value
        for name, value in batch.items()
        if name not in _OF_THE_OBJECTIVE and not name.startswith("student_")
    }
    positions: MaskPositions | None = batch.get("mask_positions")
    if positions is None or not model.config.ignore_padding:
        yield inputs
        return
    with known_padding(inputs, positions.real is not None, model.models_within) as known:
        yield known


def _features(model: Data2VecGenericForPreTraining, batch: Mapping[str, Any]) -> dict[str, Tensor]:
    """By depth, (B, C): the student's features of unmasked input, averaged over the content."""
    encoder, layout = model.encoder, model.layout
    entered: list[Tensor] = []

    def enter(block: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        hidden = args[0] if args else next(iter(kwargs.values()))
        entered.append(as_sequence(first(hidden), layout.quirks.channels_first))

    block = encoder.get_submodule(layout.blocks[0])
    with (
        _read(model, batch) as read,
        model.keeping_apart(read, batch.get("document_ids")) as inputs,
        hooked(block.register_forward_pre_hook, enter, with_kwargs=True),
        recorded_layers(encoder, layout, "block") as layers,
    ):
        encoder(**all_inputs(layout, inputs, batch["mask"].shape[-1]))
    depths = (entered[0], layers[(len(layers) - 1) // 2], layers[-1])
    return {name: _content_mean(model, batch, hidden) for name, hidden in zip(DEPTHS, depths, strict=True)}


def _content_mean(model: Data2VecGenericForPreTraining, batch: Mapping[str, Any], hidden: Tensor) -> Tensor:
    """(B, C) float32: the mean of hidden states (B, L, C) over the content, without padding."""
    measurements, length = model.measurements, batch["mask"].shape[-1]
    assert measurements is not None  # the model has run
    content = hidden[:, measurements.prefix : measurements.prefix + length].float()
    real = real_positions(model.encoder, batch, length, measurements.stride)
    if real is None:
        return content.mean(1)
    weight = real.unsqueeze(-1)
    return torch.where(weight, content, 0.0).sum(1) / weight.sum(1)
