"""The objective: functions that make the targets and the loss.

Shapes: B samples, M masks per sample, R = B * M rows, T content positions, C channels, N masked positions.
"""

import torch
from torch import Tensor, nn

NORM_EPS = 1e-5
SPREAD_EPS = 1e-6


def normalize(x: Tensor, norm: str, real: Tensor | None = None) -> Tensor:
    """Normalise without parameters: `(x - mean) / sqrt(var + 1e-5)` with the biased variance.

    Args:
        x: (B, T, C), float32.
        norm: axes of mean and variance: "layer" takes C, "instance" T, "batch" B and T.
        real: (B, T) bool, False at padding, which "instance" and "batch" leave out. `None`: there is no padding.

    Returns:
        (B, T, C); padding is normalised with the statistics of the other positions.
    """
    dims = {"layer": (2,), "instance": (1,), "batch": (0, 1)}[norm]
    if real is None or norm == "layer":
        variance, mean = torch.var_mean(x, dims, correction=0, keepdim=True)
    else:
        weight = real.unsqueeze(-1).to(x.dtype)
        count = weight.sum(dims, keepdim=True).clamp(min=1)
        mean = (x * weight).sum(dims, keepdim=True) / count
        variance = ((x - mean).square() * weight).sum(dims, keepdim=True) / count
    return (x - mean) * torch.rsqrt(variance + NORM_EPS)


def average_targets(
    layers: list[Tensor], layer_norms: list[str], final_norms: list[str], real: Tensor | None = None
) -> Tensor:
    """The regression target (data2vec, section 3.3): the mean of the normalised layers, which is normalised again.

    Args:
        layers: outputs of the teacher's top K blocks without prefix tokens, each (B, T, C).
        layer_norms: norms for each layer, which are applied in the order batch, instance, layer.
        final_norms: norms for the mean, which are applied in the order batch, layer, instance.
        real: (B, T) bool, False at padding; see `normalize`.

    Returns:
        (B, T, C) float32, in which everything is computed.
    """
    total = torch.zeros_like(layers[0], dtype=torch.float32)
    for layer in layers:
        layer = layer.float()
        for norm in ("batch", "instance", "layer"):
            if norm in layer_norms:
                layer = normalize(layer, norm, real)
        total += layer
    total /= len(layers)
    for norm in ("batch", "layer", "instance"):
        if norm in final_norms:
            total = normalize(total, norm, real)
    return total


def regression_loss(predictions: Tensor, targets: Tensor, beta: float, scale: float | None) -> Tensor:
    """The scaled smooth L1 loss (data2vec, section 3.3), or the squared error, summed over all elements.

    Args:
        predictions, targets: (..., C), which are converted to float32.
        beta: with d = |prediction - target|, the loss of an element is d^2 / (2 beta) where d < beta and d - beta / 2
            elsewhere. If beta is 0, it is d^2.
        scale: factor of the loss; `None` is 1 / sqrt(C).

    Returns:
        scalar, float32.
    """
    return _element_loss(predictions, targets, beta, scale, reduction="sum")


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
    losses = _element_loss(cls, targets, beta, scale, reduction="none").sum(-1)
    return (losses * num_masked).sum()


def _element_loss(predictions: Tensor, targets: Tensor, beta: float, scale: float | None, reduction: str) -> Tensor:
    predictions, targets = predictions.float(), targets.float()
    if beta == 0:
        loss = nn.functional.mse_loss(predictions, targets, reduction=reduction)
    else:
        loss = nn.functional.smooth_l1_loss(predictions, targets, reduction=reduction, beta=beta)
    return loss * (predictions.shape[-1] ** -0.5 if scale is None else scale)


def spread(x: Tensor) -> Tensor:
    """How much the rows of x (N, C) differ: the mean over C of sqrt(v + 1e-6), v the unbiased variance over N.

    It is about 0 (0.001) if all rows are equal, which is a complete collapse.
    """
    return torch.sqrt(x.float().var(0) + SPREAD_EPS).mean()


__all__ = [
    "average_targets",
    "cls_loss",
    "normalize",
    "regression_loss",
    "spread",
]
