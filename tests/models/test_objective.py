"""Targets and losses against reference numbers and against plain computations."""

from collections.abc import Callable

import pytest
import torch

from modeling_data2vec_generic.objective_data2vec_generic import (
    CHUNK,
    average_targets,
    cls_loss,
    normalize,
    regression_loss,
    spread,
)

from ..reference import assert_matches, load

pytestmark = pytest.mark.fast

FLAGS = {  # fairseq's name -> (ours, norm)
    "batch_norm_target_layer": ("layer_norms", "batch"),
    "instance_norm_target_layer": ("layer_norms", "instance"),
    "layer_norm_target_layer": ("layer_norms", "layer"),
    "layer_norm_targets": ("final_norms", "layer"),
    "instance_norm_targets": ("final_norms", "instance"),
}
TARGETS, TARGET_TENSORS = load("targets")
LOSSES, LOSS_TENSORS = load("losses")


def norms_of(flags: list[str]) -> dict[str, list[str]]:
    norms: dict[str, list[str]] = {"layer_norms": [], "final_norms": []}
    for flag in flags:
        kind, norm = FLAGS[flag]
        norms[kind].append(norm)
    return norms


@pytest.mark.parametrize("name", TARGETS["sets"])
def test_targets_match_reference(name):
    settings = TARGETS["sets"][name]
    layers = [TARGET_TENSORS[f"layer_{i:02d}"] for i in range(TARGETS["n_layers"])]
    y = average_targets(layers[-settings["average_top_k_layers"] :], **norms_of(settings["flags"]))
    assert_matches(y, TARGET_TENSORS[f"y/{name}"])
    assert y.mean().item() == pytest.approx(settings["mean"], abs=1e-6)
    assert y.std().item() == pytest.approx(settings["std"], rel=1e-5)


def test_targets_of_bfloat16_layers_are_computed_in_float32():
    settings = TARGETS["sets"]["v2_image_base"]
    layers = [TARGET_TENSORS[f"layer_{i:02d}"].bfloat16() for i in range(TARGETS["n_layers"])]
    y = average_targets(layers[-settings["average_top_k_layers"] :], **norms_of(settings["flags"]))
    assert y.dtype == torch.float32
    assert_matches(y, TARGET_TENSORS["y_bf16_layers/v2_image_base"])


@pytest.mark.parametrize("norm", ["instance", "batch", "layer"])
def test_normalize__with_padding_equals_the_same_without_it(norm):
    x = torch.randn(3, 7, 8) * 3 + 1
    real = torch.arange(7) < torch.tensor([[7], [7], [7]])
    padded = torch.cat([x, torch.full((3, 4, 8), 50.0)], dim=1)
    padded_real = torch.cat([real, torch.zeros(3, 4, dtype=torch.bool)], dim=1)
    assert_matches(normalize(padded, norm, padded_real)[:, :7], normalize(x, norm))


@pytest.mark.parametrize("case", LOSSES["cases"], ids=lambda case: case["key"])
def test_losses_match_reference(case):
    x, y = LOSS_TENSORS["x"], LOSS_TENSORS["y"]
    total = regression_loss(x, y, case["beta"], case["loss_scale"])
    assert total.item() == pytest.approx(case["sum_as_returned_by_criterion"], rel=1e-6)
    assert total.item() == pytest.approx(LOSS_TENSORS[case["key"]].sum().item(), rel=1e-6)
    assert (total / len(x)).item() == pytest.approx(case["logged_scalar_sum_over_sample_size"], rel=1e-6)


@pytest.mark.parametrize(("beta", "scale"), [(0.5, 0.25), (2.0, None), (0.0, 0.25)])
def test_loss_equals_the_formula(beta, scale):
    x, y = torch.randn(5, 16) * 2, torch.randn(5, 16)
    expected = 0.0
    for prediction, target in zip(x.flatten().tolist(), y.flatten().tolist(), strict=True):
        d = abs(prediction - target)
        expected += d * d if beta == 0 else d * d / (2 * beta) if d < beta else d - beta / 2
    expected *= scale if scale is not None else 1 / 4
    assert regression_loss(x, y, beta, scale).item() == pytest.approx(expected, rel=1e-5)


