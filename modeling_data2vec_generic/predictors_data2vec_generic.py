"""The predictors: modules that fill in the masked positions of the student's output.

Shapes: R rows, T content positions, C channels, N masked positions.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from .objective_data2vec_generic import NORM_EPS


def linear_predictor(width: int) -> nn.Module:
    """One linear layer C -> C, which data2vec uses for images and speech."""
    return nn.Linear(width, width)


def mlp_predictor(width: int) -> nn.Module:
    """A linear layer C -> 2C, GELU and a linear layer 2C -> C, which data2vec uses for text."""
    return nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))


def channel_axis(device: torch.device) -> int:
    """The axis of the channels in the four-dimensional tensors between the layers of a convolutional decoder.

    On a CPU they come last, as the norm and the projection need them: the convolution is as fast there, and nothing is
    turned round. GPUs convolve fastest if they come second, so that the tensors are turned only before the first layer
    and after the last one.
    """
    return 3 if device.type == "cpu" else 1


class NormGelu(torch.autograd.Function):
    """GELU of a norm over the channels without parameters, which keeps nothing but its input for the backward pass.

    Norm and GELU are computed again there, in float32 (float64 for float64), and so are both derivatives: with
    n = (y - mean) * s, s = 1 / sqrt(var + 1e-5), and g the gradient with respect to n, that with respect to y is
    s * (g - mean(g) - n * mean(g * n)). The output and the gradient have the dtype of the input.
    """

    @staticmethod
    def forward(ctx: Any, y: Tensor) -> Tensor:
        """y: (R, C, rows, columns)."""
        ctx.save_for_backward(y)
        return nn.functional.gelu(_normed(y)[0]).to(y.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        normed, scale = _normed(y)
        # Gradients that come from behind a turn of the axes are turned back here, and not by each operation.
        gradient = gradient.to(normed.dtype, memory_format=torch.contiguous_format)
        gradient = torch.ops.aten.gelu_backward(gradient, normed)
        share = (gradient * normed).mean(1, keepdim=True)
        return ((gradient - gradient.mean(1, keepdim=True) - normed * share) * scale).to(y.dtype)


def _normed(y: Tensor) -> tuple[Tensor, Tensor]:
    """(y - mean) * scale in float32, or float64 for float64, and scale: 1 / sqrt(var + 1e-5), the variance biased."""
    y = y.to(torch.promote_types(y.dtype, torch.float32))
    variance, mean = torch.var_mean(y, 1, correction=0, keepdim=True)
    scale = torch.rsqrt(variance + NORM_EPS)
    return (y - mean) * scale, scale


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

    def forward(self, x: Tensor, axis: int) -> Tensor:
        """(R, rows, columns, width) -> (R, rows, columns, dim), with the channels on the given axis, 3 as here or 1.

        A sequence has one row, and a two-dimensional convolution too: on a CPU it takes a third to a half of the time
        of a one-dimensional one. Norm and GELU are torch's own where the channels come last; on a CPU computing them
        again would cost more than to keep them.
        """
        weight = self.conv.weight if self.conv.weight.ndim == 4 else self.conv.weight.unsqueeze(2)
        padding = [size // 2 for size in weight.shape[2:]]
        images = x.movedim(axis, 1)
        y = nn.functional.conv2d(images, weight, self.conv.bias, padding=padding, groups=self.conv.groups)
        # An even kernel makes one position too many along its axes. The last one is dropped.
        y = y[..., : images.shape[2], : images.shape[3]].movedim(1, axis)
        if axis == 1:
            y = NormGelu.apply(y)
        else:
            y = nn.functional.gelu(nn.functional.layer_norm(y, y.shape[3:], eps=NORM_EPS))
        return x.to(y.dtype) + y if self.residual else y


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
        axis = channel_axis(x.device)
        x = x.unflatten(1, grid).movedim(3, axis).contiguous()
        keep = None if real is None else real.unflatten(1, grid).unsqueeze(axis)
        for layer in self.layers:
            x = layer(x if keep is None else x * keep.to(x.dtype), axis)
        x = x.movedim(axis, 3).flatten(1, 2)
        return self.projection(x if selected is None else x.flatten(0, 1).index_select(0, selected))


__all__ = ["ConvDecoder", "linear_predictor", "mlp_predictor"]
