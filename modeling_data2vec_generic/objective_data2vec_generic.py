"""The objective: functions that make the targets and the loss.

Shapes: B samples, M masks per sample, R = B * M rows, T content positions, C channels, N masked positions.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

NORM_EPS = 1e-5
SPREAD_EPS = 1e-6
CHUNK = 1 << 21  # predicted elements of which the loss is computed at a time


def normalize(x: Tensor, norm: str, real: Tensor | None = None, documents: Tensor | None = None) -> Tensor:
    """Normalise without parameters: `(x - mean) / sqrt(var + 1e-5)` with the biased variance.

    Args:
        x: (B, T, C), float32.
        norm: axes of mean and variance: "layer" takes C, "instance" T, "batch" B and T.
        real: (B, T) bool, False at padding, which "instance" and "batch" leave out. `None`: there is no padding.
        documents: (B, T), the number of each position's document, at most T: "instance" then takes T document by
            document, of which padding is one. `None`: each sample is one document.

    Returns:
        (B, T, C); padding is normalised with the statistics of the other positions, or as a document.
    """
    mean = _mean_over(norm, real, documents, x.dtype)
    # On a CPU two means are quicker than `torch.var_mean`.
    centred = x - mean(x)
    return centred * torch.rsqrt(mean(centred.square()) + NORM_EPS)


def _mean_over(
    norm: str, real: Tensor | None, documents: Tensor | None, dtype: torch.dtype
) -> Callable[[Tensor], Tensor]:
    """The mean that `normalize` takes of values (B, T, C), which comes out in a shape that fits them."""
    if documents is not None and norm == "instance":
        index = documents.unsqueeze(-1)

        def sums(values: Tensor) -> Tensor:
            zeros = values.new_zeros(len(values), values.shape[1] + 1, values.shape[2])
            return zeros.scatter_add(1, index.expand_as(values), values)

        counts = sums(torch.ones_like(index, dtype=dtype)).clamp(min=1)
        return lambda values: (sums(values) / counts).gather(1, index.expand_as(values))
    dims = {"layer": (2,), "instance": (1,), "batch": (0, 1)}[norm]
    if real is None or norm == "layer":
        return partial(torch.mean, dim=dims, keepdim=True)
    weight = real.unsqueeze(-1).to(dtype)
    count = weight.sum(dims, keepdim=True).clamp(min=1)
    return lambda values: (values * weight).sum(dims, keepdim=True) / count


def average_targets(
    layers: list[Tensor],
    layer_norms: list[str],
    final_norms: list[str],
    real: Tensor | None = None,
    documents: Tensor | None = None,
) -> Tensor:
    """The regression target (data2vec, section 3.3): the mean of the normalised layers, which is normalised again.

    Args:
        layers: outputs of the teacher's top K blocks without prefix tokens, each (B, T, C).
        layer_norms: norms for each layer, which are applied in the order batch, instance, layer.
        final_norms: norms for the mean, which are applied in the order batch, layer, instance.
        real: (B, T) bool, False at padding; see `normalize`.
        documents: (B, T); see `normalize`.

    Returns:
        (B, T, C) float32, in which everything is computed.
    """
    total = torch.zeros_like(layers[0], dtype=torch.float32)
    for layer in layers:
        layer = layer.float()
        for norm in ("batch", "instance", "layer"):
            if norm in layer_norms:
                layer = normalize(layer, norm, real, documents)
        total += layer
    total /= len(layers)
    for norm in ("batch", "layer", "instance"):
        if norm in final_norms:
            total = normalize(total, norm, real, documents)
    return total


def regression_loss(
    predictions: Tensor, targets: Tensor, beta: float, scale: float | None, rows: Tensor | None = None
) -> Tensor:
    """The scaled smooth L1 loss (data2vec, section 3.4), or the squared error, summed over all elements.

    For the backward pass it keeps what it was given and nothing more.

    Args:
        predictions: (..., C), which are converted to float32.
        targets: of the same shape, or (P, C) if there are `rows`; they are converted to float32 too and have no
            gradient.
        beta: with d = |prediction - target|, the loss of an element is d^2 / (2 beta) where d < beta and d - beta / 2
            elsewhere. If beta is 0, it is d^2.
        scale: factor of the loss; `None` is 1 / sqrt(C).
        rows: (N), which of the P targets belongs to each of N predictions. `None`: they correspond one by one.

    Returns:
        scalar, float32.
    """
    width = predictions.shape[-1]
    total: Tensor = _RegressionLoss.apply(predictions.reshape(-1, width), targets.reshape(-1, width), rows, beta)
    return total * _scale_or_default(scale, width)


class _RegressionLoss(torch.autograd.Function):
    """The loss of predictions (N, C), without its scale; see `regression_loss`.

    Both passes take one chunk of predictions after the other and pick out its targets, so that neither targets nor
    predictions in float32 are held for all of them at a time.
    """

    @staticmethod
    def forward(ctx: Any, predictions: Tensor, targets: Tensor, rows: Tensor | None, beta: float) -> Tensor:
        ctx.save_for_backward(predictions, targets, rows)
        ctx.beta = beta
        losses = [_element_loss(*pair, beta, "sum") for pair in _chunks(predictions, targets, rows)]
        return torch.stack(losses).sum()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        predictions, targets, rows = ctx.saved_tensors
        gradients = [
            _element_gradient(gradient, *pair, ctx.beta).to(predictions.dtype)
            for pair in _chunks(predictions, targets, rows)
        ]
        return gradients[0] if len(gradients) == 1 else torch.cat(gradients), None, None, None


def _element_gradient(gradient: Tensor, predictions: Tensor, targets: Tensor, beta: float) -> Tensor:
    """The gradient in float32 of the summed `_element_loss` with respect to the predictions, by torch's own kernel."""
    values, summed = (gradient, predictions.float(), targets.float()), 2
    if beta == 0:
        return torch.ops.aten.mse_loss_backward(*values, summed)
    return torch.ops.aten.smooth_l1_loss_backward(*values, summed, beta)


