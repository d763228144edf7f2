import copy
import weakref
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor
from transformers import Data2VecAudioConfig, RobertaConfig, ViTConfig

from modeling_data2vec_generic import Data2VecGenericConfig, Data2VecGenericForPreTraining, Data2VecTrainingArguments
from modeling_data2vec_generic.backbone_data2vec_generic import recorded_layers
from modeling_data2vec_generic.half_copy_data2vec_generic import HalfPrecisionCopy
from modeling_data2vec_generic.layout_data2vec_generic import find_layout
from modeling_data2vec_generic.training.acceleration.compilation import (
    compile_parts,
    compile_student,
    modules_before_blocks,
)

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
IMAGES = ViTConfig(**SIZES, image_size=16, patch_size=4)
TEXT = RobertaConfig(**SIZES, vocab_size=50, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
VISIBLE = {
    "student_input": "visible",
    "predictor": "conv",
    "decoder_dim": 32,
    "decoder_layers": 1,
    "decoder_groups": 4,
}


def image_batch(step: int) -> dict[str, Tensor]:
    mask = torch.rand(2, 2, 16).argsort(-1) < 8
    return {"pixel_values": torch.randn(2, 3, 16, 16), "mask": mask}


def text_batch(step: int) -> dict[str, Tensor]:
    length = (20, 26, 22, 31)[step]
    mask = torch.rand(2, 2, length).argsort(-1) < length // 2
    real = (torch.arange(length) < torch.tensor([[length], [length - 3]])).long()
    return {
        "input_ids": torch.randint(5, 50, (2, length)),
        "attention_mask": real,
        "mask": mask & real.bool().unsqueeze(1),
    }


def graphs() -> int:
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


# Of images: block and content module of student and teacher, and the predictor, once each. Of text, where the content
# module is a single layer: both blocks and the predictor, once for a length and once for all others.
@pytest.mark.parametrize(
    ("encoder", "batch_of", "settings", "dtype", "backend", "expected"),
    [
        (IMAGES, image_batch, VISIBLE, torch.float32, "aot_eager", [5, 5, 5, 5]),
        (TEXT, text_batch, VISIBLE, torch.bfloat16, "eager", [3, 6, 6, 6]),
    ],
    ids=["images", "text"],
)
def test_compile_student__gives_the_same_losses_and_compiles_nothing_again(
    encoder, batch_of, settings, dtype, backend, expected, tmp_path
):
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    arguments = Data2VecTrainingArguments(
        output_dir=str(tmp_path), torch_compile=True, torch_compile_backend=backend, use_cpu=True
    )
    config = Data2VecGenericConfig(encoder_config=encoder, mask_noise_std=0.0, **settings)
    plain = Data2VecGenericForPreTraining(config).train()
    compiled = copy.deepcopy(plain)
    compiled.teacher_copy = HalfPrecisionCopy(compiled.teacher)  # which autocast reads
    compile_student(compiled, Accelerator(cpu=True), arguments)
    optimizers = [torch.optim.SGD(model.parameters(), lr=0.05) for model in (plain, compiled)]
    counted = []
    for step in range(4):
        inputs, losses = batch_of(step), []
        for model, optimizer in zip((plain, compiled), optimizers, strict=True):
            with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
                loss = model(**inputs).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        counted.append(graphs())
        assert losses[1] == pytest.approx(losses[0], rel=1e-4 if dtype == torch.float32 else 1e-2)
    assert counted == expected
    assert not torch._dynamo.utils.counters["graph_break"]
    assert set(compiled.state_dict()) == set(plain.state_dict())

    def evaluate() -> int:
        with torch.no_grad():
            compiled.eval()(**inputs)
        compiled.train()
        return graphs()

    assert evaluate() == evaluate()


def test_compile_parts__with_weights_in_half_precision():
    torch._dynamo.reset()
    model = Data2VecGenericForPreTraining(Data2VecGenericConfig(encoder_config=IMAGES, **VISIBLE)).train().bfloat16()
    compile_parts(model, "eager")
    batch = image_batch(0)
    loss = model(mask=batch["mask"], pixel_values=batch["pixel_values"].bfloat16()).loss
    loss.backward()
    assert loss.isfinite()
    assert model.encoder.layers[0].mlp.fc1.weight.grad.isfinite().all()


def test_compile_parts__keeps_no_feed_forward_output():
    torch._dynamo.reset()
    model = Data2VecGenericForPreTraining(Data2VecGenericConfig(encoder_config=IMAGES)).train()
    pixels = torch.randn(2, 3, 16, 16)

    def outputs() -> tuple[list[Tensor], list[Any]]:
        with torch.no_grad(), recorded_layers(model.teacher, model.layout, "ffn") as layers:
            model.teacher(pixels)
        return [layer.clone() for layer in layers], [weakref.ref(layer) for layer in layers]

    expected, _ = outputs()
    compile_parts(model, "eager")
    found, kept = outputs()
    with torch.no_grad():
        model.teacher(pixels)  # nobody records it
    assert len(found) == 2
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)
    assert all(output() is None for output in kept)
    assert all(not block.forward._outputs for block in model.teacher.layers)


def test_modules_before_blocks__are_those_that_hold_no_hooks():
    config = Data2VecAudioConfig(**SIZES, conv_dim=[8, 8], conv_kernel=[20, 8], conv_stride=[20, 8])
    encoder = Data2VecGenericForPreTraining(Data2VecGenericConfig(encoder_config=config)).encoder
    names = modules_before_blocks(encoder, find_layout(encoder))
    assert names == ["feature_extractor", "feature_projection", "encoder.pos_conv_embed"]
