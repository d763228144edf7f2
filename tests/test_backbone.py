"""What is read off an encoder without running it: its seams, its patches, its frames."""

import pytest
import torch
from transformers import SwinConfig

from modeling_data2vec_generic.backbone_data2vec_generic import (
    FrameCounter,
    find_seams,
    patch_grid,
    real_positions,
    traced,
)

from .tiny import BACKBONES, new_encoder

CONTENT = {
    "vit": "embeddings.patch_embeddings",
    "beit": "embeddings.patch_embeddings",
    "data2vec-vision": "embeddings.patch_embeddings",
    "bert": "embeddings.word_embeddings",
    "roberta": "embeddings.word_embeddings",
    "wav2vec2": "feature_projection",
    "data2vec-audio": "feature_projection",
}


@pytest.mark.parametrize("model_type", BACKBONES)
def test_seams__are_the_blocks_and_the_content(model_type):
    encoder = new_encoder(model_type)
    seams = find_seams(encoder)
    assert len(seams.blocks) == 2
    assert seams.stacks == seams.blocks
    assert (seams.content + ".").startswith(CONTENT[model_type] + ".")
    assert seams.reads_tokens == (BACKBONES[model_type][0] == "text")
    assert all("pooler" in name for name in seams.unused)


@pytest.mark.parametrize("model_type", BACKBONES)
def test_hooks__are_gone_after_a_traced_pass(model_type):
    encoder = new_encoder(model_type)
    inputs = {"pixel_values": torch.randn(1, 3, 16, 16)}
    if BACKBONES[model_type][0] == "text":
        inputs = {"input_ids": torch.ones(1, 8, dtype=torch.long)}
    elif BACKBONES[model_type][0] == "speech":
        inputs = {"input_values": torch.randn(1, 4000)}
    with traced(encoder, find_seams(encoder)) as trace:
        encoder(**inputs)
    assert trace.entry
    assert trace.embeddings
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in encoder.modules())


@pytest.mark.parametrize(
    ("image", "patch", "expected"), [(28, 4, (7, 7)), ((32, 48), 16, (2, 3)), ([32, 48], (8, 16), (4, 3))]
)
def test_patch_grid__is_rows_by_columns(image, patch, expected):
    assert patch_grid(SwinConfig(image_size=image, patch_size=patch)) == expected


@pytest.mark.parametrize(("image", "patch"), [(30, 4), ((32, 30), 8), (8, 16)])
def test_patch_grid__of_patches_that_leave_a_border(image, patch):
    with pytest.raises(ValueError, match="patch_size=.* does not divide image_size="):
        patch_grid(SwinConfig(image_size=image, patch_size=patch))


def test_patch_grid__of_what_reads_no_images():
    assert patch_grid(new_encoder("bert").config) is None


@pytest.mark.parametrize("model_type", ["wav2vec2", "data2vec-audio"])
def test_frames__are_as_many_as_the_encoder_makes(model_type):
    encoder = new_encoder(model_type).eval()
    count = FrameCounter(tuple(encoder.config.conv_kernel), tuple(encoder.config.conv_stride))
    for samples in (800, 1000, 4321):
        assert encoder(torch.randn(1, samples)).last_hidden_state.shape[1] == count(samples)
    for frames in (1, 2, 9):
        assert count(count.samples_for(frames)) == frames
        assert count(count.samples_for(frames) - 1) == frames - 1


def test_frames__of_wav2vec2_are_49_a_second():
    count = FrameCounter((10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2))
    assert count(16000) == 49
    assert count.samples_for(1) == 400


def test_real_positions__come_from_tokens_or_samples():
    tokens = torch.tensor([[1, 1, 0]])
    assert real_positions(new_encoder("bert"), {"attention_mask": tokens}, 3).tolist() == [[True, True, False]]
    assert real_positions(new_encoder("bert"), {}, 3) is None
    encoder = new_encoder("wav2vec2")
    count = FrameCounter(tuple(encoder.config.conv_kernel), tuple(encoder.config.conv_stride))
    samples = torch.ones(1, 4000, dtype=torch.long)
    samples[:, 2000:] = 0
    real = real_positions(encoder, {"attention_mask": samples}, count(4000))
    assert real.sum() == count(2000) < count(4000)


def test_real_positions__that_the_encoder_cannot_tell():
    with pytest.raises(ValueError, match="attention_mask has 9 entries .*mask has 4.*ignore_padding=False"):
        real_positions(new_encoder("vit"), {"attention_mask": torch.ones(1, 9)}, 4)
