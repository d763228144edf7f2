"""Convolutional decoders against reference numbers and against plain computations, with both layouts of tensors."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import gelu, layer_norm

from modeling_data2vec_generic import predictors_data2vec_generic
from modeling_data2vec_generic.predictors_data2vec_generic import ConvDecoder, NormGelu, channel_axis

from ..reference import assert_matches, load, load_in_order, part

pytestmark = pytest.mark.fast

DECODERS, DECODER_TENSORS = load("decoder")


@pytest.fixture(params=[3, 1], ids=["channels_last", "channels_first"])
def layout(request, monkeypatch) -> int:
    """Decoders compute as on a CPU, or as on any other device."""
    monkeypatch.setattr(predictors_data2vec_generic, "channel_axis", lambda device: request.param)
    return request.param


def reference_decoder(settings: dict, weights: dict) -> ConvDecoder:
    decoder = ConvDecoder(
        settings["embed_dim"],
        settings["decoder_dim"],
        settings["decoder_layers"],
        settings["decoder_kernel"],
        settings["decoder_groups"],
        settings.get("decoder_residual", True),
        settings.get("projection_layers", 1),
        two_dimensional=settings["grid"] is not None,
    )
    names = sorted({name.rsplit(".", 1)[0] for name in weights})  # blocks.0.0, blocks.1.0, ..., proj
    load_in_order(decoder, [weights[f"{name}.{kind}"] for name in names for kind in ("weight", "bias")])
    return decoder


@pytest.mark.parametrize("name", DECODERS)
def test_decoder_matches_reference(name, layout):
    settings, tensors = DECODERS[name], part(DECODER_TENSORS, f"{name}/")
    decoder = reference_decoder(settings, part(tensors, "weights/"))
    grid = None if settings["grid"] is None else (settings["grid"], settings["grid"])
    assert_matches(decoder(tensors["dense_input"], grid), tensors["output"])


@pytest.mark.parametrize("grid", [None, (3, 5)])
@pytest.mark.parametrize("kernel", [2, 4])
def test_decoder__even_kernel_drops_the_last_position_of_each_axis(grid, kernel, layout):
    decoder = ConvDecoder(8, 8, 1, kernel, 2, False, 1, two_dimensional=grid is not None)
    x = torch.randn(2, 15, 8)
    conv, linear = decoder.layers[0].conv, decoder.projection[0]
    axes = (1, 15) if grid is None else grid
    image = x.transpose(1, 2).reshape(2, 8, *axes)
    kernels = conv.weight.unsqueeze(2) if grid is None else conv.weight
    before, after = kernel // 2, kernel - 1 - kernel // 2
    padding = (before, after, 0, 0) if grid is None else (before, after, before, after)
    y = torch.nn.functional.conv2d(torch.nn.functional.pad(image, padding), kernels, conv.bias, groups=2)
    y = y.flatten(2).transpose(1, 2)
    y = (y - y.mean(-1, keepdim=True)) / (y.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
    y = y * 0.5 * (1 + torch.erf(y / 2**0.5))
    assert_matches(decoder(x, grid), y @ linear.weight.T + linear.bias)


def test_decoder__padding_changes_nothing_at_real_positions(layout):
    decoder = ConvDecoder(8, 8, 3, 5, 2, True, 1, two_dimensional=False)
    x = torch.randn(1, 9, 8)
    padded = torch.cat([x, torch.randn(1, 6, 8)], dim=1)
    real = torch.arange(15).unsqueeze(0) < 9
    assert_matches(decoder(padded, None, real)[:, :9], decoder(x))


def test_decoder__groups_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match=r"decoder_groups=3 must divide the encoder's width, which is 8"):
        ConvDecoder(8, 9, 1, 3, 3, True, 1, two_dimensional=False)


def test_channel_axis__depends_on_the_device():
    assert [channel_axis(torch.device(name)) for name in ("cpu", "cuda", "mps")] == [3, 1, 1]


class PlainDecoder(ConvDecoder):
    """Convolutions over (R, C, ...) by the modules themselves, then torch's norm and GELU over (R, ..., C)."""

    def forward(
        self, x: Tensor, grid: Any = None, real: Tensor | None = None, selected: Tensor | None = None
    ) -> Tensor:
        keep = x.new_ones(x.shape[:2]) if real is None else real.to(x.dtype)
        for layer in self.layers:
            x = x * keep.unsqueeze(-1)
            image = x.transpose(1, 2)
            y = layer.conv(image if grid is None else image.unflatten(2, grid)).flatten(2).transpose(1, 2)
            y = gelu(layer_norm(y, y.shape[2:]))
            x = x + y if layer.residual else y
        return self.projection(x if selected is None else x.flatten(0, 1)[selected])


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("grid", [None, (3, 5)])
def test_decoder__equals_a_plain_one_in_values_and_gradients(grid, checkpointing, layout):
    torch.manual_seed(0)
    settings = (8, 12, 3, 3, 2, True, 2, grid is not None)
    decoder, plain = ConvDecoder(*settings).double().train(), PlainDecoder(*settings).double()
    plain.load_state_dict(decoder.state_dict())
    for layer in plain.layers:
        layer.conv.padding = (1,) if grid is None else (1, 1)
        layer.conv._reversed_padding_repeated_twice = [1, 1] * len(layer.conv.padding)
    for layer in decoder.layers:
        layer.gradient_checkpointing = checkpointing
        layer._gradient_checkpointing_func = partial(torch.utils.checkpoint.checkpoint, use_reentrant=False)
    real = torch.arange(15) < torch.tensor([[15], [9]])
    selected = torch.tensor([0, 4, 17, 18])
    x = torch.randn(2, 15, 8, dtype=torch.float64)
    results = []
    for module in (decoder, plain):
        given = x.clone().requires_grad_()
        output = module(given, grid, real, selected)
        output.square().sum().backward()
        results.append([output, given.grad, *(parameter.grad for parameter in module.parameters())])
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected)


def test_norm_gelu__has_the_right_gradient():
    y = torch.randn(2, 3, 2, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(NormGelu.apply, y)


def kept_bytes(run: Callable[[], Any]) -> int:
    """The size of all storages that are kept for the backward pass."""
    sizes: dict[int, int] = {}
    alive: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        alive.append(tensor)
        sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        run()
    return sum(sizes.values())


def test_decoder__keeps_the_inputs_and_outputs_of_its_convolutions_in_half_precision(monkeypatch):
    monkeypatch.setattr(predictors_data2vec_generic, "channel_axis", lambda device: 1)  # as on a GPU
    decoder = ConvDecoder(64, 64, 4, 3, 4, True, 1, two_dimensional=True)
    x = torch.randn(8, 64, 64, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        kept = kept_bytes(lambda: decoder(x, (8, 8)))
        assert decoder(x, (8, 8)).dtype == torch.bfloat16
    activation = x.numel() * 2
    weights = sum(parameter.numel() * 2 for parameter in decoder.parameters())
    # One input and one output for each of four convolutions, and the input of the projection.
    assert kept <= 9 * activation + weights