def _chunks(predictions: Tensor, targets: Tensor, rows: Tensor | None) -> Iterator[tuple[Tensor, Tensor]]:
    """Predictions (n, C) with their targets (n, C), of a few rows at a time."""
    size = max(CHUNK // predictions.shape[-1], 1)
    for chunk, part in zip(predictions.split(size), (targets if rows is None else rows).split(size), strict=True):
        yield chunk, part if rows is None else targets.index_select(0, part)


def cls_loss(cls: Tensor, targets: Tensor, num_masked: Tensor, beta: float, scale: float | None) -> Tensor:
    """The loss between CLS and the mean target (data2vec 2.0, section 3.3), summed over rows.

    Each row is weighted by its number of masked positions. Divided by the masked positions of an optimizer step, as
    the regression loss is, the sum becomes the mean over the rows of the step, in whichever way they are split into
    micro-batches and processes. The original implementation multiplies the sum over the rows of a worker's batch by
    the masked positions of that worker, so that there the effect of the weight grows with the number of rows.

    Args:
        cls: (R, C), the student's output at CLS.
        targets: (R, C), the mean of each row's targets over its positions.
        num_masked: (R), the number of masked positions of each row.
        beta, scale: see `regression_loss`.

    Returns:
        scalar, float32.
    """
    losses = _element_loss(cls, targets, beta, reduction="none") * _scale_or_default(scale, cls.shape[-1])
    return (losses.sum(-1) * num_masked).sum()


def _element_loss(predictions: Tensor, targets: Tensor, beta: float, reduction: str) -> Tensor:
    predictions, targets = predictions.float(), targets.float()
    if beta == 0:
        return nn.functional.mse_loss(predictions, targets, reduction=reduction)
    return nn.functional.smooth_l1_loss(predictions, targets, reduction=reduction, beta=beta)


def _scale_or_default(scale: float | None, width: int) -> float:
    return width**-0.5 if scale is None else scale


def spread(x: Tensor, counts: Tensor | None = None) -> Tensor:
    """How much the rows of x (N, C) differ: the mean over C of sqrt(v + 1e-6), v the unbiased variance over N.

    It is about 0 (0.001) if all rows are equal, which is a complete collapse.

    Args:
        counts: (N), how many times each row counts; rows that count 0 times may hold anything. `None`: once.
    """
    x = x.float()
    if counts is None:
        variance = x.var(0)
    else:
        weight = counts.unsqueeze(-1).to(x.dtype)
        total, x = weight.sum(), torch.where(weight > 0, x, 0.0)
        mean = (x * weight).sum(0) / total
        variance = ((x - mean).square() * weight).sum(0) / (total - 1)
    return torch.sqrt(variance + SPREAD_EPS).mean()


__all__ = [
    "average_targets",
    "cls_loss",
    "normalize",
    "regression_loss",
    "spread",
]
