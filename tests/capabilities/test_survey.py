"""What is found out about one type of encoder."""

import pytest
import torch

from modeling_data2vec_generic.capabilities import SETTINGS, as_table, capability_of

pytestmark = pytest.mark.fast


@pytest.mark.parametrize(
    ("model_type", "mask_token", "visible", "prefix", "premix", "content", "block"),
    [
        ("bert", True, True, 0, False, "embeddings.word_embeddings", "encoder.layer.0"),
        ("deit", True, True, 2, False, "embeddings.patch_embeddings", "layers.0"),
        ("wav2vec2", True, True, 0, True, "feature_projection", "encoder.layers.0"),
        ("whisper", True, True, 0, False, "conv2", "layers.0"),
        ("t5", True, True, 0, False, "embed_tokens", "block.0"),
        ("fnet", True, False, 0, False, "embeddings.word_embeddings", "encoder.layer.0"),
    ],
)
def test_type__is_what_its_architecture_is_known_to_be(
    model_type, mask_token, visible, prefix, premix, content, block
):
    found = capability_of(model_type)
    assert (found.mask_token, found.visible) == (mask_token, visible)
    assert (found.measurements.prefix, found.measurements.mixes_neighbours) == (prefix, premix)
    assert (found.layout.content, found.layout.blocks[0]) == (content, block)


def test_type__in_stages_is_masked_by_its_last_stage():
    found = capability_of("swin")
    assert (found.mask_token, found.visible, found.measurements.stride) == (True, False, 4)
    assert found.layout.hierarchical
    assert found.reason == "it works in stages that merge neighbouring positions"


def test_type__that_lacks_blocks_or_content_says_which():
    assert "no torch.nn.ModuleList whose members are of one class" in capability_of("swiftformer").reason
    assert "get_input_embeddings() is not implemented" in capability_of("canine").reason


def test_type__that_needs_more_than_one_input_is_not_known():
    found = capability_of("bros")
    assert (found.mask_token, found.visible) == (None, None)
    assert "not known" in as_table([found])


def test_type__that_is_not_in_the_table_is_measured_too():
    assert "gpt2" not in SETTINGS
    assert capability_of("gpt2").layout.blocks[0] == "h.0"


def test_capability__does_not_touch_the_random_numbers_of_others():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    capability_of("vit")
    assert torch.equal(torch.rand(2), expected)
