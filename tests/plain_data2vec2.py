"""data2vec 2.0 once more, slowly and row by row, from the formulas alone: no module of the package or of transformers.

It works on weights under the names of the papers' own implementation, one sample and one mask at a time, so that
batching, gathering and the order of rows have no part in it.

Shapes: T content positions, V visible ones, C channels, H heads.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import conv1d, conv2d, pad

Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Settings:
    """The objective and the shape of the encoder, as in the reference's settings."""

    modality: str
    depth: int
    prenet_depth: int
    heads: int
    eps: float
    top_k: int
    target_source: str = "ffn"
    layer_norms: tuple[str, ...] = ()
    final_norms: tuple[str, ...] = ()
    beta: float = 0.0
    scale: float | None = None
    cls_loss: float = 0.0
    groups: int = 1
    residual: bool = True
    conv_groups: int = 4  # of the positional convolution
    pad_token: int = 1
    ignore_padding: bool = False
    grid: tuple[int, int] | None = None


def standardise(x: Tensor, dim: int, eps: float = 1e-5) -> Tensor:
    centred = x - x.mean(dim, keepdim=True)
    return centred / (centred.square().mean(dim, keepdim=True) + eps).sqrt()


def layer_norm(x: Tensor, weights: Weights, name: str, eps: float) -> Tensor:
    return standardise(x, -1, eps) * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def linear(x: Tensor, weights: Weights, name: str) -> Tensor:
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def gelu(x: Tensor) -> Tensor:
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def block(x: Tensor, bias: Tensor, weights: Weights, name: str, heads: int, eps: float) -> tuple[Tensor, Tensor]:
    """(L, C), (H, L, L) -> feed-forward output and block output, each (L, C)."""
    query, key, value = linear(x, weights, f"{name}.attn.qkv").chunk(3, dim=-1)
    size = x.shape[-1] // heads
    mixed = []
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        scores = query[:, part] @ key[:, part].T / math.sqrt(size) + bias[head]
        mixed.append(scores.softmax(-1) @ value[:, part])
    x = layer_norm(x + linear(torch.cat(mixed, -1), weights, f"{name}.attn.proj"), weights, f"{name}.norm1", eps)
    feed_forward = linear(gelu(linear(x, weights, f"{name}.mlp.fc1")), weights, f"{name}.mlp.fc2")
    return feed_forward, layer_norm(x + feed_forward, weights, f"{name}.norm2", eps)


def local_features(source: Tensor, weights: Weights, settings: Settings) -> Tensor:
    """One sample -> (T, C), before positions for sound, with them for text and images."""
    name = f"modality_encoders.{settings.modality}"
    if settings.modality == "TEXT":
        positions = torch.full_like(source, settings.pad_token)
        real = source.ne(settings.pad_token)
        positions[real] = torch.arange(int(real.sum())) + settings.pad_token + 1
        x = weights[f"{name}.local_encoder.embed_tokens.weight"][source]
        x = x + weights[f"{name}.local_encoder.embed_positions.weight"][positions]
        x = torch.where(real[:, None], x, x.detach())  # the embeddings of padding are not trained
        return layer_norm(x, weights, f"{name}.local_encoder.layernorm_embedding", 1e-5)
    if settings.modality == "IMAGE":
        kernel = weights[f"{name}.local_encoder.proj.weight"]
        x = conv2d(source[None], kernel, weights[f"{name}.local_encoder.proj.bias"], stride=kernel.shape[-1])
        return x[0].flatten(1).T + weights[f"{name}.fixed_positional_encoder.positions"][0]
    x = source[None]
    for i, stride in enumerate((5, 2, 2)):
        x = conv1d(x, weights[f"{name}.local_encoder.conv_layers.{i}.0.weight"], stride=stride)
        x = gelu(layer_norm(x.T, weights, f"{name}.local_encoder.conv_layers.{i}.2.1", 1e-5)).T
    return linear(layer_norm(x.T, weights, f"{name}.project_features.1", 1e-5), weights, f"{name}.project_features.2")


