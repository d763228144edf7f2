"""The modality of video: the grid of patches, and errors if encoder and data do not match."""

import pytest
import torch
from datasets import Dataset
from transformers import CONFIG_MAPPING, AutoModel

from modeling_data2vec_generic.data.arguments import DataArguments
from modeling_data2vec_generic.masking.sampler import MaskSampler
from modeling_data2vec_generic.modalities import modality_class
from modeling_data2vec_generic.training.arguments import ModelArguments

from ...tiny import tiny_encoder

pytestmark = pytest.mark.fast

BLOCKS = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
ENCODERS = {
    "videomae": BLOCKS | {"image_size": 16, "patch_size": 4, "num_frames": 6, "tubelet_size": 2},
    "vivit": BLOCKS | {"image_size": 16, "num_frames": 6, "tubelet_size": [2, 4, 4]},
}
PREFIX = {"videomae": 0, "vivit": 1}
NOTHING = Dataset.from_dict({"sample_index": [0]})


def encoder(model_type="videomae", **changes):
    return AutoModel.from_config(CONFIG_MAPPING[model_type](**ENCODERS[model_type] | changes))


def modality(name="video"):
    return modality_class(name)(ModelArguments(model_type="videomae"), DataArguments(), NOTHING)


def fitted(*args, **changes):
    made = modality()
    made.fit(encoder(*args, **changes))
    return made


@pytest.mark.parametrize("model_type", ENCODERS)
def test_fit__takes_frames_grid_and_prefix_from_the_encoder(model_type):
    made = fitted(model_type)
    assert (made.grid, made.num_frames, made.num_prefix_tokens) == ((3, 4, 4), 6, PREFIX[model_type])
    pixels = torch.zeros(2, 6, 3, 16, 16)
    length = encoder(model_type)(pixels).last_hidden_state.shape[1]
    assert made.content_mask()({"pixel_values": pixels}, length).sum(1).tolist() == [48, 48]


def test_fit__new_processor_resizes_to_the_encoders_frames():
    made = fitted(image_size=(16, 24))
    assert made.grid == (3, 4, 6)
    assert (made.processor.size["height"], made.processor.size["width"]) == (16, 24)


def test_check__is_by_the_patches_of_one_frame():
    fitted().check(MaskSampler("random", 0.5))
    with pytest.raises(ValueError, match="cannot mask 16 positions"):
        fitted().check(MaskSampler("block", 0.05))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_frames": 7}, "Patches of 2 frames and 4 x 4 pixels do not divide num_frames=7"),
        ({"image_size": 18}, "do not divide image_size=18"),
    ],
)
def test_fit__patches_that_leave_a_rest(changes, message):
    with pytest.raises(ValueError, match=message):
        fitted(**changes)


def test_fit__encoder_of_something_else():
    with pytest.raises(ValueError, match="A vit encoder has no num_frames, so which clips it reads is unknown"):
        modality().fit(tiny_encoder("vit"))
    with pytest.raises(ValueError, match="A bert encoder reads input_ids, and these data give pixel_values.*videomae"):
        modality().fit(tiny_encoder("bert"))


def test_fit__images_for_an_encoder_of_clips():
    with pytest.raises(ValueError, match="A videomae encoder reads clips of 6 frames, and these data are images"):
        modality("vision").fit(encoder())
