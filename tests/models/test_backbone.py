"""What is found out about an encoder without running it: its layout, its patches, its frames."""

from types import SimpleNamespace

import pytest
import torch

from modeling_data2vec_generic.geometry_data2vec_generic import FrameCounter, grid_of, patch_sides, real_positions
from modeling_data2vec_generic.layout_data2vec_generic import find_layout
from modeling_data2vec_generic.measurements_data2vec_generic import measure

from ..tiny import BACKBONES, tiny_encoder

pytestmark = pytest.mark.fast

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
def test_layout__holds_the_blocks_and_the_content(model_type):
    encoder = tiny_encoder(model_type)
    layout = find_layout(encoder)
    assert len(layout.blocks) == 2
    assert layout.stacks == layout.blocks
    assert (layout.content + ".").startswith(CONTENT[model_type] + ".")
    assert layout.reads_tokens == (BACKBONES[model_type][0] == "text")


@pytest.mark.parametrize("model_type", BACKBONES)
def test_hooks__are_gone_after_the_measurements(model_type):
    encoder = tiny_encoder(model_type)
    inputs = {"pixel_values": torch.randn(1, 3, 16, 16)}
    if BACKBONES[model_type][0] == "text":
        inputs = {"input_ids": torch.ones(1, 8, dtype=torch.long)}
    elif BACKBONES[model_type][0] == "speech":
        inputs = {"input_values": torch.randn(1, 4000)}
    measurements = measure(encoder, find_layout(encoder), inputs)
    assert measurements.entry
    assert measurements.embeddings
    assert all("pooler" in name or "mask" in name for name in measurements.unused)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in encoder.modules())


@pytest.mark.parametrize(("image", "length", "expected"), [((28, 28), 49, (7, 7)), ((32, 48), 6, (2, 3))])
def test_grid__is_rows_by_columns(image, length, expected):
    assert grid_of(torch.Size((1, 3, *image)), length) == expected


@pytest.mark.parametrize(("patch", "expected"), [((4, 8), (8, 6)), ((16, 4), (2, 12)), ((8, 8), (4, 6))])
def test_grid__of_patches_that_are_not_square(patch, expected):
    assert grid_of(torch.Size((1, 3, 32, 48)), expected[0] * expected[1], patch) == expected


def test_grid__of_positions_that_do_not_tile_the_image():
    with pytest.raises(ValueError, match="7 positions do not tile an image of 32 x 48 pixels with square patches"):
        grid_of(torch.Size((1, 3, 32, 48)), 7)
    with pytest.raises(ValueError, match="7 positions .* with patches whose sides are as 4 to 8"):
        grid_of(torch.Size((1, 3, 32, 48)), 7, (4, 8))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"patch_size": 4}, (4, 4)),
        ({"patch_size": [4, 8]}, (4, 8)),
        ({"patch_size": (7, 7), "patch_stride": (4, 4)}, (4, 4)),
        ({"patch_sizes": [7, 3, 3, 3]}, (1, 1)),
        ({"patch_size": [2, 4, 4]}, (1, 1)),
    ],
)
def test_patch_sides__are_what_the_configuration_says(settings, expected):
    assert patch_sides(SimpleNamespace(**settings)) == expected


@pytest.mark.parametrize("model_type", ["wav2vec2", "data2vec-audio"])
def test_frames__are_as_many_as_the_encoder_makes(model_type):
    encoder = tiny_encoder(model_type).eval()
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
    assert real_positions(tiny_encoder("bert"), {"attention_mask": tokens}, 3).tolist() == [[True, True, False]]
    assert real_positions(tiny_encoder("bert"), {}, 3) is None
    encoder = tiny_encoder("wav2vec2")
    count = FrameCounter(tuple(encoder.config.conv_kernel), tuple(encoder.config.conv_stride))
    samples = torch.ones(1, 4000, dtype=torch.long)
    samples[:, 2000:] = 0
    real = real_positions(encoder, {"attention_mask": samples}, count(4000))
    assert real.sum() == count(2000) < count(4000)


def test_real_positions__that_the_encoder_cannot_tell():
    with pytest.raises(ValueError, match="attention_mask has 9 entries .*mask has 4.*ignore_padding=False"):
        real_positions(tiny_encoder("vit"), {"attention_mask": torch.ones(1, 9)}, 4)
