"""Converted checkpoints compute what the papers' own implementation did with the same weights."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel

from modeling_data2vec_generic.backbone_data2vec_generic import first
from modeling_data2vec_generic.conversion.converting import convert
from modeling_data2vec_generic.layout_data2vec_generic import find_layout

from ..plain_data2vec2 import Settings, encode, local_features
from ..reference import assert_matches, load, part
from .written import source_of, write

pytestmark = pytest.mark.fast

NAMES = ["v1_text", "v1_vision", "v1_audio", "v2_text", "v2_image", "v2_audio"]
CLASSES = {
    "v1_text": "Data2VecTextModel",
    "v1_vision": "Data2VecVisionModel",
    "v1_audio": "Data2VecAudioModel",
    "v2_text": "Data2Vec2TextModel",
    "v2_image": "Data2Vec2VisionModel",
    "v2_audio": "Data2Vec2AudioModel",
}


def converted(name: str, folder: Path, **settings: Any) -> PreTrainedModel:
    """The model as users load it, of a checkpoint that has been converted."""
    convert(write(folder, name), folder / "out", **settings)
    return AutoModel.from_pretrained(folder / "out", trust_remote_code=True).eval()


def recorded(name: str, model: PreTrainedModel, *inputs: Tensor) -> Tensor:
    """What the reference's targets are made of, from each block: (blocks, B, T, C)."""
    layers: list[Tensor] = []
    for block in find_layout(model).blocks:
        module = model.get_submodule(block)
        if name != "v1_vision":  # its fixture takes the whole block; all others the last linear layer
            module = [part for part in module.modules() if isinstance(part, nn.Linear)][-1]
        module.register_forward_hook(lambda module, args, output: layers.append(first(output)))
    model(*inputs)
    tokens = 1 if name in ("v1_vision", "v2_image") else 0
    return torch.stack(layers)[:, :, tokens:]


@pytest.mark.parametrize("name", NAMES)
def test_teacher__makes_the_layers_of_the_reference(name, tmp_path):
    model = converted(name, tmp_path, weights="teacher")
    assert type(model).__name__ == CLASSES[name]
    _, tensors = load(name)
    inputs, expected = [source_of(name)], tensors["teacher_layers"]
    if name == "v1_text":
        inputs.append(inputs[0].ne(1).long())
    if name == "v1_audio":
        inputs.append(1 - tensors["padding_mask"].long())
    with torch.no_grad():
        found = recorded(name, model, *inputs)[-len(expected) :]
    if name == "v1_text":  # fairseq sets padding to zero in front of the first block
        found, expected = found[:, inputs[1].bool()], expected[:, inputs[1].bool()]
    assert_matches(found, expected, "layers")


def test_student_of_text__equals_the_reference(tmp_path):
    model, (_, tensors) = converted("v1_text", tmp_path), load("v1_text")
    hidden = model(tensors["src_tokens"], tensors["src_tokens"].ne(1).long()).last_hidden_state
    assert_matches(hidden[tensors["mask"].bool()], tensors["student_masked"], "student")


def test_student_of_images__equals_the_reference(tmp_path):
    model, (_, tensors) = converted("v1_vision", tmp_path), load("v1_vision")
    hidden = model(tensors["img"], bool_masked_pos=tensors["mask"].flatten(1).bool()).last_hidden_state
    assert_matches(hidden[:, 1:], tensors["student_out"], "student")


def test_student_of_sound__equals_the_reference(tmp_path):
    model, (_, tensors) = converted("v1_audio", tmp_path), load("v1_audio")
    mask, real = tensors["mask"].bool(), 1 - tensors["padding_mask"].long()
    hidden = model(tensors["wav"], attention_mask=real, mask_time_indices=mask).last_hidden_state
    assert_matches(hidden[mask], tensors["student_masked"], "student")


@pytest.mark.parametrize("name", ["v2_text", "v2_image", "v2_audio"])
def test_student_of_data2vec2__equals_the_formulas(name, tmp_path):
    model, (settings, tensors) = converted(name, tmp_path), load(name)
    student, source = part(tensors, "student/"), source_of(name)
    plain = Settings(
        modality=name.removeprefix("v2_").upper(),
        depth=settings["depth"],
        prenet_depth=settings["prenet_depth"],
        heads=settings["heads"],
        eps=settings["eps"],
        top_k=1,
    )
    hidden = model(source).last_hidden_state
    for sample, found in zip(source, hidden, strict=True):
        local = local_features(sample, student, plain)
        none = torch.zeros(len(local), dtype=torch.bool)
        _, expected = encode(local, none, torch.arange(len(local)), none, student, plain)
        assert_matches(found, expected.detach(), "student")
