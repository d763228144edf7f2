"""Neighbours, maps, and what all pictures share."""

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import imread

from modeling_data2vec_generic.figures import features
from modeling_data2vec_generic.figures.drawing import LARGEST, save, styled
from modeling_data2vec_generic.figures.features import Shown, plot_map, plot_neighbours
from modeling_data2vec_generic.figures.samples import flowed, spectrogram

pytestmark = pytest.mark.fast

RNG = np.random.default_rng(0)
SAMPLES = {
    "images": RNG.random((8, 8, 3)),
    "clips": RNG.random((8, 26, 3)),
    "sound": RNG.normal(size=4000),
    "series": RNG.normal(size=(30, 2)),
    "text": "A $dollar$ sign,\nand words " * 30,
}


@pytest.fixture
def drawn(monkeypatch):
    """The figures that would have been saved."""
    figures = []
    monkeypatch.setattr(features, "save", lambda figure, path: figures.append(figure))
    return figures


@pytest.mark.parametrize("kind", SAMPLES)
@pytest.mark.parametrize("labelled", [True, False])
def test_plot_neighbours__draws_every_kind_of_data(kind, labelled, drawn, tmp_path):
    label = 1 if labelled else None
    shown = Shown(SAMPLES[kind], label)
    found = {"before": [[shown] * 4] * 2, "after": [[shown] * 4] * 2}
    plot_neighbours([shown, shown], found, ["one", "$two$"] if labelled else [], tmp_path / "neighbours.png")
    [axes] = drawn[0].axes
    columns = {"images": 9, "text": 3}.get(kind, 5)
    samples = {"series": len(axes.lines) // 2, "text": sum("words" in text.get_text() for text in axes.texts)}
    assert samples.get(kind, len(axes.images)) == 2 * columns
    assert len(axes.patches) == (2 * (columns - 1) if labelled else 0)
    drawn[0].savefig(tmp_path / "neighbours.png")  # dollar signs begin no formula
    assert imread(tmp_path / "neighbours.png")[..., :3].std() > 0


def test_plot_neighbours__frames_say_whether_classes_are_the_same(drawn, tmp_path):
    query = Shown(SAMPLES["images"], 0)
    nearest = [Shown(SAMPLES["images"], 0), Shown(SAMPLES["images"], 1)]
    plot_neighbours([query], {"after": [nearest]}, ["zero", "one"], tmp_path / "neighbours.png")
    frames = [frame.get_edgecolor()[:3] for frame in drawn[0].axes[0].patches]
    assert frames == [to_rgb(features._SAME), to_rgb(features._OTHER)]


@pytest.mark.parametrize(("classes", "groups"), [(0, 1), (3, 3), (16, 16), (40, 16)])
def test_plot_map__colours_classes(classes, groups, drawn, tmp_path):
    points = RNG.normal(size=(120, 2))
    labels = np.arange(120) % classes if classes else None
    names = [f"class {number}" for number in range(classes)]
    plot_map({"before": points, "after": points}, labels, names, tmp_path / "map.png")
    for axes in drawn[0].axes:
        assert len(axes.collections) == groups
        assert sum(len(group.get_offsets()) for group in axes.collections) == 120
    looks = {(tuple(group.get_facecolor()[0]), group.get_paths()[0].vertices.size) for group in axes.collections}
    assert len(looks) == groups
    if classes == 40:
        assert axes.collections[-1].get_label() == "25 others"


def test_save__pictures_of_many_colours_are_light(tmp_path):
    figure = Figure(figsize=(4, 4))
    figure.add_axes((0, 0, 1, 1)).imshow(RNG.random((300, 300, 3)))
    save(figure, tmp_path / "photo.png")
    figure.savefig(tmp_path / "whole.png", dpi=120)
    assert (tmp_path / "whole.png").stat().st_size > LARGEST
    assert (tmp_path / "photo.png").stat().st_size < 0.6 * (tmp_path / "whole.png").stat().st_size
    differences = np.abs(imread(tmp_path / "photo.png")[..., :3] - imread(tmp_path / "whole.png")[..., :3])
    assert differences.mean() < 0.1


def test_styled__leaves_the_callers_settings_as_they_are():
    before = dict(matplotlib.rcParams)
    inside = styled(lambda: matplotlib.rcParams["axes.spines.top"])
    assert inside() is False
    assert dict(matplotlib.rcParams) == before


def test_spectrogram__has_its_peak_at_the_frequency_of_a_tone():
    tone = np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000)
    loudness = spectrogram(tone)
    assert loudness.argmax(axis=0) == pytest.approx(1000 / (16_000 / 512), abs=0.5)
    assert loudness.max() == 1
    assert spectrogram(np.zeros(10)).shape == (257, 1)


def test_flowed__fills_lines_and_stops_at_the_last():
    places, lines = flowed(["one", " two", " three", "abcdefghijklm"], characters=9, lines=2)
    assert places == [("one", 0, 0), (" two", 0, 3), ("three", 1, 0)]
    assert lines == 2
    assert flowed(["one"], characters=9, lines=2) == ([("one", 0, 0)], 1)
