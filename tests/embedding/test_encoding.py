"""Vectors are those that transformers alone gives for each row by itself."""

import numpy as np
import pytest
import torch
from transformers import AutoModel

from modeling_data2vec_generic import Data2VecGenericConfig, Data2VecGenericForPreTraining
from modeling_data2vec_generic.runs.embedding import embed

from .conftest import image_inputs, outputs_of, series_inputs, sound_inputs, text_inputs


def close(found, expected):
    np.testing.assert_allclose(found, torch.cat([row.reshape(1, -1) for row in expected]).numpy(), atol=1e-5)


@pytest.mark.fast
@pytest.mark.parametrize("normalize", [None, "l2"])
def test_mean__of_images_is_over_patches(vit, images, normalize):
    _, vectors, _ = embed(vit, images, normalize=normalize, batch_size=5)
    means = [row.last_hidden_state[:, 1:].mean(1) for row in outputs_of(vit, image_inputs(images))]
    close(vectors, [mean / mean.norm() for mean in means] if normalize else means)
    assert vectors.dtype == np.float32


def test_cls__of_images_is_the_first_token(vit, images):
    close(
        embed(vit, images, pooling="cls")[1],
        [o.last_hidden_state[:, 0] for o in outputs_of(vit, image_inputs(images))],
    )


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"layer": 1}, lambda states: states[1]),
        ({"layer": -2}, lambda states: states[-2]),
        ({"top_k_layers": 2}, lambda states: (states[-1] + states[-2]) / 2),
    ],
)
def test_layers__are_the_outputs_of_blocks(bert, texts, settings, expected):
    """BERT has no norm behind its blocks, so that hidden states of transformers are the outputs of blocks."""
    _, vectors, _ = embed(bert, texts, **settings)
    close(vectors, [expected(row.hidden_states).mean(1) for row in outputs_of(bert, text_inputs(bert, texts))])


@pytest.mark.fast
@pytest.mark.parametrize("batch_size", [1, 7])
def test_mean__of_text_does_not_depend_on_padding(bert, texts, batch_size):
    ids, vectors, labels = embed(bert, texts, batch_size=batch_size)
    close(vectors, [row.last_hidden_state.mean(1) for row in outputs_of(bert, text_inputs(bert, texts))])
    assert ids["row"].tolist() == list(range(40))
    assert labels.tolist() == [("one", "two", "three")[row % 3] for row in range(40)]


@pytest.mark.fast
def test_tokens__are_those_that_are_no_padding(bert, texts):
    _, vectors, _ = embed(bert, texts, pooling="tokens", rows_per_piece=16)
    expected = [row.last_hidden_state[0] for row in outputs_of(bert, text_inputs(bert, texts))]
    assert [len(row) for row in vectors] == [len(row) for row in expected]
    close(np.concatenate(vectors), torch.cat(expected))


@pytest.mark.parametrize(
    ("model_type", "changes", "apart"),
    [
        ("wav2vec2", {"feat_extract_norm": "layer"}, False),
        ("wav2vec2", {"feat_extract_norm": "group"}, True),  # a norm over all frames, padding too
        ("data2vec-audio", {}, True),  # several convolutions reach from frame to frame
    ],
)
def test_mean__of_sound_is_that_of_each_clip_alone(speech_encoder, sounds, caplog, model_type, changes, apart):
    model = speech_encoder(model_type, **changes)
    with caplog.at_level("INFO", logger="modeling_data2vec_generic"):
        ids, vectors, _ = embed(model, sounds, batch_size=6)
    close(vectors, [row.last_hidden_state.mean(1) for row in outputs_of(model, sound_inputs(sounds))])
    assert ("depends on the padding" in caplog.text) == apart
    assert ids["path"].tolist() == [str(path) for path in sorted(sounds.rglob("*.*"))]


def test_mean__of_series_has_the_channels_side_by_side(patchtst, series):
    ids, vectors, _ = embed(patchtst, series)
    outputs = outputs_of(patchtst, series_inputs(series))
    close(vectors, [row.last_hidden_state.mean(2).flatten() for row in outputs])
    assert ids["row"].tolist() == [row for row in range(18) for _ in range(2)]
    assert ids["part"].tolist() == [0, 1] * 18


def test_layers__of_encoders_that_keep_channels_apart(patchtst, series):
    _, vectors, _ = embed(patchtst, series, layer=1, pooling="tokens")
    outputs = outputs_of(patchtst, series_inputs(series))
    close(np.stack(vectors).reshape(36, -1), [row.hidden_states[1].transpose(1, 2) for row in outputs])


def test_video__has_a_vector_for_each_piece_of_a_clip(videomae, clips):
    ids, vectors, labels = embed(videomae, clips, modality="video")
    assert ids["part"].tolist() == [0, 1] * 9
    assert vectors.shape == (18, 16)
    assert len(labels) == 18


def test_half_precision__gives_nearly_the_same(vit, images):
    full, half = embed(vit, images)[1], embed(vit, images, dtype="bfloat16", output_dtype="float16")[1]
    assert half.dtype == np.float16
    assert (half != full).any()
    np.testing.assert_allclose(half, full, atol=0.05)


def test_model__of_pre_training_gives_the_vectors_of_its_student(vit, images, tmp_path):
    student = AutoModel.from_pretrained(vit)
    Data2VecGenericForPreTraining(Data2VecGenericConfig(), student).save_pretrained(tmp_path)
    np.testing.assert_array_equal(embed(tmp_path, images, processor_name=str(vit))[1], embed(vit, images)[1])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layer": 3}, "layer=3 is beyond the 2 blocks"),
        ({"top_k_layers": 3}, "top_k_layers=3 is beyond the 2 blocks"),
        ({"layer": 0}, "counted from 1"),
        ({"layer": 1, "top_k_layers": 2}, "give one of them"),
        ({"pooling": "max"}, "pooling"),
        ({"poolin": "cls"}, "pooling"),
        ({"device": "cuda:x"}, "is no device of torch"),
        ({"split": "validation"}, "no validation rows"),
        ({"neighbours": 3, "pooling": "tokens"}, "one vector per row"),
    ],
)
def test_settings__that_cannot_be_used_are_named(vit, images, settings, message):
    with pytest.raises(ValueError, match=message):
        embed(vit, images, **settings)


def test_cls__of_sound_does_not_exist(speech_encoder, sounds):
    with pytest.raises(ValueError, match="has none in front of the content"):
        embed(speech_encoder("data2vec-audio"), sounds, pooling="cls")
