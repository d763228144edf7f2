"""The objective: functions that make the targets and the loss, and the predictors as modules.

Shapes: B samples, M masks per sample, R = B * M rows, T content positions, C channels, N masked positions.
"""

import torch
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

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


def linear_predictor(width: int) -> nn.Module:
    """One linear layer C -> C, which data2vec uses for images and speech."""
    return nn.Linear(width, width)


def mlp_predictor(width: int) -> nn.Module:
    """A linear layer C -> 2C, GELU and a linear layer 2C -> C, which data2vec uses for text."""
    return nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))


class ConvDecoderLayer(GradientCheckpointingLayer):
    """A grouped convolution that keeps the length, a norm over channels without parameters, and GELU.

    The base class applies `--gradient_checkpointing` to it, as to the encoder's blocks.

    Args:
        conv: `nn.Conv2d` for images, `nn.Conv1d` for sequences.
        width, dim: channels in and out.
        kernel, groups: of the convolution.
        residual: add the input to the output, if both have the same number of channels.
    """

    def __init__(
        self, conv: type[nn.Conv1d] | type[nn.Conv2d], width: int, dim: int, kernel: int, groups: int, residual: bool
    ):
        super().__init__()
        self.conv = conv(width, dim, kernel, groups=groups)
        self.residual = residual and width == dim

    def forward(self, x: Tensor) -> Tensor:
        """(R, rows, columns, width) -> (R, rows, columns, dim); a sequence has one row.

        The channels stay last, as the norm and the projection need them, and sequences use a two-dimensional
        convolution too. On a CPU this takes a third to a half of the time of the direct way.
        """
        weight = self.conv.weight if self.conv.weight.ndim == 4 else self.conv.weight.unsqueeze(2)
        padding = [size // 2 for size in weight.shape[2:]]
        y = nn.functional.conv2d(
            x.permute(0, 3, 1, 2), weight, self.conv.bias, padding=padding, groups=self.conv.groups
        )
        # An even kernel makes one position too many along its axes. The last one is dropped.
        y = y[..., : x.shape[1], : x.shape[2]].permute(0, 2, 3, 1)
        y = nn.functional.gelu(nn.functional.layer_norm(y, y.shape[3:], eps=NORM_EPS))
        return x + y if self.residual else y


class ConvDecoder(nn.Module):
    """The light decoder of data2vec 2.0 (section 3.2 and appendix A): convolutions over the whole sequence, then a
    projection.

    Args:
        width: C, channels in and out.
        dim, num_layers, kernel, groups, residual, projection_layers: the config's `decoder_*` settings.
        two_dimensional: convolve over the grid of patches instead of over the sequence.

    Raises:
        ValueError: `groups` does not divide `width` and `dim`.
    """

    def __init__(
        self,
        width: int,
        dim: int,
        num_layers: int,
        kernel: int,
        groups: int,
        residual: bool,
        projection_layers: int,
        two_dimensional: bool,
    ):
        super().__init__()
        for name, channels in (("the encoder's width", width), ("decoder_dim", dim)):
            if channels % groups:
                raise ValueError(f"decoder_groups={groups} must divide {name}, which is {channels}.")
        conv = nn.Conv2d if two_dimensional else nn.Conv1d
        self.layers = nn.ModuleList(
            ConvDecoderLayer(conv, width if i == 0 else dim, dim, kernel, groups, residual) for i in range(num_layers)
        )
        widths = [dim] + [2 * dim] * (projection_layers - 1)
        projection: list[nn.Module] = []
        for fan_in in widths[:-1]:
            projection += [nn.Linear(fan_in, 2 * dim), nn.GELU()]
        self.projection = nn.Sequential(*projection, nn.Linear(widths[-1], width))

    def forward(
        self,
        x: Tensor,
        grid: tuple[int, int] | None = None,
        real: Tensor | None = None,
        selected: Tensor | None = None,
    ) -> Tensor:
        """Predict the masked positions.

        Args:
            x: (R, T, C), the student's output at visible positions and noise at masked ones.
            grid: (rows, columns) of the patches, where rows * columns = T; needed by a two-dimensional decoder.
            real: (R, T) bool, False at padding, where the input of every layer is set to zero; `None` without padding.
            selected: (N), indices of positions among all R * T; only these are projected. `None` projects all.

        Returns:
            (R, T, C), or (N, C) if positions are selected.
        """
        grid = grid or (1, x.shape[1])
        x = x.unflatten(1, grid)
        keep = None if real is None else real.unflatten(1, grid).unsqueeze(-1).to(x.dtype)
        for layer in self.layers:
            x = layer(x if keep is None else x * keep)
        x = x.flatten(1, 2)
        return self.projection(x if selected is None else x.flatten(0, 1).index_select(0, selected))


__all__ = [
    "ConvDecoder",
    "average_targets",
    "linear_predictor",
    "mlp_predictor",
    "normalize",
    "regression_loss",
    "spread",
]