def plain_loss(predictions: torch.Tensor, targets: torch.Tensor, beta: float) -> torch.Tensor:
    if beta == 0:
        return torch.nn.functional.mse_loss(predictions, targets, reduction="sum")
    return torch.nn.functional.smooth_l1_loss(predictions, targets, reduction="sum", beta=beta)


@pytest.mark.parametrize("chunk", [CHUNK, 7 * 16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("beta", [0.0, 0.5])
def test_loss_of_repeated_targets_has_the_gradients_of_torch(beta, dtype, chunk, monkeypatch):
    monkeypatch.setattr("modeling_data2vec_generic.objective_data2vec_generic.CHUNK", chunk)
    predictions, targets = torch.randn(40, 16).to(dtype).requires_grad_(), torch.randn(12, 16)
    rows = torch.randint(12, (40,))
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype != torch.float32):
        loss = regression_loss(predictions, targets, beta, 0.25, rows) / 3
        expected = plain_loss(predictions.float(), targets[rows], beta) * 0.25 / 3
    gradient, expected_gradient = (torch.autograd.grad(value, predictions)[0] for value in (loss, expected))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert gradient.dtype == dtype
    assert torch.equal(gradient, expected_gradient)
    exact = predictions.detach().double().requires_grad_()
    (plain_loss(exact, targets[rows].double(), beta) * 0.25 / 3).backward()
    tolerance = 1e-6 if dtype == torch.float32 else 4e-3
    assert torch.allclose(gradient.double(), exact.grad, rtol=tolerance, atol=tolerance**2)


def test_loss_keeps_predictions_and_each_target_once():
    """Of data2vec 2.0 for images: 16 masks that each cover 157 of 196 patches, under autocast; 2 samples, 48 channels
    in place of 768."""
    predictions = torch.randn(2 * 16 * 157, 48, dtype=torch.bfloat16, requires_grad=True)
    targets, rows = torch.randn(2 * 196, 48), torch.arange(2 * 16 * 157) % (2 * 196)
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.data_ptr()] = tensor.nbytes
        return tensor

    def bytes_of(loss: Callable[[], torch.Tensor]) -> int:
        kept.clear()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss()
        return sum(kept.values())

    plain = bytes_of(lambda: plain_loss(predictions.float(), targets[rows], 0.0))
    given = predictions.nbytes + targets.nbytes + rows.nbytes
    assert bytes_of(lambda: regression_loss(predictions, targets, 0.0, None, rows)) <= given
    assert given < plain / 3


def test_spread_of_counted_rows_is_that_of_repeated_ones():
    x, counts = torch.randn(20, 4) + 3, torch.randint(3, (20,))
    x[counts == 0] = torch.nan
    assert spread(x, counts).item() == pytest.approx(spread(x.repeat_interleave(counts, 0)).item(), rel=1e-5)


def test_spread_is_near_zero_for_equal_rows_and_the_std_otherwise():
    assert spread(torch.ones(6, 4)).item() == pytest.approx(1e-3)
    x = torch.randn(50, 4)
    assert spread(x).item() == pytest.approx((x.var(0) + 1e-6).sqrt().mean().item())


@pytest.mark.parametrize("beta", [0.0, 0.7])
def test_cls_loss__weighs_rows_by_their_masked_positions(beta):
    torch.manual_seed(0)
    cls, targets, num_masked = torch.randn(3, 8), torch.randn(3, 8), torch.tensor([5, 1, 0])
    expected = 0.0
    for row, count in enumerate(num_masked.tolist()):
        for x, y in zip(cls[row].tolist(), targets[row].tolist(), strict=True):
            d = abs(x - y)
            element = d * d if beta == 0 else d * d / (2 * beta) if d < beta else d - beta / 2
            expected += count * element * 0.5
    assert cls_loss(cls, targets, num_masked, beta, 0.5).item() == pytest.approx(expected, rel=1e-5)
