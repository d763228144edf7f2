"""Measurements do not depend on the surrounding context or on the values of the encoder's weights."""

import copy
import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AutoModel, BertConfig, PreTrainedConfig, PreTrainedModel, RobertaConfig
from transformers.modeling_outputs import BaseModelOutput

from modeling_data2vec_generic import Data2VecGenericConfig, Data2VecGenericForPreTraining
from modeling_data2vec_generic.backbone_data2vec_generic import visible_only
from modeling_data2vec_generic.float32_copy_data2vec_generic import EncoderTemplate, exact_arithmetic
from modeling_data2vec_generic.layout_data2vec_generic import UnsupportedBackboneError, find_layout
from modeling_data2vec_generic.measurements_data2vec_generic import made_up_sample, measure, visible_only_fault
from modeling_data2vec_generic.training.acceleration.compilation import compile_parts

from ..tiny_encoders import TINY
from .test_conformance import model_of, new_model

pytestmark = pytest.mark.fast

LENGTHS = (30, 66, 128, 256)
VISIBLE = {"student_input": "visible", "predictor": "conv", "decoder_dim": 32, "decoder_groups": 4}


def text_encoder(**settings: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    sizes = {"hidden_size": 192, "num_hidden_layers": 4, "num_attention_heads": 6, "intermediate_size": 384}
    return AutoModel.from_config(RobertaConfig(**sizes, vocab_size=99, max_position_embeddings=514, **settings))


def batch_of(length: int) -> dict[str, Tensor]:
    ids = torch.randint(5, 99, (2, length), generator=torch.Generator().manual_seed(0))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


# --- arithmetic


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_self_test__is_the_same_within_autocast(dtype):
    model = Data2VecGenericForPreTraining(Data2VecGenericConfig(**VISIBLE), text_encoder()).train()
    for length in LENGTHS:
        measurements = dataclasses.replace(model.measurements, length=length)
        with torch.autocast("cpu", dtype):
            assert visible_only_fault(model.encoder, model.layout, measurements, batch_of(length)) is None, length
    mask = torch.zeros(2, 1, 66, dtype=torch.bool)
    mask[..., ::2] = True
    with torch.autocast("cpu", dtype):
        assert model(mask=mask, **batch_of(66)).loss.isfinite()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_self_test__is_in_float32_whatever_the_weights(dtype):
    model = Data2VecGenericForPreTraining(Data2VecGenericConfig(**VISIBLE), text_encoder().to(dtype)).train()
    measurements = dataclasses.replace(model.measurements, length=66)
    assert visible_only_fault(model.encoder, model.layout, measurements, batch_of(66)) is None
    assert {weight.dtype for weight in model.encoder.parameters()} == {dtype}


def test_self_test__finds_small_faults_within_autocast():
    tiny = TINY["nystromformer"]
    model = model_of(tiny)
    with torch.autocast("cpu", torch.bfloat16):
        assert visible_only_fault(model.encoder, model.layout, model.measurements, tiny.inputs()) is not None


PRECISIONS = {
    "matmul": torch.backends.cuda.matmul,
    "convolution": torch.backends.cudnn.conv,
    "recurrent": torch.backends.cudnn.rnn,
    "matmul on a CPU": torch.backends.mkldnn.matmul,
}


def precisions() -> dict[str, str]:
    return {name: setting.fp32_precision for name, setting in PRECISIONS.items()}


def older_setting(read: Any) -> Any:
    try:
        return read()
    except RuntimeError:  # torch's answer where newer and older settings contradict each other
        return "mixed"


@contextmanager
def put_back() -> Iterator[None]:
    try:
        yield
    finally:
        torch.backends.fp32_precision = "none"
        torch.backends.cudnn.allow_tf32 = True  # sets the newer settings of convolutions and recurrent layers too
        torch.set_float32_matmul_precision("highest")
        torch.backends.cuda.matmul.fp32_precision = torch.backends.mkldnn.matmul.fp32_precision = "none"


@pytest.mark.parametrize(
    "choose",
    [
        lambda: setattr(torch.backends, "fp32_precision", "tf32"),  # what --tf32 does
        lambda: torch.set_float32_matmul_precision("high"),
        lambda: torch.set_float32_matmul_precision("medium"),
        lambda: setattr(torch.backends.cuda.matmul, "allow_tf32", True),
        lambda: setattr(torch.backends.cudnn.conv, "fp32_precision", "tf32"),
        lambda: None,
    ],
    ids=["tf32", "high", "medium", "allow_tf32", "convolution", "default"],
)
def test_exact_arithmetic__has_neither_tf32_nor_autocast_and_puts_both_back(choose):
    with put_back():
        choose()
        older = (
            torch.get_float32_matmul_precision,
            lambda: torch.backends.cuda.matmul.allow_tf32,
            lambda: torch.backends.cudnn.allow_tf32,
        )
        before = precisions(), [older_setting(read) for read in older]
        with torch.autocast("cpu", torch.bfloat16):
            with exact_arithmetic("cpu"):
                assert set(precisions().values()) == {"ieee"}
                assert older_setting(lambda: torch.backends.cudnn.allow_tf32) in (False, before[1][-1])
                assert not torch.is_autocast_enabled("cpu")
            assert torch.is_autocast_enabled("cpu")
        assert (precisions(), [older_setting(read) for read in older]) == before
        torch.backends.cudnn.rnn.fp32_precision = "none"  # an encoder of another test may have set it
        torch.backends.fp32_precision = "tf32"  # what followed it still does
        with exact_arithmetic("cpu"):
            pass
        torch.backends.fp32_precision = "ieee"
        assert torch.backends.cudnn.rnn.fp32_precision == "ieee"


def test_first_batch__is_measured_without_tf32():
    """For encoders without a made-up sample, and for texts, the first batch is measured."""
    encoder = text_encoder()
    model = Data2VecGenericForPreTraining(Data2VecGenericConfig(**VISIBLE), encoder).train()
    seen: list[set[str]] = []
    forward = type(encoder).forward

    def watched(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self is not model.encoder and self is not model.teacher:
            seen.append(set(precisions().values()))
        return forward(self, *args, **kwargs)

    mask = torch.zeros(2, 1, 30, dtype=torch.bool)
    mask[..., ::2] = True
    with put_back(), pytest.MonkeyPatch.context() as patched:
        patched.setattr(type(encoder), "forward", watched)
        torch.backends.fp32_precision = "tf32"
        model(mask=mask, **batch_of(30))
        assert torch.backends.cudnn.conv.fp32_precision == "tf32"
    assert seen
    assert all(found == {"ieee"} for found in seen)


# --- copies


def test_float32_copy__is_a_whole_float32_copy_and_leaves_the_encoder_alone():
    encoder = text_encoder().to(torch.bfloat16)
    before = copy.deepcopy(encoder.state_dict())
    encoder_copy = EncoderTemplate(encoder).float32_copy(encoder)
    assert {weight.dtype for weight in encoder_copy.parameters()} == {torch.float32}
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, before[name])
        if value.abs().max() > 1e-2:
            assert torch.equal(encoder_copy.state_dict()[name], value.float())
            assert encoder_copy.state_dict()[name].data_ptr() != value.data_ptr()


def test_first_batch__of_compiled_blocks_is_measured_on_plain_ones():
    """The compiled code of a block would run within the copy, and hold the weights of the original."""
    model = Data2VecGenericForPreTraining(Data2VecGenericConfig(**VISIBLE), text_encoder()).train()
    called = []

    def backend(graph: Any, inputs: Any) -> Any:
        def run(*args: Any) -> Any:
            called.append(torch.is_grad_enabled())
            return graph(*args)

        return run

    compile_parts(model, backend)
    measurements = dataclasses.replace(model.measurements, length=30)
    fault = visible_only_fault(
        model.encoder, model.layout, measurements, batch_of(30), model._template.float32_copy(model.encoder)
    )
    assert fault is None
    assert not called


# --- weights


class LengthBiasBlock(nn.Module):
    """Attention with a bias for each pair of places, cut to the length of its input, which is wrong for a part of the
    positions."""

    def __init__(self, config: Any):
        super().__init__()
        self.norm = nn.LayerNorm(config.hidden_size)
        self.value = nn.Linear(config.hidden_size, config.hidden_size)
        self.table = nn.Parameter(torch.full((64, 64), config.start))
        self.scale = nn.Parameter(torch.full((config.hidden_size,), config.scale))

    def forward(self, hidden: Tensor) -> Tensor:
        normed = self.norm(hidden)
        length = hidden.shape[1]
        scores = normed @ normed.transpose(1, 2) / hidden.shape[2] + self.table[:length, :length]
        return hidden + self.scale * (scores.softmax(-1) @ self.value(normed))


class LengthBiasConfig(PreTrainedConfig):
    model_type = "length_bias"
    hidden_size: int = 32
    vocab_size: int = 99
    max_position_embeddings: int = 64
    start: float = 0.0
    scale: float = 1.0


class LengthBiasEncoder(PreTrainedModel):
    config_class = LengthBiasConfig

    def __init__(self, config: LengthBiasConfig):
        super().__init__(config)
        self.embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.blocks = nn.ModuleList(LengthBiasBlock(config) for _ in range(3))
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.embeddings

    def _init_weights(self, module: nn.Module) -> None:
        pass

    def forward(self, input_ids: Tensor) -> BaseModelOutput:
        hidden = self.embeddings(input_ids)
        for block in self.blocks:
            hidden = block(hidden)
        return BaseModelOutput(last_hidden_state=hidden)


@pytest.mark.parametrize(("start", "scale"), [(0.0, 1.0), (1e-4, 1.0), (0.0, 0.0), (0.0, 1e-6), (0.0, 1e-4)])
def test_self_test__sees_what_weights_that_start_at_zero_will_do(start, scale):
    encoder = LengthBiasEncoder(LengthBiasConfig(start=start, scale=scale))
    before = copy.deepcopy(encoder.state_dict())
    with pytest.raises(UnsupportedBackboneError, match="takes? a position's place from where it stands"):
        Data2VecGenericForPreTraining(Data2VecGenericConfig(**VISIBLE), encoder)
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


def test_measurements__leave_the_random_numbers_as_they_were():
    encoder = text_encoder()
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    measure(encoder, find_layout(encoder), batch_of(20))
    assert torch.equal(torch.rand(4), expected)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("student_input", ["mask_token", "visible"])
def test_weights__that_hold_nan_are_named(value, student_input):
    encoder = TINY["vit"].encoder()
    name = next(name for name, weight in encoder.named_parameters() if "layers.1" in name or "layer.1" in name)
    encoder.get_parameter(name).data.view(-1)[3] = value
    settings = VISIBLE if student_input == "visible" else {}
    with pytest.raises(ValueError, match=f"1 of .* weights of ViTModel .* hold NaN or infinity: {name}. Nothing"):
        Data2VecGenericForPreTraining(Data2VecGenericConfig(cls_loss_weight=0.1, **settings), encoder)


# --- placement


def test_placement__is_not_misled_by_rounding():
    """Compared passes may use different algorithms, so here each pass has its own rounding."""
    tiny = TINY["vit"]
    encoder, runs = tiny.encoder(), []

    class Rounding(nn.Module):
        def forward(self, hidden: Tensor) -> Tensor:
            runs.append(1)
            return hidden * (1 + 2e-7 * len(runs))

    encoder.embeddings.dropout = Rounding()
    measurements = measure(encoder, find_layout(encoder), tiny.inputs())
    assert (measurements.prefix, measurements.mixes_neighbours) == (tiny.prefix, False)


def test_placement__takes_the_first_sample_without_nan():
    tiny = TINY["vit"]
    encoder, inputs = tiny.encoder(), tiny.inputs()
    inputs["pixel_values"][0, 0, 0, 0] = torch.nan
    assert measure(encoder, find_layout(encoder), inputs).prefix == tiny.prefix
    inputs["pixel_values"][1, 0, 0, 0] = torch.inf
    with pytest.raises(ValueError, match=r"NaN or infinity, though no weight of it.*pixel_values \(1, 3, "):
        measure(encoder, find_layout(encoder), inputs)


# --- attention


def refuses(module: nn.Module, query: Tensor, *args: Any, **kwargs: Any) -> Any:
    raise RuntimeError("this attention needs an accelerator and half precision")


@pytest.mark.parametrize("name", ["vit", "bert"])
@pytest.mark.parametrize("student_input", ["mask_token", "visible"])
@pytest.mark.parametrize("attention", ["flex_attention", "accelerated"])
def test_attention__that_does_not_run_here_is_kept_and_replaced_in_the_measurements(name, student_input, attention):
    AttentionInterface.register("accelerated", refuses)
    model = new_model(TINY[name], student_input, attention)
    plain = model_of(TINY[name], student_input)
    assert model.measurements == plain.measurements
    assert model.encoder.config._attn_implementation == attention
    assert model.teacher.config._attn_implementation == attention
    assert made_up_sample(model.encoder, model.layout) is not None


def test_flex_attention__is_given_the_mask_of_the_visible_positions():
    config = BertConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, vocab_size=99
    )
    encoder = AutoModel.from_config(config).eval()
    inputs = batch_of(20)
    inputs["attention_mask"][1, 15:] = 0
    index = torch.stack([torch.randperm(20)[:16] for _ in range(6)])
    outputs = []
    for attention in ("sdpa", "flex_attention"):
        encoder.set_attn_implementation(attention)
        with (
            torch.compiler.set_stance("force_eager"),  # flex attention compiles itself, which takes long
            torch.no_grad(),
            visible_only(encoder, find_layout(encoder), index, torch.arange(6) // 3, 0, 20),
        ):
            outputs.append(encoder(**inputs).last_hidden_state)
    assert outputs[0].shape == (6, 16, 32)
    assert torch.allclose(*outputs, atol=1e-5)
