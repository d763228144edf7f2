"""The modalities: how they fit processors and masks to encoders, and errors if encoder and data do not match."""

import numpy as np
import pytest
import torch
from datasets import Dataset
from PIL import Image
from transformers import (
    CONFIG_MAPPING,
    AutoModel,
    CanineConfig,
    CanineModel,
    ResNetConfig,
    ResNetModel,
    ViTImageProcessorPil,
)

from modeling_data2vec_generic.capabilities import small_encoder
from modeling_data2vec_generic.data.arguments import DataArguments
from modeling_data2vec_generic.masking.sampler import MaskSampler
from modeling_data2vec_generic.modalities import modality_class
from modeling_data2vec_generic.modalities.text.modality import position_limit
from modeling_data2vec_generic.modalities.vision.pixels import PixelPipeline
from modeling_data2vec_generic.training.arguments import ModelArguments

from ..tiny import BACKBONES, sentences, tiny_encoder

TEXTS = Dataset.from_dict({"text": sentences(20), "sample_index": range(20)})
NOTHING = Dataset.from_dict({"sample_index": [0]})
PREFIX = {"vit": 1, "beit": 1, "data2vec-vision": 1}


def vision(model_type: str = "vit", **changes: object):
    made = modality_class("vision")(ModelArguments(model_type=model_type), DataArguments(), NOTHING)
    made.fit(tiny_encoder(model_type, **changes))
    return made


def speech(model_type: str = "wav2vec2", **settings: object):
    made = modality_class("speech")(ModelArguments(model_type=model_type), DataArguments(**settings), NOTHING)
    made.fit(tiny_encoder(model_type))
    return made


def text(**settings: object):
    arguments = DataArguments(
        **{"train_tokenizer": True, "tokenizer_vocab_size": 300, "max_seq_length": 16} | settings
    )
    return modality_class("text")(ModelArguments(model_type="bert"), arguments, TEXTS)


@pytest.mark.parametrize("model_type", PREFIX)
def test_vision__takes_grid_and_prefix_from_the_encoder(model_type):
    made = vision(model_type)
    assert made.grid == (4, 4)
    assert made.num_prefix_tokens == PREFIX[model_type]
    content = made.content_mask()({"pixel_values": torch.zeros(2, 3, 16, 16)}, 17)
    assert content.tolist() == [[False] + [True] * 16] * 2


def test_vision__new_processor_resizes_to_the_encoders_image():
    made = vision(image_size=(16, 24))
    assert made.grid == (4, 6)
    assert (made.processor.size["height"], made.processor.size["width"]) == (16, 24)


def test_vision__new_processor_is_bicubic_for_crops_and_whole_images():
    pipeline = PixelPipeline(vision(image_size=(16, 24)).processor)
    noise = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    expected = np.asarray(image.resize((24, 16), Image.Resampling.BICUBIC)).transpose(2, 0, 1) / 127.5 - 1
    whole = np.array([[0, 0, *image.size]])
    for pixels in (pipeline.cut([image], whole, np.array([False])), pipeline.plain([image])):
        assert np.abs(pixels[0].numpy() - expected).max() < 1e-5


def test_vision__patches_need_not_be_square():
    assert vision(patch_size=(4, 8)).grid == (4, 2)


def test_vision__an_encoder_without_a_size_reads_what_its_processor_gives(tmp_path):
    encoder = ResNetModel(ResNetConfig(embedding_size=4, hidden_sizes=[4], depths=[1]))
    assert not hasattr(encoder.config, "image_size")
    encoder.save_pretrained(tmp_path)
    made = modality_class("vision")(ModelArguments(model_name_or_path=str(tmp_path)), DataArguments(), NOTHING)
    with pytest.raises(
        ValueError, match=r"resnet encoder has no image_size, and no image processor.*--processor_name"
    ):
        made.fit_processor(encoder)
    ViTImageProcessorPil(size={"height": 32, "width": 64}).save_pretrained(tmp_path)
    made.fit_processor(encoder)
    assert made.size == (32, 64)


