"""What makes the content runs once in a step of training, and loss and gradients are those of two passes."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from modeling_data2vec_generic import Data2VecGenericConfig, Data2VecGenericForPreTraining
from modeling_data2vec_generic.float32_copy_data2vec_generic import float32_copy
from modeling_data2vec_generic.half_copy_data2vec_generic import HalfPrecisionCopy
from modeling_data2vec_generic.measurements_data2vec_generic import made_up_sample, measure
from modeling_data2vec_generic.training.teacher import TeacherProgress
from modeling_data2vec_generic.versions import CHECKPOINTING_NAMES

from ..tiny import tiny_encoder
from .test_half_copy import batch_for, move_teacher

pytestmark = pytest.mark.fast

VISIBLE = {"student_input": "visible", "predictor": "conv", "decoder_dim": 16, "decoder_layers": 1}
VISIBLE |= {"decoder_groups": 2, "mask_noise_std": 0.0}
WEIGHTS = {  # one of those that make the content
    "vit": "embeddings.patch_embeddings.projection.weight",
    "bert": "embeddings.word_embeddings.weight",
    "wav2vec2": "feature_extractor.conv_layers.0.conv.weight",
    "data2vec-audio": "feature_projection.projection.weight",
}
CASES = [("vit", {}), ("vit", VISIBLE), ("wav2vec2", {}), ("data2vec-audio", VISIBLE), ("bert", VISIBLE)]


def model_of(model_type: str, **settings: Any) -> Data2VecGenericForPreTraining:
    torch.manual_seed(0)
    config = Data2VecGenericConfig(**{"teacher_embeddings": "copy"} | settings)
    return Data2VecGenericForPreTraining(config, tiny_encoder(model_type)).train()


def two_masks(model_type: str) -> dict[str, Tensor]:
    batch = batch_for("wav2vec2" if model_type == "data2vec-audio" else model_type)
    batch["mask"] = torch.stack([batch["mask"], batch["mask"].roll(1, 1)], 1)
    if model_type == "bert":
        batch["mask"] = batch["mask"].sort(-1).values  # as many visible positions in each row
    return batch


class Reads(TorchDispatchMode):
    """How often a weight of student and teacher takes part in making the content within the context."""

    def __init__(self, model: Data2VecGenericForPreTraining, name: str):
        super().__init__()
        self.weights = [encoder.get_parameter(name).data_ptr() for encoder in (model.encoder, model.teacher)]
        self.count = 0

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if operation.overloadpacket.__name__ in ("convolution", "addmm", "embedding"):
            read = [value.data_ptr() for value in args if isinstance(value, Tensor)]
            self.count += any(weight in read for weight in self.weights)
        return operation(*args, **(kwargs or {}))


def step(
    model: Data2VecGenericForPreTraining, batch: dict[str, Tensor], weight: str
) -> tuple[Tensor, Tensor, dict[str, Tensor], int]:
    """Loss, targets and gradients, and how often the weight was read."""
    model.zero_grad()
    with Reads(model, weight) as reads:
        output = model(**batch)
    output.loss.backward()
    gradients = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    return output.loss, output.targets, gradients, reads.count


def assert_equal(one: Any, other: Any) -> None:
    assert torch.equal(one[0], other[0])
    assert torch.equal(one[1], other[1])
    assert one[2].keys() == other[2].keys()
    assert [name for name, gradient in one[2].items() if not torch.equal(gradient, other[2][name])] == []


def two_passes(model: Data2VecGenericForPreTraining, batch: dict[str, Tensor], weight: str) -> Any:
    """The same step with nothing shared."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "shares_content", lambda inputs: False)
        return step(model, batch, weight)


