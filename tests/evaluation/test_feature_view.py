"""What pictures show of features."""

import numpy as np
import pytest
import torch
from transformers import PatchTSTConfig, PatchTSTModel

from modeling_data2vec_generic.evaluation.feature_view import (
    FeatureView,
    colours_of,
    content_features,
    nearest,
    places_of,
    view_of,
)
from modeling_data2vec_generic.evaluation.probe import after_prefix, real_tokens

from ..tiny import tiny_encoder

pytestmark = pytest.mark.fast

RNG = np.random.default_rng(0)


def test_colours_of__are_principal_components_of_all_samples():
    contents = [RNG.normal(size=(n, 5)) * (5, 3, 2, 1, 1) for n in (60, 40)]
    colours = np.concatenate(colours_of(contents))
    flat = np.concatenate(contents)
    _, _, directions = np.linalg.svd(flat - flat.mean(0), full_matrices=False)
    for colour, component in zip(colours.T, ((flat - flat.mean(0)) @ directions[:3].T).T, strict=True):
        low, high = np.percentile(component, (2, 98))
        scaled = np.clip((component - low) / (high - low), 0, 1)
        flipped = 1 - scaled  # the sign of a component is arbitrary
        assert min(abs(colour - scaled).max(), abs(colour - flipped).max()) < 1e-5


@pytest.mark.parametrize("shapes", [[(7, 4), (3, 4)], [(2, 5, 4), (2, 6, 4)], [(1, 4)], [(9, 2)]])
def test_colours_of__have_the_shape_of_the_content(shapes):
    colours = colours_of([RNG.normal(size=shape) for shape in shapes])
    assert [colour.shape for colour in colours] == [(*shape[:-1], 3) for shape in shapes]
    assert all(((colour >= 0) & (colour <= 1)).all() for colour in colours)


def test_colours_of__equal_features_are_grey():
    assert (colours_of([np.ones((4, 8))])[0] == 0.5).all()


def test_nearest__by_cosine_similarity_without_the_sample_itself():
    features = RNG.normal(size=(30, 6))
    features[7] = features[2]  # the very same features
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    similarities = unit @ unit.T
    np.fill_diagonal(similarities, -np.inf)
    expected = np.argsort(-similarities, axis=1)[:8, :4]
    assert (nearest(features, 8) == expected).all()
    assert nearest(features[:3], 3).shape == (3, 2)
    assert nearest(features[:1], 1).shape == (1, 0)


def test_places_of__keeps_groups_together():
    labels = np.arange(60) % 3
    features = RNG.normal(size=(3, 20))[labels] + 0.05 * RNG.normal(size=(60, 20))
    places = places_of(features, seed=0)
    distances = np.linalg.norm(places[:, None] - places, axis=-1)
    np.fill_diagonal(distances, np.inf)
    assert (labels[distances.argmin(1)] == labels).all()
    assert (places_of(features, seed=0) == places).all()


def test_places_of__few_or_equal_samples():
    assert places_of(RNG.normal(size=(9, 20)), seed=0) is None
    assert (places_of(np.ones((12, 20)), seed=0) == 0).all()
    nearly = np.ones((12, 20), dtype=np.float32) + 1e-6 * RNG.normal(size=(12, 20)).astype(np.float32)
    assert np.isfinite(places_of(nearly, seed=0)).all()


def test_view__is_read_as_it_was_saved(tmp_path):
    for samples in (4, 12):
        view = view_of(RNG.normal(size=(samples, 6)), [RNG.normal(size=(n, 6)) for n in (3, 5)], seed=0)
        view.save(tmp_path / "view.safetensors")
        loaded = FeatureView.load(tmp_path / "view.safetensors")
        assert [(one == other).all() for one, other in zip(view.colours, loaded.colours, strict=True)] == [True] * 2
        assert (view.neighbours == loaded.neighbours).all()
        assert (view.places is None) == (loaded.places is None) == (samples == 4)


def test_content_features__are_of_real_tokens_only():
    encoder = tiny_encoder("bert").eval()
    ids = torch.randint(5, 90, (2, 6))
    attention_mask = torch.tensor([[1] * 6, [1] * 4 + [0] * 2])
    found = content_features(encoder, {"input_ids": ids, "attention_mask": attention_mask}, real_tokens)
    with torch.no_grad():
        expected = encoder(input_ids=ids, attention_mask=attention_mask).last_hidden_state.numpy()
    assert np.allclose(found[0], expected[0], atol=1e-6)
    assert np.allclose(found[1], expected[1, :4], atol=1e-6)


def test_content_features__of_series_keep_channels_apart():
    sizes = {"d_model": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "ffn_dim": 32}
    config = PatchTSTConfig(context_length=30, num_input_channels=3, patch_length=5, patch_stride=5, **sizes)
    inputs = {"past_values": torch.randn(2, 30, 3)}
    found = content_features(PatchTSTModel(config), inputs, after_prefix(0))
    assert [features.shape for features in found] == [(3, 6, 16)] * 2