def test_vision__mask_is_checked_on_the_grid():
    made = vision()
    made.check(MaskSampler("random", 0.5))
    with pytest.raises(ValueError, match="16 positions"):
        made.check(MaskSampler("block", 0.05))


@pytest.mark.parametrize("model_type", [name for name, (modality, _) in BACKBONES.items() if modality == "speech"])
def test_speech__counts_frames_as_the_encoder_does(model_type):
    made = speech(model_type)
    frames = tiny_encoder(model_type)(torch.zeros(1, 4000)).last_hidden_state.shape[1]
    assert made.num_frames(4000) == frames
    assert made.processor.sampling_rate == 16000
    assert made.processor.return_attention_mask


def test_speech__mask_is_checked_on_the_longest_clip():
    made = speech(max_duration_in_seconds=0.25)  # 4000 samples
    longest = made.num_frames(4000)
    made.check(MaskSampler("span", 0.5, length=longest - 1))
    with pytest.raises(ValueError, match=f"a span of {longest} leaves nothing visible"):
        made.check(MaskSampler("span", 0.5, length=longest))


def test_text__trains_a_tokenizer_that_the_encoder_is_made_for():
    made = text()
    defaults = made.encoder_defaults()
    ids = {f"{kind}_token_id": getattr(made.processor, f"{kind}_token_id") for kind in ("pad", "mask")}
    assert defaults == {"vocab_size": len(made.processor), **ids}
    assert made.processor.model_max_length == 16
    made.fit(tiny_encoder("bert", **defaults))
    made.check(MaskSampler("random", 0.15))


def test_text__mask_is_checked_without_special_tokens():
    made = text()
    made.fit(tiny_encoder("bert", **made.encoder_defaults()))
    made.check(MaskSampler("span", 0.5, length=13))
    with pytest.raises(ValueError, match="14 positions"):
        made.check(MaskSampler("span", 0.5, length=14))


def test_text__of_an_encoder_without_a_vocabulary():
    """CANINE hashes characters."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    made = text()
    made.fit(CanineModel(CanineConfig(**sizes, num_hash_functions=2, num_hash_buckets=64, max_position_embeddings=64)))
    assert made.length == 16


# the padding index of RoBERTa is 1, so its first position is 2
@pytest.mark.parametrize(("model_type", "limit"), [("bert", 32), ("roberta", 30), ("bart", 32), ("roformer", 32)])
def test_position_limit__is_what_the_encoder_can_read(model_type, limit):
    encoder = small_encoder(model_type, max_position_embeddings=32)
    assert position_limit(encoder) == limit
    encoder(torch.full((1, limit), 7))
    with pytest.raises((IndexError, RuntimeError)):
        encoder(torch.full((1, limit + 1), 7))


def test_position_limit__of_an_encoder_without_learned_positions():
    assert position_limit(tiny_encoder("wav2vec2")) is None


@pytest.mark.parametrize(
    ("model_type", "settings", "grid"),
    [
        ("hiera", {"image_size": (64, 64), "embed_dim": 8, "depths": [1, 1, 1, 2], "num_heads": [1, 1, 2, 2]}, (2, 2)),
        ("swin", {"image_size": (32, 64), "depths": [1, 1, 2], "num_heads": [1, 2, 4], "window_size": 2}, (2, 4)),
        ("convnextv2", {"image_size": 64, "depths": [1, 1, 1, 1], "hidden_sizes": [8, 8, 16, 16]}, (2, 2)),
    ],
)
def test_vision__of_an_encoder_in_stages_masks_at_the_grid_of_the_last_one(model_type, settings, grid):
    encoder = AutoModel.from_config(CONFIG_MAPPING[model_type](**settings))
    vision = modality_class("vision")(ModelArguments(model_type=model_type), DataArguments(), NOTHING)
    vision.fit(encoder)
    assert vision.grid == grid
    assert vision.num_prefix_tokens == 0