@pytest.mark.parametrize(("model_type", "settings"), CASES)
def test_step__is_that_of_two_passes_to_the_last_bit_and_content_is_made_once(model_type, settings):
    model, batch, progress = model_of(model_type, **settings), two_masks(model_type), TeacherProgress()
    weight = WEIGHTS[model_type]
    for _ in range(2):
        shared, apart = step(model, batch, weight), two_passes(model, batch, weight)
        assert (shared[3], apart[3]) == (1, 2)
        assert_equal(shared, apart)
        move_teacher(model, progress)
    assert not any("forward" in vars(module) for module in model.modules())


def test_step__under_autocast_with_a_half_precision_copy_is_the_same():
    model, batch, weight = model_of("wav2vec2"), two_masks("wav2vec2"), WEIGHTS["data2vec-audio"]
    model.teacher_copy = HalfPrecisionCopy(model.teacher)
    with torch.autocast("cpu", torch.bfloat16):
        shared, apart = step(model, batch, weight), two_passes(model, batch, weight)
    assert_equal(shared, apart)


def test_step__with_activation_checkpointing_is_the_same():
    model, batch, weight = model_of("wav2vec2"), two_masks("wav2vec2"), WEIGHTS["wav2vec2"]
    getattr(model, f"{CHECKPOINTING_NAMES[0]}_enable")()
    shared, apart = step(model, batch, weight), two_passes(model, batch, weight)
    assert_equal(shared, apart)


def test_content__that_is_random_is_made_twice():
    encoder = tiny_encoder("wav2vec2")
    encoder.feature_projection.dropout.p = 1e-4  # which may change nothing in a short sample
    model = Data2VecGenericForPreTraining(Data2VecGenericConfig(teacher_embeddings="copy"), encoder).train()
    assert model.measurements.content_modules == ()
    assert step(model, two_masks("wav2vec2"), WEIGHTS["wav2vec2"])[3] == 2


class Normed(nn.Conv2d):
    """A convolution whose output depends on the mode, and whose passes in training mode change buffers."""

    def __init__(self) -> None:
        super().__init__(3, 16, kernel_size=4, stride=4)
        self.norm = nn.BatchNorm2d(16)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.norm(super().forward(pixels))


def test_content__that_depends_on_the_mode_is_made_twice_and_measuring_changes_nothing():
    encoder = tiny_encoder("vit")
    encoder.embeddings.patch_embeddings.projection = Normed()
    model = Data2VecGenericForPreTraining(Data2VecGenericConfig(teacher_embeddings="copy"), encoder).train()
    assert model.measurements.content_modules == ()
    assert model.encoder.embeddings.patch_embeddings.projection.norm.num_batches_tracked == 0
    sample = made_up_sample(model.encoder, model.layout)
    encoder_copy = float32_copy(model.encoder)
    measure(model.encoder, model.layout, sample, encoder_copy)
    assert encoder_copy.embeddings.patch_embeddings.projection.norm.num_batches_tracked == 0


def test_content__of_unequal_weights_is_made_twice():
    model, batch, weight = model_of("vit"), two_masks("vit"), WEIGHTS["vit"]
    with torch.no_grad():
        model.encoder.get_parameter(weight).add_(1)  # an optimizer step, after which the teacher was not moved
    assert step(model, batch, weight)[3] == 2
    assert step(model.train(), batch, weight)[3] == 2
    move_teacher(model, TeacherProgress())
    assert step(model, batch, weight)[3] == 1
    model.load_state_dict(model.state_dict())
    assert step(model, batch, weight)[3] == 2
    assert step(model.train(), batch, weight)[3] == 1  # it has compared them


def test_content__is_made_twice_where_the_student_reads_another_input_and_in_evaluation():
    model, batch, weight = model_of("bert"), batch_for("bert"), WEIGHTS["bert"]
    own = batch | {"student_input_ids": torch.where(batch["mask"], 3, batch["input_ids"])}
    assert step(model, own, weight)[3] == 2
    assert not model.shares_content(own)
    assert model.shares_content(batch)
    assert not model.eval().shares_content(batch)
    assert not model_of("bert", teacher_embeddings="ema").shares_content(batch)
    with torch.no_grad():
        assert not model.train().shares_content(batch)