def positional_convolution(x: Tensor, weights: Weights, groups: int) -> Tensor:
    """(T, C) -> (T, C)."""
    for j in (1, 2, 3):
        name = f"modality_encoders.AUDIO.relative_positional_encoder.{j}.0"
        kernel = weights[f"{name}.weight"]
        y = conv1d(x.T, kernel, weights[f"{name}.bias"], padding=kernel.shape[-1] // 2, groups=groups)
        x = gelu(standardise(y.T, -1))
    return x


def alibi(places: Tensor, weights: Weights, heads: int) -> Tensor:
    """(H, V, V) from the places of the frames in the full sequence."""
    scale = weights["modality_encoders.AUDIO.alibi_scale"].flatten()
    rows = []
    for head in range(heads):
        slope = 2 ** (-8 * (head + 1) / heads)
        rows.append(-slope * (places[:, None] - places[None, :]).abs() * torch.clamp(scale[head], min=0))
    return torch.stack(rows)


def encode(
    local: Tensor, masked: Tensor, keep: Tensor, padding: Tensor, weights: Weights, settings: Settings
) -> tuple[list[Tensor], Tensor]:
    """(T, C) -> outputs of the main blocks without the extra token, and the last block's with it."""
    name = f"modality_encoders.{settings.modality}"
    x = local
    if settings.modality == "AUDIO":
        without = torch.where(masked[:, None], torch.zeros_like(local), local)
        x = x + positional_convolution(without, weights, settings.conv_groups)
    x, extra = x[keep], 0
    bias = x.new_zeros(settings.heads, len(keep), len(keep))
    if settings.modality == "AUDIO":
        bias = alibi(keep, weights, settings.heads)
    bias = bias.masked_fill(padding[keep], -math.inf)
    if f"{name}.extra_tokens" in weights:
        tokens = weights[f"{name}.extra_tokens"][0]
        extra = len(tokens)
        x, bias = torch.cat([tokens, x]), pad(bias, (extra, 0, extra, 0))
    if f"{name}.context_encoder.norm.weight" in weights:
        x = layer_norm(x, weights, f"{name}.context_encoder.norm", settings.eps)
    for i in range(settings.prenet_depth):
        _, x = block(x, bias, weights, f"{name}.context_encoder.blocks.{i}", settings.heads, settings.eps)
    layers = []
    for i in range(settings.depth):
        feed_forward, x = block(x, bias, weights, f"blocks.{i}", settings.heads, settings.eps)
        layers.append((feed_forward if settings.target_source == "ffn" else x)[extra:])
    return layers, x


def targets_of(layers: list[Tensor], real: Tensor, settings: Settings) -> Tensor:
    """(T, C) from the main blocks' outputs; statistics over T are those of the positions in `real`."""

    def normalised(x: Tensor, norm: str) -> Tensor:
        if norm == "layer":
            return standardise(x, 1)
        mean, variance = x[real].mean(0), x[real].var(0, correction=0)
        return (x - mean) / (variance + 1e-5).sqrt()

    total = torch.zeros_like(layers[0])
    for layer in layers[-settings.top_k :]:
        for norm in ("instance", "layer"):
            layer = normalised(layer, norm) if norm in settings.layer_norms else layer
        total = total + layer / settings.top_k
    for norm in ("layer", "instance"):
        total = normalised(total, norm) if norm in settings.final_norms else total
    return total


def decode(x: Tensor, weights: Weights, settings: Settings) -> Tensor:
    """(T, C) -> (T, C)."""
    name = f"modality_encoders.{settings.modality}.decoder"
    dims = 2 if settings.grid else 1
    y = x.T.reshape(-1, *(settings.grid or x.shape[:1]))
    for i in range(sum(key.startswith(f"{name}.blocks.") for key in weights) // 2):
        kernel, bias = weights[f"{name}.blocks.{i}.0.weight"], weights[f"{name}.blocks.{i}.0.bias"]
        size = kernel.shape[-1]
        z = (conv2d if dims == 2 else conv1d)(y[None], kernel, bias, padding=size // 2, groups=settings.groups)[0]
        if size % 2 == 0:
            z = z[:, :-1] if dims == 1 else z[:, :-1, :-1]
        z = gelu(standardise(z, 0))
        y = y + z if settings.residual and z.shape == y.shape else z
    y = y.flatten(1).T
    if f"{name}.proj.weight" in weights:
        return linear(y, weights, f"{name}.proj")
    return linear(gelu(linear(y, weights, f"{name}.proj.0")), weights, f"{name}.proj.2")


def element_loss(prediction: Tensor, target: Tensor, settings: Settings) -> Tensor:
    d = (prediction - target).abs()
    if settings.beta == 0:
        loss = d * d
    else:
        loss = torch.where(d < settings.beta, d * d / (2 * settings.beta), d - settings.beta / 2)
    return loss.sum() * (settings.scale if settings.scale is not None else 1 / math.sqrt(target.shape[-1]))


def data2vec2(
    source: Tensor,
    mask: Tensor,
    padding: Tensor,
    noise: Tensor,
    student: Weights,
    teacher: Weights,
    settings: Settings,
) -> tuple[Tensor, Tensor, Tensor]:
    """Predictions (N, C), targets (N, C) and loss.

    Args:
        mask: (B, M, T) bool. padding: (B, T) bool.
        noise: (N, C) for the masked places, row-major over B, M, T.
        student, teacher: weights; what the teacher lacks it takes from the student.
    """
    teacher = {name: weight.detach() for name, weight in {**student, **teacher}.items()}
    own_features = settings.modality == "IMAGE"  # else the teacher reads the student's features
    predictions, targets, cls_loss = [], [], torch.zeros(())
    noise_rows = iter(noise)
    for sample in range(len(source)):
        everything, nothing = torch.arange(mask.shape[-1]), torch.zeros_like(padding[sample])
        local = local_features(source[sample], student, settings)
        teacher_local = local_features(source[sample], teacher, settings) if own_features else local.detach()
        layers, _ = encode(teacher_local, nothing, everything, padding[sample], teacher, settings)
        read = ~padding[sample] if settings.ignore_padding else ~nothing
        target = targets_of(layers, read, settings)
        for masked in mask[sample]:
            keep = everything[~masked & read]
            _, out = encode(local, masked, keep, padding[sample], student, settings)
            dense = torch.zeros_like(local).index_copy(0, keep, out[len(out) - len(keep) :])
            for place in everything[masked]:
                dense = dense.index_copy(0, place[None], next(noise_rows)[None])
            length = int(read.sum())  # padding, which is at the end, is cut off if it is to be ignored
            predictions.append(decode(dense[:length], student, settings)[masked[:length]])
            targets.append(target[masked])
            if settings.cls_loss:
                row_loss = element_loss(out[0], target[read].mean(0), settings)
                cls_loss = cls_loss + int(masked.sum()) * row_loss
    rows, target_rows = torch.cat(predictions), torch.cat(targets)
    loss = (element_loss(rows, target_rows, settings) + settings.cls_loss * cls_loss) / len(rows)
    return rows, target_rows, loss
