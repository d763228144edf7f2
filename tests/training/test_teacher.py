"""The teacher's moving average against reference numbers of the papers' own implementation and the formula."""

import pytest
import torch
from torch import nn

from modeling_data2vec_generic.training.teacher import EMATeacher, ema_decay_at

from ..reference import assert_matches, load

pytestmark = pytest.mark.fast

SETTINGS, TENSORS = load("ema")


class Weights(nn.Module):
    """The reference's module: parameters that are averaged, frozen and skipped, and two buffers."""

    def __init__(self, source: str):
        super().__init__()
        for name in ("b", "frozen", "skipme", "w"):
            self.register_parameter(
                name, nn.Parameter(TENSORS[f"{source}/{name}"].clone(), requires_grad=name != "frozen")
            )
        for name in ("buf", "cnt"):
            self.register_buffer(name, TENSORS[f"{source}/{name}"].clone())


@pytest.mark.parametrize(
    ("update", "decay"), [(int(n), decay) for n, decay in SETTINGS["decay_used_at_update"].items()]
)
def test_decay_matches_reference(update, decay):
    assert ema_decay_at(update, SETTINGS["start"], SETTINGS["end"], SETTINGS["total"]) == pytest.approx(
        decay, abs=1e-12
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_teacher_matches_reference(dtype):
    student, teacher = Weights(f"{dtype}/student/0"), Weights(f"{dtype}/student/0")
    ema = EMATeacher(teacher, student, copied=frozenset({"skipme"}))
    for update in range(1, 7):
        for name, tensor in student.state_dict().items():
            tensor.copy_(TENSORS[f"{dtype}/student/{update}/{name}"])
        ema.step(ema_decay_at(update, SETTINGS["start"], SETTINGS["end"], SETTINGS["total"]))
        for name, tensor in teacher.state_dict().items():
            expected = TENSORS[f"{dtype}/teacher_model/{update}/{name}"]
            assert tensor.dtype == expected.dtype
            assert_matches(tensor, expected, f"{name} after update {update}")
        for name, accumulator in ema.state_dict().items():
            assert_matches(accumulator, TENSORS[f"{dtype}/teacher_fp32/{update}/{name}"], name)
    assert set(ema.state_dict()) == (set() if dtype == "float32" else {"b", "w"})


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_teacher__after_thousands_of_slow_updates_is_that_of_float64(dtype):
    torch.manual_seed(0)
    student, teacher = nn.Linear(8, 8).to(dtype), nn.Linear(8, 8).to(dtype)
    teacher.load_state_dict(student.state_dict())
    start = teacher.weight.detach().double()
    expected = start.clone()
    ema = EMATeacher(teacher, student)
    for update in range(5000):
        if update % 100 == 0:
            with torch.no_grad():
                student.weight.add_(torch.randn(8, 8).to(dtype), alpha=0.1)
        ema.step(0.9999)
        expected = 0.9999 * expected + (1 - 0.9999) * student.weight.detach().double()
    assert (expected - start).abs().max() > 0.1
    average = teacher.weight if dtype == torch.float32 else ema.state_dict()["weight"]
    assert average.dtype == torch.float32
    assert (average.double() - expected).abs().max() < 1e-5
    assert torch.equal(teacher.weight, average.to(dtype))


def test_state__restores_the_accumulators_exactly():
    student, teacher = nn.Linear(3, 3).bfloat16(), nn.Linear(3, 3).bfloat16()
    ema = EMATeacher(teacher, student)
    ema.step(0.999)
    other_teacher = nn.Linear(3, 3).bfloat16()
    other_teacher.load_state_dict(teacher.state_dict())
    other = EMATeacher(other_teacher, student)
    other.load_state_dict({name: tensor.clone() for name, tensor in ema.state_dict().items()})
    for _ in range(3):
        ema.step(0.999)
        other.step(0.999)
    assert all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in ema.state_dict().items())


def test_state__of_another_precision_is_refused():
    half, single = nn.Linear(3, 3).bfloat16(), nn.Linear(3, 3)
    state = EMATeacher(half, nn.Linear(3, 3).bfloat16()).state_dict()
    with pytest.raises(ValueError, match="accumulates 2 parameters in float32, this one 0"):
        EMATeacher(single, nn.Linear(3, 3)).load_state_dict(state)
