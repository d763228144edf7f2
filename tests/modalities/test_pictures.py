"""Pictures of masks and of features for all kinds of data."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from modeling_data2vec_generic.figures.drawing import MASKED
from modeling_data2vec_generic.modalities.series.pictures import plot_series_features, plot_series_masks
from modeling_data2vec_generic.modalities.speech.pictures import plot_speech_features, plot_speech_masks
from modeling_data2vec_generic.modalities.text.pictures import plot_text_features, plot_text_masks
from modeling_data2vec_generic.modalities.video.pictures import plot_video_features, plot_video_masks
from modeling_data2vec_generic.modalities.vision.pictures import plot_image_features, plot_image_masks

pytestmark = pytest.mark.fast

RED = np.array([1.0, 0.0, 0.0])


def share_of(colour, path):
    return float(np.all(np.abs(imread(path)[..., :3] - to_rgb(colour)) < 0.01, axis=-1).mean())


def shaded_share(path):
    red, _, blue = np.moveaxis(imread(path)[..., :3], -1, 0)
    return float((red - blue > 0.15).mean())


def shares(path, of=shaded_share):
    """Of the pictures without, with half and with all masks."""
    return [of(path / f"{name}.png") for name in ("none", "half", "all")]


def assert_half_is_half(none, half, everything, least):
    assert none == 0
    assert half == pytest.approx(everything / 2, rel=0.05)
    assert everything > least


def test_plot_image_masks__masked_patches_are_painted_over(tmp_path):
    images = np.random.default_rng(0).choice([0.0, 1.0], size=(8, 12, 8, 3))
    masks = np.zeros((8, 3, 2), dtype=bool)
    plot_image_masks(images, masks, tmp_path / "none.png")
    masks[:, :, 0] = True
    plot_image_masks(images, masks, tmp_path / "half.png")
    plot_image_masks(images, np.ones_like(masks), tmp_path / "all.png")
    assert_half_is_half(*shares(tmp_path, lambda path: share_of(MASKED, path)), least=0.3)


def test_plot_speech_masks__shades_the_share_that_is_masked(tmp_path):
    waveforms = [np.zeros(1600, dtype=np.float32), np.zeros(3200, dtype=np.float32)]
    for name, count in (("none", 0), ("half", 10), ("all", 20)):
        plot_speech_masks(waveforms, [np.arange(20) < count] * 2, 16_000, tmp_path / f"{name}.png")
    assert_half_is_half(*shares(tmp_path), least=0.5)


def test_plot_text_masks__marks_masked_tokens_and_takes_any_token(tmp_path):
    texts = [["[CLS]", " $x$", " a\nb", " word", "x" * 150, "[SEP]"] * 20, ["[CLS]", " one", "[SEP]"]]
    masks = [np.array([False, True, True, False, True, False] * 20), np.array([False, True, False])]
    plot_text_masks(texts, [np.zeros_like(mask) for mask in masks], tmp_path / "none.png")
    plot_text_masks(texts, masks, tmp_path / "some.png")
    assert shaded_share(tmp_path / "none.png") == 0
    assert shaded_share(tmp_path / "some.png") > 0.05


def test_plot_series_masks__shades_each_channels_own_mask(tmp_path):
    series = np.zeros((8, 30, 3), dtype=np.float32)
    masks = np.zeros((8, 3, 6), dtype=bool)
    plot_series_masks(series, masks, tmp_path / "none.png")
    masks[:, :, :3] = True
    plot_series_masks(series, masks, tmp_path / "half.png")
    plot_series_masks(series, np.ones_like(masks), tmp_path / "all.png")
    none, half, everything = shares(tmp_path)
    assert_half_is_half(none, half, everything, least=0.5)
    plot_series_masks(series, np.ones((8, 1, 6), dtype=bool), tmp_path / "shared.png")
    assert shaded_share(tmp_path / "shared.png") == pytest.approx(everything, rel=0.05)


def test_plot_video_masks__paints_the_masked_patches_of_every_frame(tmp_path):
    clips = np.random.default_rng(0).choice([0.0, 1.0], size=(3, 4, 12, 12, 3))
    masks = np.zeros((3, 2, 3, 3), dtype=bool)
    plot_video_masks(clips, masks, tmp_path / "none.png")
    masks[:, 0] = True
    plot_video_masks(clips, masks, tmp_path / "half.png")
    plot_video_masks(clips, np.ones_like(masks), tmp_path / "all.png")
    assert_half_is_half(*shares(tmp_path, lambda path: share_of(MASKED, path)), least=0.2)


def features_of(name, colours, path):
    """A picture of two samples and the colours of their parts, drawn by the function of a kind of data."""
    samples = {
        "vision": (plot_image_features, np.zeros((2, 8, 8, 3)), (4, 2, 3)),
        "video": (plot_video_features, np.zeros((2, 4, 8, 8, 3)), (2, 4, 2, 3)),
        "speech": (plot_speech_features, np.zeros((2, 900)), (20, 3)),
        "series": (plot_series_features, np.zeros((2, 30, 3)), (3, 6, 3)),
        "joined series": (plot_series_features, np.zeros((2, 30, 3)), (6, 3)),
        "text": (plot_text_features, [["one", " two"] * 40, ["three"]], None),
    }
    draw, drawn, shape = samples[name]
    shapes = [(80, 3), (1, 3)] if shape is None else [shape] * 2
    rows = {title: [np.broadcast_to(colour, shape) for shape in shapes] for title, colour in colours.items()}
    draw(drawn, rows, path)


@pytest.mark.parametrize("name", ["vision", "video", "speech", "series", "joined series", "text"])
def test_plot_features__shows_both_rows_of_colours(name, tmp_path):
    blue = np.array([0.0, 0.0, 1.0])
    features_of(name, {"before": RED, "after 1,000 steps": blue}, tmp_path / "features.png")
    pale = 0.5 if name == "text" else 0.0  # behind words, colours are light
    for colour in (RED, blue):
        assert share_of(pale + (1 - pale) * colour, tmp_path / "features.png") > 0.05
    features_of(name, {"after 1,000 steps": RED}, tmp_path / "one.png")
    assert share_of(pale + (1 - pale) * RED, tmp_path / "one.png") > 0.05
