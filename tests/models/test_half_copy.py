"""Half-precision copies of the teacher's weights give what autocast's own casts give, and nothing is cast twice."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from modeling_data2vec_generic import Data2VecGenericConfig, Data2VecGenericForPreTraining
from modeling_data2vec_generic.half_copy_data2vec_generic import HalfPrecisionCopy
from modeling_data2vec_generic.training.teacher import TeacherProgress

from ..tiny import tiny_encoder

pytestmark = pytest.mark.fast

INPUTS = {
    "vit": {"pixel_values": (3, 16, 16)},
    "bert": {"input_ids": (12,)},
    "wav2vec2": {"input_values": (3000,)},  # its positional convolution has weight norm
}
POSITIONS = {"vit": 16, "bert": 12, "wav2vec2": 8}


class CastWeights(TorchDispatchMode):
    """Names of the weights that are cast within the context."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.weights = {weight.data_ptr(): name for name, weight in model.named_parameters()}
        self.names: list[str] = []

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for source in (args[1] if "foreach_copy" in str(operation) else args[:1]) if "copy" in str(operation) else ():
            if source.data_ptr() in self.weights and source.dtype == torch.float32:
                self.names.append(self.weights[source.data_ptr()])
        return operation(*args, **(kwargs or {}))


def model_of(model_type: str) -> Data2VecGenericForPreTraining:
    torch.manual_seed(0)
    return Data2VecGenericForPreTraining(Data2VecGenericConfig(), tiny_encoder(model_type)).train()


def batch_for(model_type: str) -> dict[str, torch.Tensor]:
    (name, shape), *_ = INPUTS[model_type].items()
    values = torch.randint(5, 40, (2, *shape)) if name == "input_ids" else torch.randn(2, *shape)
    return {name: values, "mask": torch.arange(POSITIONS[model_type]).repeat(2, 1) % 3 == 0}


def pass_of(model: Data2VecGenericForPreTraining, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, list[str]]:
    """The targets under autocast, and the teacher's weights that were cast for them."""
    with autocast(), CastWeights(model.teacher) as cast:
        targets = model(**batch).targets
    # With weight norm, the weight of a convolution is made in each pass, so that this layer has no copy.
    return targets, sorted(name for name in cast.names if "pos_conv_embed" not in name)


def autocast() -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16)


def move_teacher(model: Data2VecGenericForPreTraining, progress: TeacherProgress) -> None:
    with torch.no_grad():
        for weight in model.encoder.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.1)
    progress.step(model, 0.7)


@pytest.mark.parametrize("model_type", INPUTS)
def test_targets__are_those_of_autocast_to_the_last_bit_and_weights_are_cast_once_per_step(model_type):
    model, progress, batch = model_of(model_type), TeacherProgress(), batch_for(model_type)
    copies = HalfPrecisionCopy(model.teacher)
    latest = torch.zeros(())
    for _ in range(3):
        expected, in_every_pass = pass_of(model, batch)
        assert len(in_every_pass) > 20
        model.teacher_copy = copies
        first, second = pass_of(model, batch), pass_of(model, batch)
        model.teacher_copy = None
        assert (first[1], second[1]) == (in_every_pass, [])
        assert torch.equal(first[0], expected)
        assert torch.equal(second[0], expected)
        assert not torch.equal(latest, expected)  # or the teacher has not moved
        latest = expected
        move_teacher(model, progress)
    assert not any("forward" in vars(module) for module in model.teacher.modules())


def test_weights__that_are_loaded_or_moved_are_cast_again():
    model, batch = model_of("vit"), batch_for("vit")
    torch.manual_seed(1)
    other = Data2VecGenericForPreTraining(Data2VecGenericConfig(), tiny_encoder("vit"))
    model.teacher_copy = HalfPrecisionCopy(model.teacher)
    with autocast():
        before = model(**batch).targets
        model.load_state_dict(other.state_dict())
        loaded = model(**batch).targets
        for weight in model.teacher.parameters():
            weight.data = weight.data * 2
        moved = model(**batch).targets
        model.teacher_copy = None
        assert torch.equal(moved, model(**batch).targets)
        assert torch.equal(loaded, other.train()(**batch).targets)
    assert not torch.equal(before, loaded)
    assert not torch.equal(loaded, moved)


def test_layers__outside_of_autocast_read_float32():
    """Some encoders turn autocast off for a part of them."""

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cast, self.single = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.cast(x)
            with torch.autocast("cpu", enabled=False):
                return self.single(x.float())

    model, x = Both(), torch.randn(3, 4)
    with torch.no_grad(), autocast():
        expected = model(x)
        with HalfPrecisionCopy(model).used():
            result = model(x)
    assert result.dtype == torch.float32
    assert torch.equal(result, expected)
    with torch.no_grad(), HalfPrecisionCopy(model).used():  # without autocast
        assert torch.equal(model(x), model.single(model.cast(x)))


def test_compiled_layers__are_compiled_once():
    torch._dynamo.reset()
    graphs = []

    def backend(graph: Any, inputs: Any) -> Any:
        graphs.append({value.dtype for value in inputs})
        return graph

    model, x = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 4)).requires_grad_(False), torch.randn(2, 4)
    compiled, copies = torch.compile(model, backend=backend), HalfPrecisionCopy(model)
    for _ in range(3):
        with torch.no_grad(), autocast():
            expected = model(x)
            with copies.used():
                assert torch.equal(compiled(x), expected)
        model[0].weight.mul_(1.5)
    assert len(graphs) == 1
    assert torch.bfloat16 in graphs[0]
