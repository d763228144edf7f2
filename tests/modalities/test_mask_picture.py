"""Pictures of masks for all kinds of data."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from modeling_data2vec_generic.figures.drawing import MASKED
from modeling_data2vec_generic.modalities.series.mask_picture import plot_series_mask
from modeling_data2vec_generic.modalities.speech.mask_picture import plot_speech_mask
from modeling_data2vec_generic.modalities.text.mask_picture import plot_text_mask
from modeling_data2vec_generic.modalities.video.mask_picture import plot_video_mask
from modeling_data2vec_generic.modalities.vision.mask_picture import plot_image_mask

pytestmark = pytest.mark.fast


def painted_share(path):
    return float(np.all(np.abs(imread(path)[..., :3] - to_rgb(MASKED)) < 0.01, axis=-1).mean())


@pytest.mark.parametrize("channels", [1, 3])
def test_plot_image_mask__masked_patches_are_painted_over(channels, tmp_path):
    pixels = np.random.default_rng(0).choice([-1.0, 2.0], size=(channels, 12, 8)).astype(np.float32)
    plot_image_mask(pixels, np.zeros(6, dtype=bool), (3, 2), tmp_path / "none.png")
    plot_image_mask(pixels, np.array([True] * 3 + [False] * 3), (3, 2), tmp_path / "half.png")
    plot_image_mask(pixels, np.ones(6, dtype=bool), (3, 2), tmp_path / "all.png")
    none, half, everything = (painted_share(tmp_path / f"{name}.png") for name in ("none", "half", "all"))
    assert none == 0
    assert half == pytest.approx(everything / 2, rel=0.05)
    assert everything > 0.2


def shaded_share(path):
    red, _, blue = np.moveaxis(imread(path)[..., :3], -1, 0)
    return float((red - blue > 0.15).mean())


def test_plot_speech_mask__shades_the_share_that_is_masked(tmp_path):
    waveform = np.zeros(1600, dtype=np.float32)
    for count in (0, 10, 20):
        plot_speech_mask(waveform, np.arange(20) < count, 16_000, tmp_path / f"{count}.png")
    none, half, everything = (shaded_share(tmp_path / f"{count}.png") for count in (0, 10, 20))
    assert none == 0
    assert half == pytest.approx(everything / 2, rel=0.05)


def test_plot_text_mask__marks_masked_tokens_and_takes_any_token(tmp_path):
    tokens = ["[CLS]", "$x$", "a\nb", "Ġword", "x" * 150, "[SEP]"] * 20
    plot_text_mask(tokens, np.zeros(len(tokens), dtype=bool), tmp_path / "none.png")
    plot_text_mask(tokens, np.array([False, True, True, False, True, False] * 20), tmp_path / "some.png")
    assert shaded_share(tmp_path / "none.png") == 0
    assert shaded_share(tmp_path / "some.png") > 0.05


def test_plot_series_mask__shades_each_channels_own_mask(tmp_path):
    values = np.zeros((30, 3), dtype=np.float32)
    masks = {0: np.zeros((3, 6)), 9: np.repeat([[1, 1, 1, 0, 0, 0]], 3, axis=0), 18: np.ones((3, 6))}
    for count, mask in masks.items():
        plot_series_mask(values, mask.astype(bool), tmp_path / f"{count}.png")
    none, half, everything = (shaded_share(tmp_path / f"{count}.png") for count in masks)
    assert none == 0
    assert half == pytest.approx(everything / 2, rel=0.05)
    assert everything > 0.3
    plot_series_mask(values, np.ones((1, 6), dtype=bool), tmp_path / "shared.png")
    assert shaded_share(tmp_path / "shared.png") == pytest.approx(everything, rel=0.05)


def test_plot_video_mask__paints_the_masked_patches_of_every_frame(tmp_path):
    pixels = np.random.default_rng(0).choice([-1.0, 2.0], size=(4, 3, 12, 12)).astype(np.float32)
    mask = np.zeros((2, 3, 3), dtype=bool)
    plot_video_mask(pixels, mask, tmp_path / "none.png")
    mask[0] = True
    plot_video_mask(pixels, mask, tmp_path / "half.png")
    plot_video_mask(pixels, np.ones_like(mask), tmp_path / "all.png")
    none, half, everything = (painted_share(tmp_path / f"{name}.png") for name in ("none", "half", "all"))
    assert none == 0
    assert half == pytest.approx(everything / 2, rel=0.05)
    assert everything > 0.2
